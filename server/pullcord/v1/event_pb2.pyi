import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pullcord.v1 import cancel_pb2 as _cancel_pb2
from pullcord.v1 import error_pb2 as _error_pb2
from pullcord.v1 import run_pb2 as _run_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SourceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_KIND_UNSPECIFIED: _ClassVar[SourceKind]
    SOURCE_KIND_AGENT: _ClassVar[SourceKind]
    SOURCE_KIND_TEAM: _ClassVar[SourceKind]
    SOURCE_KIND_WORKFLOW: _ClassVar[SourceKind]
    SOURCE_KIND_STEP: _ClassVar[SourceKind]
SOURCE_KIND_UNSPECIFIED: SourceKind
SOURCE_KIND_AGENT: SourceKind
SOURCE_KIND_TEAM: SourceKind
SOURCE_KIND_WORKFLOW: SourceKind
SOURCE_KIND_STEP: SourceKind

class Source(_message.Message):
    __slots__ = ("kind", "id", "name", "run_id", "path")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    kind: SourceKind
    id: str
    name: str
    run_id: str
    path: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kind: _Optional[_Union[SourceKind, str]] = ..., id: _Optional[str] = ..., name: _Optional[str] = ..., run_id: _Optional[str] = ..., path: _Optional[_Iterable[str]] = ...) -> None: ...

class RunEvent(_message.Message):
    __slots__ = ("run_id", "sequence", "create_time", "source", "run_started", "content_delta", "reasoning_delta", "tool_call_started", "tool_call_completed", "step_started", "step_completed", "usage_updated", "cancel_requested", "run_paused", "run_continued", "heartbeat", "gap", "snapshot", "custom", "run_completed", "run_cancelled", "run_failed", "progress")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RUN_STARTED_FIELD_NUMBER: _ClassVar[int]
    CONTENT_DELTA_FIELD_NUMBER: _ClassVar[int]
    REASONING_DELTA_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_STARTED_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    STEP_STARTED_FIELD_NUMBER: _ClassVar[int]
    STEP_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    USAGE_UPDATED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    RUN_PAUSED_FIELD_NUMBER: _ClassVar[int]
    RUN_CONTINUED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    RUN_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    RUN_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    RUN_FAILED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    sequence: int
    create_time: _timestamp_pb2.Timestamp
    source: Source
    run_started: RunStarted
    content_delta: ContentDelta
    reasoning_delta: ReasoningDelta
    tool_call_started: ToolCallStarted
    tool_call_completed: ToolCallCompleted
    step_started: StepStarted
    step_completed: StepCompleted
    usage_updated: UsageUpdated
    cancel_requested: CancelRequested
    run_paused: RunPaused
    run_continued: RunContinued
    heartbeat: Heartbeat
    gap: Gap
    snapshot: Snapshot
    custom: Custom
    run_completed: RunCompleted
    run_cancelled: RunCancelled
    run_failed: RunFailed
    progress: Progress
    def __init__(self, run_id: _Optional[str] = ..., sequence: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., run_started: _Optional[_Union[RunStarted, _Mapping]] = ..., content_delta: _Optional[_Union[ContentDelta, _Mapping]] = ..., reasoning_delta: _Optional[_Union[ReasoningDelta, _Mapping]] = ..., tool_call_started: _Optional[_Union[ToolCallStarted, _Mapping]] = ..., tool_call_completed: _Optional[_Union[ToolCallCompleted, _Mapping]] = ..., step_started: _Optional[_Union[StepStarted, _Mapping]] = ..., step_completed: _Optional[_Union[StepCompleted, _Mapping]] = ..., usage_updated: _Optional[_Union[UsageUpdated, _Mapping]] = ..., cancel_requested: _Optional[_Union[CancelRequested, _Mapping]] = ..., run_paused: _Optional[_Union[RunPaused, _Mapping]] = ..., run_continued: _Optional[_Union[RunContinued, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., custom: _Optional[_Union[Custom, _Mapping]] = ..., run_completed: _Optional[_Union[RunCompleted, _Mapping]] = ..., run_cancelled: _Optional[_Union[RunCancelled, _Mapping]] = ..., run_failed: _Optional[_Union[RunFailed, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class RunStarted(_message.Message):
    __slots__ = ("runnable", "session_id", "parent_run_id")
    RUNNABLE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    runnable: str
    session_id: str
    parent_run_id: str
    def __init__(self, runnable: _Optional[str] = ..., session_id: _Optional[str] = ..., parent_run_id: _Optional[str] = ...) -> None: ...

class ContentDelta(_message.Message):
    __slots__ = ("text", "count")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    text: str
    count: int
    def __init__(self, text: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ReasoningDelta(_message.Message):
    __slots__ = ("text", "count")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    text: str
    count: int
    def __init__(self, text: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ToolCallStarted(_message.Message):
    __slots__ = ("tool_call",)
    TOOL_CALL_FIELD_NUMBER: _ClassVar[int]
    tool_call: _run_pb2.ToolCall
    def __init__(self, tool_call: _Optional[_Union[_run_pb2.ToolCall, _Mapping]] = ...) -> None: ...

class ToolCallCompleted(_message.Message):
    __slots__ = ("tool_call",)
    TOOL_CALL_FIELD_NUMBER: _ClassVar[int]
    tool_call: _run_pb2.ToolCall
    def __init__(self, tool_call: _Optional[_Union[_run_pb2.ToolCall, _Mapping]] = ...) -> None: ...

class StepStarted(_message.Message):
    __slots__ = ("step_id", "name", "attempt")
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    step_id: str
    name: str
    attempt: int
    def __init__(self, step_id: _Optional[str] = ..., name: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class StepCompleted(_message.Message):
    __slots__ = ("step_id", "name", "state", "output", "error")
    STEP_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    step_id: str
    name: str
    state: _run_pb2.RunState
    output: str
    error: _error_pb2.RunError
    def __init__(self, step_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[_run_pb2.RunState, str]] = ..., output: _Optional[str] = ..., error: _Optional[_Union[_error_pb2.RunError, _Mapping]] = ...) -> None: ...

class UsageUpdated(_message.Message):
    __slots__ = ("usage",)
    USAGE_FIELD_NUMBER: _ClassVar[int]
    usage: _run_pb2.Usage
    def __init__(self, usage: _Optional[_Union[_run_pb2.Usage, _Mapping]] = ...) -> None: ...

class CancelRequested(_message.Message):
    __slots__ = ("cancellation",)
    CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    cancellation: _cancel_pb2.Cancellation
    def __init__(self, cancellation: _Optional[_Union[_cancel_pb2.Cancellation, _Mapping]] = ...) -> None: ...

class RunPaused(_message.Message):
    __slots__ = ("question", "tool_calls", "survives")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    SURVIVES_FIELD_NUMBER: _ClassVar[int]
    question: str
    tool_calls: _containers.RepeatedCompositeFieldContainer[_run_pb2.ToolCall]
    survives: bool
    def __init__(self, question: _Optional[str] = ..., tool_calls: _Optional[_Iterable[_Union[_run_pb2.ToolCall, _Mapping]]] = ..., survives: _Optional[bool] = ...) -> None: ...

class RunContinued(_message.Message):
    __slots__ = ("actor",)
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    actor: str
    def __init__(self, actor: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Gap(_message.Message):
    __slots__ = ("first_sequence", "last_sequence")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    last_sequence: int
    def __init__(self, first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class Custom(_message.Message):
    __slots__ = ("name", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    data: _struct_pb2.Struct
    def __init__(self, name: _Optional[str] = ..., data: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total", "note")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    done: float
    total: float
    note: str
    def __init__(self, done: _Optional[float] = ..., total: _Optional[float] = ..., note: _Optional[str] = ...) -> None: ...

class RunCompleted(_message.Message):
    __slots__ = ("output", "output_data", "usage", "tool_calls", "finish_reason")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_DATA_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    output: str
    output_data: _struct_pb2.Struct
    usage: _run_pb2.Usage
    tool_calls: _containers.RepeatedCompositeFieldContainer[_run_pb2.ToolCall]
    finish_reason: _run_pb2.FinishReason
    def __init__(self, output: _Optional[str] = ..., output_data: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., usage: _Optional[_Union[_run_pb2.Usage, _Mapping]] = ..., tool_calls: _Optional[_Iterable[_Union[_run_pb2.ToolCall, _Mapping]]] = ..., finish_reason: _Optional[_Union[_run_pb2.FinishReason, str]] = ...) -> None: ...

class RunCancelled(_message.Message):
    __slots__ = ("cancellation", "output", "output_data", "usage", "tool_calls", "abandoned", "stage", "killed_processes", "finish_reason")
    CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_DATA_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    KILLED_PROCESSES_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    cancellation: _cancel_pb2.Cancellation
    output: str
    output_data: _struct_pb2.Struct
    usage: _run_pb2.Usage
    tool_calls: _containers.RepeatedCompositeFieldContainer[_run_pb2.ToolCall]
    abandoned: bool
    stage: _cancel_pb2.StopStage
    killed_processes: _containers.RepeatedScalarFieldContainer[str]
    finish_reason: _run_pb2.FinishReason
    def __init__(self, cancellation: _Optional[_Union[_cancel_pb2.Cancellation, _Mapping]] = ..., output: _Optional[str] = ..., output_data: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., usage: _Optional[_Union[_run_pb2.Usage, _Mapping]] = ..., tool_calls: _Optional[_Iterable[_Union[_run_pb2.ToolCall, _Mapping]]] = ..., abandoned: _Optional[bool] = ..., stage: _Optional[_Union[_cancel_pb2.StopStage, str]] = ..., killed_processes: _Optional[_Iterable[str]] = ..., finish_reason: _Optional[_Union[_run_pb2.FinishReason, str]] = ...) -> None: ...

class RunFailed(_message.Message):
    __slots__ = ("error", "output", "usage", "tool_calls", "cancellation", "output_data", "finish_reason")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_DATA_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    error: _error_pb2.RunError
    output: str
    usage: _run_pb2.Usage
    tool_calls: _containers.RepeatedCompositeFieldContainer[_run_pb2.ToolCall]
    cancellation: _cancel_pb2.Cancellation
    output_data: _struct_pb2.Struct
    finish_reason: _run_pb2.FinishReason
    def __init__(self, error: _Optional[_Union[_error_pb2.RunError, _Mapping]] = ..., output: _Optional[str] = ..., usage: _Optional[_Union[_run_pb2.Usage, _Mapping]] = ..., tool_calls: _Optional[_Iterable[_Union[_run_pb2.ToolCall, _Mapping]]] = ..., cancellation: _Optional[_Union[_cancel_pb2.Cancellation, _Mapping]] = ..., output_data: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., finish_reason: _Optional[_Union[_run_pb2.FinishReason, str]] = ...) -> None: ...
