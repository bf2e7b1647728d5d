"""Where one run of a workflow is: what is done, what was decided, and which steps wait.

A fresh execution goes through the nodes once more, and finds here what they came to. Values in,
values out; what a node does is its own business.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pullcord.native.carrying import ContinuationRefused, of_form
from pullcord.workflow.types import Made, Path

_FORM = "workflow/1"


class Place:
    """The place of one run among its nodes."""

    def __init__(self, planned: Iterable[Path]) -> None:
        self._planned = ["/".join(path) for path in planned]
        self._made: dict[Path, Made] = {}
        self._decided: dict[Path, Any] = {}
        self._begun: set[Path] = set()
        self._waits: dict[Path, tuple[str, int]] = {}
        self._again: dict[Path, tuple[str, int]] = {}
        self.branches = 1
        """How many steps are done at the same time."""

    # --- as it goes

    def begins(self, path: Path) -> bool:
        """A group of steps begins; False: it has begun in an execution that is gone."""
        if path in self._begun:
            return False
        self._begun.add(path)
        return True

    def made(self, path: Path) -> Made | None:
        """What a node came to; None: it is not done."""
        return self._made.get(path)

    def done(self, path: Path, made: Made) -> None:
        """A node is done, and what it is made of does not matter any more."""
        for kept in (self._made, self._decided):
            for below in [one for one in list(kept) if one[: len(path)] == path]:
                del kept[below]
        self._made[path] = made

    def decision(self, path: Path) -> tuple[bool, Any]:
        """Whether something was decided there, and what."""
        return path in self._decided, self._decided.get(path)

    def decided(self, path: Path, decision: Any) -> None:
        """An author's function has decided: JSON."""
        self._decided[path] = decision

    def again(self, path: Path) -> tuple[str, int]:
        """The run of a step that waits since an execution that is gone, and which attempt that is;
        empty and 1: it has none."""
        return self._again.pop(path, ("", 1))

    def waits(self, path: Path, run_id: str, attempt: int) -> None:
        """A step has nothing to do now but to wait for this run."""
        self._waits[path] = (run_id, attempt)

    def works(self, path: Path) -> None:
        """It waits no longer."""
        self._waits.pop(path, None)

    # --- from one execution to the next

    @property
    def children(self) -> tuple[str, ...]:
        """The runs that are waited for."""
        return tuple(run_id for run_id, _ in self._waits.values())

    @property
    def only_waits(self) -> bool:
        """Whether nothing is at work but what is waited for."""
        return 0 < len(self._waits) == self.branches

    def dumped(self, more: Mapping[str, Any]) -> bytes | None:
        """All of it as bytes, with more of the run's; None: it holds what only its process can."""
        state = {
            "form": _FORM,
            "planned": self._planned,
            "made": [
                [path, made.content, _plain(made.data), made.is_own_input]
                for path, made in self._made.items()
            ],
            "decided": [[path, decision] for path, decision in self._decided.items()],
            "begun": [list(path) for path in self._begun],
            "waits": [[path, *waits] for path, waits in self._waits.items()],
            "more": more,
        }
        try:
            return json.dumps(state).encode()
        except (TypeError, ValueError):
            return None

    def load(self, data: bytes) -> Mapping[str, Any]:
        """Goes on from there; returns the more of the run's.

        Raises:
            ContinuationRefused: it is none of ours, or the workflow's steps have changed since.
        """
        state = of_form(data, _FORM)
        if state["planned"] != self._planned:
            raise ContinuationRefused(
                "the steps of the workflow have changed since the run paused; start the run again"
            )
        for path, content, made, is_own in state["made"]:
            self._made[tuple(path)] = Made(content, made, is_own)
        self._decided = {tuple(path): decision for path, decision in state["decided"]}
        self._begun = {tuple(path) for path in state["begun"]}
        self._again = {tuple(path): (id, attempt) for path, id, attempt in state["waits"]}
        more: Mapping[str, Any] = state["more"]
        return more


def _plain(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if data is None else dict(data)
