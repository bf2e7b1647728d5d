"""The request for a run (RunSpec), the run as it is known (Run), and a cancel's answer (Receipt).

Frozen values, and the rules for their fields. The engine decides whether a run is admitted.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pullcord.run.cancel import Cancellation, CancelOutcome
from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.events import Progress, RunError, ToolCall
from pullcord.run.finish import FinishReason
from pullcord.run.message import BOUNDS, Given, Message, Part, PartBounds, violations
from pullcord.run.plain import NOT_VALID, UnreadData, is_valid, where_invalid
from pullcord.run.scope import Scope
from pullcord.run.state import RunState
from pullcord.run.usage import Limits, Usage

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_USER = re.compile(r"[A-Za-z0-9_.:@+/-]{1,128}")
_RUNNABLE = re.compile(r"(agents|teams|workflows)/[a-z0-9][a-z0-9_.-]{0,127}")

MAX_DURATION = 30 * 24 * 3600.0
"""Seconds: the longest time any field may ask for, thirty days."""
MAX_LABELS = 64
MAX_LABEL_LENGTH = 256
MAX_REASON_LENGTH = 1024
MAX_DECISIONS = 256
"""The most calls of one question."""
MAX_ANSWERS = 4
"""All answers of one decision may be so many times as long as one."""
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
"""The most that fields of messages hold."""


class DisconnectPolicy(StrEnum):
    """The rule for a run whose last watcher has left."""

    CANCEL = "cancel"
    LEASE = "lease"
    CONTINUE = "continue"


class SessionPolicy(StrEnum):
    """The rule for a run whose session is busy with another. None in a spec: they may overlap."""

    REJECT = "reject"
    QUEUE = "queue"
    SUPERSEDE = "supersede"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A request for a run. Two equal specs ask for the same run."""

    runnable: str
    """The full name, such as `agents/story-writer`."""
    input: str = ""
    input_data: Mapping[str, Any] | None = None
    run_id: str = ""
    """Empty: the engine mints one."""
    session_id: str = ""
    user_id: str = ""
    limits: Limits = Limits()
    on_disconnect: DisconnectPolicy | None = None
    """None: CANCEL for Run, which follows the run, and CONTINUE for StartRun."""
    lease: float | None = None
    """Seconds; None: the engine's default."""
    labels: Mapping[str, str] = field(default_factory=dict)
    session_policy: SessionPolicy | None = None
    """None: it begins at once, whatever else its session does."""
    parts: tuple[Part, ...] = ()
    """The rest of the user's turn, after `input`."""
    messages: tuple[Message, ...] = ()
    """The messages before this turn. The model gets them in place of the session's own turns."""
    retry_of: str = ""
    """The run of the same session and runnable whose turn this one replaces; empty: a new turn."""

    @property
    def given(self) -> Given:
        """Its whole input."""
        return Given(self.input, self.input_data, self.parts, self.messages)

    def check(
        self, max_input_bytes: int, prefix: str = "spec.", parts: PartBounds = BOUNDS
    ) -> None:
        """Raises InvalidArgument that names every wrong field, with `prefix` before its name."""
        wrong = self.violations(max_input_bytes, parts)
        if wrong:
            raise InvalidArgument(*(Violation(prefix + v.field, v.description) for v in wrong))

    def violations(
        self, max_input_bytes: int, parts: PartBounds = BOUNDS, *, is_unicode: bool = False
    ) -> list[Violation]:
        """Every wrong field, by its path within the spec, such as `limits.timeout`.

        `is_unicode`: all its text is known to be valid, as that of a message is.
        """
        found: list[Violation] = []

        def wrong(field: str, description: str) -> None:
            found.append(Violation(field, description))

        if not is_unicode and (where := where_invalid(self)) is not None:
            wrong(where, NOT_VALID)
        if not self.runnable:
            wrong("runnable", "is required, such as 'agents/story-writer'")
        elif not is_runnable_name(self.runnable):
            wrong("runnable", "must look like 'agents/<id>', 'teams/<id>' or 'workflows/<id>'")
        for name in ("run_id", "session_id", "retry_of"):
            value = getattr(self, name)
            if value and not is_id(value):
                wrong(name, "must be 1 to 128 of letters, digits, '-', '_', '.' and ':'")
        if self.user_id and not is_user_id(self.user_id):
            wrong("user_id", "must be 1 to 128 of letters, digits and -_.:@+/")
        if size(self.input) > max_input_bytes:
            wrong("input", f"must be at most {max_input_bytes} bytes")
        if self.input_data is not None and _data_size(self.input_data) > max_input_bytes:
            wrong("input_data", f"must be at most {max_input_bytes} bytes as JSON")
        found.extend(violations(self.parts, self.messages, parts))
        found.extend(label_violations(self.labels))
        limits = self.limits
        for name, seconds in (("limits.timeout", limits.timeout), ("lease", self.lease)):
            if seconds is not None and not 0 < seconds <= MAX_DURATION:
                wrong(name, "must be more than 0 and at most 30 days")
        if self.lease is not None and self.on_disconnect is not DisconnectPolicy.LEASE:
            wrong("lease", "needs on_disconnect LEASE")
        if self.session_policy is not None and not self.session_id:
            wrong("session_policy", "needs a session_id")
        if self.retry_of and not self.session_id:
            wrong("retry_of", "needs a session_id")
        if self.retry_of and self.retry_of == self.run_id:
            wrong("retry_of", "must be another run than this one")
        for name, number, most in (
            ("max_tokens", limits.max_tokens, _INT64),
            ("max_cost", limits.max_cost, sys.float_info.max),
            ("max_steps", limits.max_steps, _INT32),
            ("max_tool_calls", limits.max_tool_calls, _INT32),
        ):
            if number is not None and not number > 0:
                wrong(f"limits.{name}", "must be more than 0, or unset")
            elif number is not None and number > most:
                wrong(f"limits.{name}", f"must be at most {most}, or unset")
        return found


def is_id(text: str) -> bool:
    """Whether this can be a run's or a session's id."""
    return _ID.fullmatch(text) is not None


def is_user_id(text: str) -> bool:
    """Whether this can be a user's id."""
    return _USER.fullmatch(text) is not None


def is_runnable_name(text: str) -> bool:
    """Whether this can be a runnable's full name, such as `agents/story-writer`."""
    return _RUNNABLE.fullmatch(text) is not None


def label_violations(labels: Mapping[str, str]) -> list[Violation]:
    """The errors in these labels."""
    if len(labels) > MAX_LABELS:
        return [Violation("labels", f"must be at most {MAX_LABELS}")]
    return [
        Violation(
            f"labels[{key[:32]!r}]",
            f"key and value must be at most {MAX_LABEL_LENGTH} characters, the key not empty",
        )
        for key, value in labels.items()
        if not key or len(key) > MAX_LABEL_LENGTH or len(value) > MAX_LABEL_LENGTH
    ]


def size(text: str) -> int:
    """Bytes of this text as UTF-8, where a lone surrogate counts as one."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _data_size(data: Mapping[str, Any]) -> int:
    """Bytes of this data as JSON; of data that is still serialized, what it counts as."""
    return data.nbytes if isinstance(data, UnreadData) else size(canonical(data))


def canonical(data: Mapping[str, Any]) -> str:
    """The canonical JSON text of this data: equal data, equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Run:
    """One execution as it is now. Times are seconds since the epoch; 0: not yet."""

    run_id: str
    runnable: str
    state: RunState
    session_id: str = ""
    user_id: str = ""
    parent_run_id: str = ""
    input: str = ""
    cancellation: Cancellation | None = None
    output: str = ""
    output_data: Mapping[str, Any] | None = None
    error: RunError | None = None
    usage: Usage = Usage()
    tool_calls: tuple[ToolCall, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    create_time: float = 0.0
    start_time: float = 0.0
    end_time: float = 0.0
    expire_time: float = 0.0
    last_sequence: int = 0
    abandoned: bool = False
    finish_reason: FinishReason | None = None
    """The end of the model's last answer; None: no model was asked, or its answer had not ended."""
    parts: tuple[Part, ...] = ()
    """The rest of what it was given; a caller sees it without the data of files."""
    killed_processes: tuple[str, ...] = ()
    """Names of programs that its code or its children had started, and that had to be killed."""
    tenant: str = ""
    """With `owner`, whose it is; empty: its server does not say."""
    owner: str = ""
    retry_of: str = ""
    """The run whose turn in the session this one replaces; empty: none."""
    limits: Limits = Limits()
    """Those that it was given."""
    progress: Progress | None = None
    """The last progress that its code reported; None: it has reported none."""

    @property
    def scope(self) -> Scope:
        """Whose it is."""
        return Scope(self.tenant, self.owner)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a cancel. Times are seconds since the epoch; 0: not yet."""

    outcome: CancelOutcome
    run: Run | None = None
    """None: the run has not started yet."""
    accept_time: float = 0.0
    """When the stop that stands was accepted."""
    deliver_time: float = 0.0
    """When the stop was delivered to the run's code."""
    stop_time: float = 0.0
    """When the run ended."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one tool call that waits."""

    tool_call_id: str
    approved: bool = False
    """Whether the tool must be executed."""
    answer: str | None = None
    """The call's result, instead of executing it, even if it is approved."""
    note: str = ""
    """The decider's reason; the model sees it if the call is declined."""


def decision_violations(decisions: Sequence[Decision], max_answer_bytes: int) -> list[Violation]:
    """The errors in these decisions, apart from the run that they are for."""
    if len(decisions) > MAX_DECISIONS:
        return [Violation("decisions", f"must be at most {MAX_DECISIONS}")]
    found: list[Violation] = []
    seen: set[str] = set()
    most = MAX_ANSWERS * max_answer_bytes
    if sum(size(decision.answer or "") for decision in decisions) > most:
        found.append(Violation("decisions", f"must have at most {most} bytes of answers in all"))
    for index, decision in enumerate(decisions):
        where, call = f"decisions[{index}]", decision.tool_call_id
        if not call or call in seen:
            wrong = "has a decision already" if call else "is required"
            found.append(Violation(f"{where}.tool_call_id", wrong))
        seen.add(call)
        told = (("tool_call_id", call), ("answer", decision.answer or ""), ("note", decision.note))
        found += [Violation(f"{where}.{k}", NOT_VALID) for k, text in told if not is_valid(text)]
        if decision.answer is not None and size(decision.answer) > max_answer_bytes:
            found.append(Violation(f"{where}.answer", f"must be at most {max_answer_bytes} bytes"))
        if len(decision.note) > MAX_REASON_LENGTH:
            found.append(
                Violation(f"{where}.note", f"must be at most {MAX_REASON_LENGTH} characters")
            )
    return found


@dataclass(frozen=True, slots=True)
class CancelResult:
    """One run that a cancel of many matched."""

    run_id: str
    outcome: CancelOutcome | None = None
    """None: nothing was stopped, because the request was validate_only."""
    tenant: str = ""
    """With `owner`, whose the run is; empty: its server does not say."""
    owner: str = ""


MAX_NAMED = 100
"""Live runs that the answer to an erasure names."""


@dataclass(frozen=True, slots=True)
class Erased:
    """The number of runs and cancels that were deleted for good, or would be."""

    runs: int = 0
    """Ended runs."""
    cancels: int = 0
    """Cancels that waited for a run."""
    live: tuple[str, ...] = ()
    """The run_ids of live runs that match, the oldest first, at most `MAX_NAMED`. They stay."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs; an empty field matches any."""

    session_id: str = ""
    user_id: str = ""
    runnable: str = ""
    parent_run_id: str = ""
    states: frozenset[RunState] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, run: Run) -> bool:
        """Whether the run has every field that is set."""
        return (
            (not self.session_id or run.session_id == self.session_id)
            and (not self.user_id or run.user_id == self.user_id)
            and (not self.runnable or run.runnable == self.runnable)
            and (not self.parent_run_id or run.parent_run_id == self.parent_run_id)
            and (not self.states or run.state in self.states)
            and all(run.labels.get(key) == value for key, value in self.labels.items())
        )
