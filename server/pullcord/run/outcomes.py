"""The results of a team's or workflow's children, as data for its own result.

A bounded list: each entry has a state and an output, in the order in which they were first named.
What the entries are called, and when they change, is for those to say who keep them.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import Any

from pullcord.run.events import RunError
from pullcord.run.record import Run, size
from pullcord.run.state import RunState

MAX_BYTES = 192 * 1024
"""Of the whole list in a message, which leaves room below the engine's own bound on data. What does
not fit is cut, and its entry says `truncated`; the run of its `run_id` has all of it. Where even
that does not fit the oldest entries are dropped, and `dropped` says how many."""

_NOT_STARTED = "not_started"
_ABOUT = frozenset({"path", "member"})
"""What an entry is about: a step, by its path, or a member, by its id."""


class Outcomes:
    """Entries by key; an entry is what it is about, its state, and what was made."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries: dict[Hashable, dict[str, Any]] = {}
        self._sizes: dict[Hashable, int] = {}
        self._dropped = 0

    @classmethod
    def of(
        cls, name: str, data: Mapping[str, Any], key: Callable[[Mapping[str, Any]], Hashable]
    ) -> "Outcomes":
        """Those that `data` returned; `key` is given an entry, and returns its key."""
        made = cls(name)
        for entry in data[name]:
            made._put(key(entry), dict(entry))
        made._dropped = data.get("dropped", 0)
        return made

    def expect(self, key: Hashable, about: Mapping[str, Any]) -> None:
        """Something will come, unless the run is stopped before."""
        self._put(key, {**about, "state": _NOT_STARTED, "output": ""})

    def begin(self, key: Hashable, about: Mapping[str, Any], run_id: str) -> None:
        """A run has begun."""
        state = RunState.RUNNING.value
        self._put(key, {**about, "run_id": run_id, "state": state, "output": ""})

    def keep(self, key: Hashable, about: Mapping[str, Any], run: Run) -> None:
        """A run has ended; whatever it made, in whatever state, is kept."""
        entry = {**about, "run_id": run.run_id, "state": run.state.value, "output": run.output}
        if run.output_data is not None:
            entry["output_data"] = run.output_data
        if run.error is not None:
            entry["error"] = _told(run.error)
        room = MAX_BYTES - sum(self._sizes.values()) + self._sizes.get(key, 0)
        if _measure(entry) > room and "output_data" in entry:
            del entry["output_data"]
            entry["truncated"] = True
        if (excess := _measure(entry) - room) > 0:
            entry["truncated"] = True
            kept = max(0, size(run.output) - excess - _measure("truncated"))
            entry["output"] = run.output.encode()[:kept].decode("utf-8", "ignore")
        self._put(key, entry)

    def refuse(self, key: Hashable, about: Mapping[str, Any], error: RunError) -> None:
        """A run never was, because it was refused."""
        state = RunState.FAILED.value
        self._put(key, {**about, "state": state, "output": "", "error": _told(error)})

    def data(self) -> dict[str, Any]:
        """All of it as it is now, to be the run's output data."""
        data: dict[str, Any] = {self._name: list(self._entries.values())}
        return data | {"dropped": self._dropped} if self._dropped else data

    def _put(self, key: Hashable, entry: dict[str, Any]) -> None:
        self._entries[key] = entry
        self._sizes[key] = _measure(entry)
        while sum(self._sizes.values()) > MAX_BYTES and len(self._entries) > 1:
            oldest = next(other for other in self._entries if other != key)
            del self._entries[oldest], self._sizes[oldest]
            self._dropped += 1


def with_pauses(data: Mapping[str, Any], paused: Collection[str]) -> Mapping[str, Any]:
    """The data of a run while these children of it wait for a decision."""
    state = RunState.PAUSED.value
    for name, entries in _lists(data):
        shown = [
            {**entry, "state": state} if entry.get("run_id") in paused else entry
            for entry in entries
        ]
        data = {**data, name: shown}
    return data


def with_ends(data: Mapping[str, Any], ended: Mapping[str, Run]) -> Mapping[str, Any]:
    """The data of a run whose code has not learned that these children of it have ended."""
    for name, entries in _lists(data):
        outcomes = Outcomes.of(name, data, id)
        for entry in entries:
            run = ended.get(entry.get("run_id", ""))
            if run is not None and entry["state"] == RunState.RUNNING:
                about = {key: entry[key] for key in _ABOUT if key in entry}
                outcomes.keep(id(entry), about, run)
                data = {**data, **outcomes.data()}
    return data


def _lists(data: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The lists in it that an Outcomes has made; data of an author's own has none."""
    for name in ("steps", "members"):
        entries = data.get(name)
        if isinstance(entries, list) and all(map(_is_entry, entries)):
            yield name, entries


def _is_entry(entry: object) -> bool:
    return isinstance(entry, Mapping) and "state" in entry and not _ABOUT.isdisjoint(entry)


def _told(error: RunError) -> dict[str, str]:
    return {"type": error.type, "message": error.message[:512]}


def _measure(value: Any) -> int:
    """Bytes that a value takes in a message, or a few more."""
    if isinstance(value, Mapping):
        return 20 + sum(_measure(str(key)) + _measure(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return 20 + sum(map(_measure, value))
    return 20 + size(value if isinstance(value, str) else str(value))
