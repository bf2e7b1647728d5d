"""The tree of a run, as its events build it: its steps and members, and the text of each.

Data only: `branches` decides how it looks. A step and the run that does its
work are one branch. What nobody saw begin hangs where its path says.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pullcord.cli.output import progress_words, why
from pullcord.run import events
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.events import Event, Payload, Source, SourceKind
from pullcord.run.state import RunState

MAX_BRANCHES = 1000
"""More are counted, and not shown."""
_TAIL = 2000
"""Characters of a branch's latest words that are kept."""
_STATES = {state.value: state for state in RunState}


class Branch:
    """A step or a member, or the run itself at the root."""

    def __init__(self, id: str, name: str, path: tuple[str, ...], *, is_step: bool) -> None:
        self.id = id
        self.name = name
        self.path = path
        """Ids from the root down to here, without the root's own and those of the steps' runs."""
        self.is_step = is_step
        """Whether a child run may do its work."""
        self.worker = ""
        """The id of what does a step's work, once that has begun."""
        self.run_id = ""
        """The run that does its work; a group of steps has none."""
        self.state: RunState | None = None
        """None: it has not started, as far as anybody has said."""
        self.begin_time = 0.0
        """Seconds since the epoch, like `end_time`; 0: not known."""
        self.end_time = 0.0
        self.words = 0
        self.tail = ""
        """The end of what it says."""
        self.doing = ""
        """Its present work other than text, such as a tool call."""
        self.remark = ""
        """Why it is as it is: an error, a stop, an attempt."""
        self.members: list[Branch] = []
        self._in_word = False
        self._is_read = False

    def standing(self) -> RunState | None:
        """Its state; of one that no event speaks of, such as an iteration, its members'."""
        if self.state is not None or not self.members:
            return self.state
        begun = [state for state in (m.standing() for m in self.members) if state is not None]
        alive = [state for state in begun if not state.is_terminal]
        return alive[-1] if alive else begun[-1] if begun else None

    def say(self, text: str) -> None:
        """Says more."""
        if self._is_read:  # now its text streams: it begins anew
            self.words, self.tail, self._in_word, self._is_read = 0, "", False, False
        if text:
            # A word that goes on from the text before is no new one.
            goes_on = self._in_word and not text[0].isspace()
            self.words += len(re.findall(r"\S+", text)) - goes_on
            self._in_word = not text[-1].isspace()
            self.tail = (self.tail + text)[-_TAIL:]
        self.doing = ""

    def read(self, output: str) -> None:
        """All that it said, where nothing of it was heard."""
        if not self.words:
            self.say(output)
            self._is_read = True

    def begin(self, time: float) -> None:
        """Begins; maybe once more."""
        self.state, self.begin_time, self.end_time = RunState.RUNNING, time, 0.0
        self.words, self.tail, self.doing, self.remark, self._in_word = 0, "", "", "", False

    def end(self, state: RunState, time: float, output: str, remark: str = "") -> None:
        """Has ended; what of its output was not heard is taken from here."""
        self.state, self.end_time, self.doing = state, time, ""
        self.remark = remark or self.remark
        if not self.words and not self.members:
            self.say(output)


class Tree:
    """The branches of one run."""

    def __init__(self, runnable: str = "") -> None:
        """`runnable` is the run's, such as `workflows/publish`."""
        self.has_parts = runnable.startswith(("teams/", "workflows/"))
        """Whether its data lists its steps or members."""
        self.root = Branch("", runnable, (), is_step=False)
        self.untold = 0
        """Branches that are not shown, because there are too many."""
        self.changes = 0
        self.is_complete = False
        """Whether the run has completed: what has not begun by then was not chosen."""
        self._holds_steps = runnable.startswith("workflows/")
        self._count = 0
        self._runs: dict[str, Branch] = {}

    def __bool__(self) -> bool:
        return bool(self.root.members)

    def __iter__(self) -> Iterator[Branch]:
        """All branches but the root, each before its members."""
        todo = self.root.members[::-1]
        while todo:
            branch = todo.pop()
            yield branch
            todo += branch.members[::-1]

    def expect(self, ids: Iterable[str]) -> None:
        """Steps or members of the run that are yet to come, in order."""
        for id in ids:
            self._member(self.root, id)

    def plan(self, data: Mapping[str, Any] | None) -> None:
        """Steps that are yet to come, as the data of a workflow's run names them in advance."""
        for entry in entries_of(data):
            self._at(str(entry.get("path") or ""), self.root)

    def tell(self, event: Event) -> Branch | None:
        """Takes an event of a child; returns its branch, None if there are too many."""
        assert event.source is not None
        self.changes += 1
        branch = self._of(event.source)
        if branch is not None:
            _apply(branch, event.payload, event.create_time)
        return branch

    def fill(self, data: Mapping[str, Any] | None, under: Branch | None = None) -> None:
        """Takes the steps or members from the data of a team's or workflow's run.

        Only what was not heard before is taken from it. Data of any other shape says nothing.
        """
        for entry in entries_of(data):
            self.changes += 1
            branch = self._runs.get(str(entry.get("run_id")))
            if branch is None and "member" in entry:
                branch = self._member(under or self.root, str(entry["member"]), is_new_run=True)
                if branch is not None and (run_id := str(entry.get("run_id") or "")):
                    branch.run_id, self._runs[run_id] = run_id, branch
            elif branch is None:
                branch = self._at(str(entry.get("path") or ""), under or self.root)
            if branch is None or branch is self.root:
                continue
            state = _STATES.get(str(entry.get("state")))
            if state is not None and (branch.state is None or not branch.state.is_terminal):
                branch.state = state
            branch.read(str(entry.get("output", "")))
            self.fill(entry.get("output_data"), branch)

    # --- finding a branch

    def _of(self, source: Source) -> Branch | None:
        branch = self._runs.get(source.run_id) if source.kind is not SourceKind.STEP else None
        if branch is not None:
            return branch
        *above, id = source.path[1:] or (source.id,)
        at, is_inside = self._walk(above)
        if at is None:
            return None
        if source.kind is SourceKind.STEP:
            branch = self._member(at, id)
            if branch is not None:
                branch.is_step = True
            return branch
        if at.is_step and not is_inside:
            at.worker = source.id
            branch = at
        else:
            branch = self._member(at, id, is_new_run=True)
        if branch is not None:
            branch.run_id = source.run_id
            self._runs[source.run_id] = branch
        return branch

    def _at(self, path: str, above: Branch) -> Branch | None:
        branch: Branch | None = above
        for id in filter(None, path.split("/")):
            branch = branch and self._member(branch, id)
        return branch

    def _walk(self, path: Iterable[str]) -> tuple[Branch | None, bool]:
        """The branch at a path of events, and whether the path goes on into its own work."""
        branch, is_inside = self.root, True
        for id in path:
            if branch.is_step and branch.worker == id and not is_inside:
                is_inside = True
                continue
            found = self._member(branch, id)
            if found is None:
                return None, False
            branch, is_inside = found, not found.is_step
        return branch, is_inside

    def _member(self, above: Branch, id: str, *, is_new_run: bool = False) -> Branch | None:
        """The latest branch of this id there; a new one if there is none."""
        for branch in reversed(above.members):
            if branch.id == id and not (is_new_run and branch.run_id):
                return branch
        if self._count >= MAX_BRANCHES:
            self.untold += 1
            return None
        self._count += 1
        # An iteration of a loop has a number, and no event of its own.
        # A row keeps its name, also when a display name comes later: it is shown by its id.
        name = f"#{id}" if id.isdecimal() else id
        branch = Branch(id, name, (*above.path, id), is_step=self._holds_steps)
        above.members.append(branch)
        return branch


def _apply(branch: Branch, payload: Payload, time: float) -> None:
    match payload:
        case events.StepStarted(attempt=attempt):
            first = branch.begin_time if attempt > 1 else 0.0
            branch.begin(first or time)
            branch.remark = f"attempt {attempt}" if attempt > 1 else ""
        case events.RunStarted():
            if branch.state is not RunState.RUNNING:  # of a step that has begun it is the work
                branch.begin(time)
        case events.ContentDelta(text):
            branch.say(text)
        case events.ReasoningDelta():
            branch.doing = "thinking"
        case events.Progress():
            branch.doing = progress_words(payload)
        case events.ToolCallStarted(call):
            branch.doing = f"→ {call.tool_name}({call.arguments})"
        case events.ToolCallCompleted(call):
            branch.doing = f"← {call.tool_name} {call.state.value}"
        case events.CancelRequested():
            branch.state = RunState.CANCELLING
        case events.RunPaused(question):
            branch.state, branch.doing = RunState.PAUSED, question
        case events.RunContinued():
            branch.state, branch.doing = RunState.RUNNING, ""
        case events.StepCompleted(state=state, output=output, error=error):
            branch.end(state, time, output, f"{error.type}: {error.message}" if error else "")
        case events.RunCompleted(output, data):
            said = "" if data is None or output else json.dumps(dict(data), ensure_ascii=False)
            branch.end(RunState.COMPLETED, time, output or said)
        case events.RunCancelled(cancellation, output):
            branch.end(RunState.CANCELLED, time, output, _why(cancellation))
        case events.RunFailed(error, output):
            branch.end(RunState.FAILED, time, output, f"{error.type}: {error.message}")


def _why(cancellation: Cancellation) -> str:
    """Why it was stopped; empty for a part of what was stopped, since the root shows it."""
    return "" if cancellation.cause is CancelCause.PARENT else why(cancellation)


def entries_of(data: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps or members that a workflow's or team's data lists; other data has none."""
    found = (data or {}).get("steps") or (data or {}).get("members")
    return [e for e in found if isinstance(e, Mapping)] if isinstance(found, list | tuple) else []
