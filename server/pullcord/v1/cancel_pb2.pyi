import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CancelMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANCEL_MODE_UNSPECIFIED: _ClassVar[CancelMode]
    CANCEL_MODE_GRACEFUL: _ClassVar[CancelMode]
    CANCEL_MODE_IMMEDIATE: _ClassVar[CancelMode]

class CancelCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANCEL_CAUSE_UNSPECIFIED: _ClassVar[CancelCause]
    CANCEL_CAUSE_USER: _ClassVar[CancelCause]
    CANCEL_CAUSE_DEADLINE: _ClassVar[CancelCause]
    CANCEL_CAUSE_BUDGET: _ClassVar[CancelCause]
    CANCEL_CAUSE_DISCONNECT: _ClassVar[CancelCause]
    CANCEL_CAUSE_PARENT: _ClassVar[CancelCause]
    CANCEL_CAUSE_SUPERSEDED: _ClassVar[CancelCause]
    CANCEL_CAUSE_SHUTDOWN: _ClassVar[CancelCause]
    CANCEL_CAUSE_LOST: _ClassVar[CancelCause]

class StopStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STOP_STAGE_UNSPECIFIED: _ClassVar[StopStage]
    STOP_STAGE_ASK: _ClassVar[StopStage]
    STOP_STAGE_INTERRUPT: _ClassVar[StopStage]
    STOP_STAGE_KILL: _ClassVar[StopStage]
    STOP_STAGE_ABANDON: _ClassVar[StopStage]

class CancelOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANCEL_OUTCOME_UNSPECIFIED: _ClassVar[CancelOutcome]
    CANCEL_OUTCOME_REQUESTED: _ClassVar[CancelOutcome]
    CANCEL_OUTCOME_STOPPED: _ClassVar[CancelOutcome]
    CANCEL_OUTCOME_RECORDED: _ClassVar[CancelOutcome]
    CANCEL_OUTCOME_ALREADY_FINISHED: _ClassVar[CancelOutcome]
CANCEL_MODE_UNSPECIFIED: CancelMode
CANCEL_MODE_GRACEFUL: CancelMode
CANCEL_MODE_IMMEDIATE: CancelMode
CANCEL_CAUSE_UNSPECIFIED: CancelCause
CANCEL_CAUSE_USER: CancelCause
CANCEL_CAUSE_DEADLINE: CancelCause
CANCEL_CAUSE_BUDGET: CancelCause
CANCEL_CAUSE_DISCONNECT: CancelCause
CANCEL_CAUSE_PARENT: CancelCause
CANCEL_CAUSE_SUPERSEDED: CancelCause
CANCEL_CAUSE_SHUTDOWN: CancelCause
CANCEL_CAUSE_LOST: CancelCause
STOP_STAGE_UNSPECIFIED: StopStage
STOP_STAGE_ASK: StopStage
STOP_STAGE_INTERRUPT: StopStage
STOP_STAGE_KILL: StopStage
STOP_STAGE_ABANDON: StopStage
CANCEL_OUTCOME_UNSPECIFIED: CancelOutcome
CANCEL_OUTCOME_REQUESTED: CancelOutcome
CANCEL_OUTCOME_STOPPED: CancelOutcome
CANCEL_OUTCOME_RECORDED: CancelOutcome
CANCEL_OUTCOME_ALREADY_FINISHED: CancelOutcome

class Cancellation(_message.Message):
    __slots__ = ("cause", "actor", "reason", "mode", "limit", "accept_time", "claimed_actor")
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_TIME_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_ACTOR_FIELD_NUMBER: _ClassVar[int]
    cause: CancelCause
    actor: str
    reason: str
    mode: CancelMode
    limit: str
    accept_time: _timestamp_pb2.Timestamp
    claimed_actor: str
    def __init__(self, cause: _Optional[_Union[CancelCause, str]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., mode: _Optional[_Union[CancelMode, str]] = ..., limit: _Optional[str] = ..., accept_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., claimed_actor: _Optional[str] = ...) -> None: ...
