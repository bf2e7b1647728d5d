"""The domain's enums and the proto's, paired by the names of their members.

Nothing else compares enum numbers. A pair that lacks a member on either side fails at import.
"""

from enum import StrEnum
from typing import Any, Generic, TypeVar

from pullcord.run.cancel import CancelCause, CancelMode, CancelOutcome, StopStage
from pullcord.run.events import SourceKind, ToolCallState
from pullcord.run.finish import FinishReason
from pullcord.run.message import Role
from pullcord.run.record import DisconnectPolicy, SessionPolicy
from pullcord.run.state import RunState
from pullcord.v1 import cancel_pb2, event_pb2, run_pb2, runnable_pb2

D = TypeVar("D", bound=StrEnum)


class EnumPair(Generic[D]):
    """One domain enum and its proto enum. The proto's zero, UNSPECIFIED, has no domain member."""

    def __init__(self, members: type[D], proto: Any, fallback: D) -> None:
        prefix = proto.Name(0).removesuffix("UNSPECIFIED")
        numbers = {name.removeprefix(prefix): number for name, number in proto.items() if number}
        self.numbers: dict[D, Any] = {
            member: numbers[member.name] for member in members if member.name in numbers
        }
        """From domain to proto. Any, because generated code types numbers as its own enum class."""
        self.fallback = fallback
        """The value that a client reads for a number of a newer server."""
        self._members: dict[int, D] = {number: member for member, number in self.numbers.items()}
        missing = [name for name, number in numbers.items() if number not in self._members]
        if missing:
            raise TypeError(f"{members.__name__} has no {', '.join(missing)}")

    def find(self, number: int) -> D | None:
        """The member of this number; None where there is none, also for UNSPECIFIED."""
        return self._members.get(number)

    def read(self, number: int) -> D:
        """The member of this number, or the fallback: a client outlives its server's version."""
        return self._members.get(number, self.fallback)


RUN_STATE = EnumPair(RunState, run_pb2.RunState, RunState.RUNNING)
DISCONNECT_POLICY = EnumPair(DisconnectPolicy, run_pb2.DisconnectPolicy, DisconnectPolicy.CONTINUE)
SESSION_POLICY = EnumPair(SessionPolicy, run_pb2.SessionPolicy, SessionPolicy.QUEUE)
TOOL_CALL_STATE = EnumPair(ToolCallState, run_pb2.ToolCallState, ToolCallState.UNKNOWN)
CANCEL_MODE = EnumPair(CancelMode, cancel_pb2.CancelMode, CancelMode.GRACEFUL)
CANCEL_CAUSE = EnumPair(CancelCause, cancel_pb2.CancelCause, CancelCause.USER)
CANCEL_OUTCOME = EnumPair(CancelOutcome, cancel_pb2.CancelOutcome, CancelOutcome.REQUESTED)
STOP_STAGE = EnumPair(StopStage, cancel_pb2.StopStage, StopStage.ABANDON)
MESSAGE_ROLE = EnumPair(Role, run_pb2.MessageRole, Role.USER)
FINISH_REASON = EnumPair(FinishReason, run_pb2.FinishReason, FinishReason.OTHER)
SOURCE_KIND = EnumPair(SourceKind, event_pb2.SourceKind, SourceKind.STEP)
RUNNABLE_KIND = EnumPair(SourceKind, runnable_pb2.RunnableKind, SourceKind.AGENT)
"""Runnables have the first three of the source kinds; a step cannot be run by itself."""
