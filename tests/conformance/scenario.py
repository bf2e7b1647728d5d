"""Scenarios as they stand in scenarios/*.toml, read and checked; docs/clients.md lists their names.

What a step does is `play`'s business.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "scenarios"

ASKING = {
    "connect",
    "run",
    "watch",
    "watch_runs",
    "drop",
    "start",
    "wait",
    "get",
    "list",
    "cancel",
    "cancel_many",
    "continue_run",
    "erase",
    "runnables",
}
"""What a driver is asked in one request."""
READING = {"next", "until", "text", "end", "change"}
"""How a stream is read: one event, up to a payload, up to a text, to the end; a list's change."""
ACTING = {"table", "open", "cut", "left", "ended", "freeze", "thaw", "lost"}
"""What the suite does itself: plays a table of roles, opens a gate, cuts the line, waits for a
dropped call to be left at the fake server, waits for a run to have ended, stops a process and lets
it go on, waits for the client to have given up a connection."""
BESIDE = {"expect", "error", "by", "as", "from", "trail", "meanwhile"}
"""What may stand beside a step's verb."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One promise, and how it is tried."""

    name: str
    says: str
    """The promise, in a sentence."""
    steps: Sequence[Mapping[str, Any]]
    theme: str = ""
    """The file that it stands in."""
    actor: str = "ann"
    """Who the driver says that it is; empty: whatever its client says."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    fake: Sequence[Mapping[str, Any]] | None = None
    """The part of a fake server, which then stands in for the real one."""
    breaks: Sequence[int] | None = None
    """The driver's line can be cut, and breaks by itself after so many bytes; None: it is sound."""
    connect: Mapping[str, Any] = field(default_factory=dict)
    """What else the driver is connected with, such as `reconnect_for`."""
    apart: bool = False
    """The server is a process of its own, which can be frozen; both sides ping often."""
    guarded: bool = False
    """The server knows its callers by tokens."""
    not_in: Sequence[str] = ()
    """The languages that this is not for; the scenario's file says why."""
    skips: Sequence[int] = ()
    """Numbers of events that no client shows."""


def verb_of(step: Mapping[str, Any]) -> str:
    """The one thing that a step does. Raises ValueError."""
    verbs = step.keys() & (ASKING | READING | ACTING)
    strange = step.keys() - ASKING - READING - ACTING - BESIDE
    if len(verbs) != 1 or strange:
        raise ValueError(f"no step: {dict(step)}")
    return str(*verbs)


def load(folder: Path = FOLDER) -> list[Scenario]:
    """All scenarios, in the order of the files and within them. Raises ValueError, TypeError."""
    found: list[Scenario] = []
    for path in sorted(folder.glob("*.toml")):
        for said in tomllib.loads(path.read_text())["scenario"]:
            found.append(Scenario(**said, theme=path.stem))
            for step in found[-1].steps:
                verb_of(step)
    names = [scenario.name for scenario in found]
    if len(set(names)) != len(names):
        raise ValueError("two scenarios have one name")
    return found
