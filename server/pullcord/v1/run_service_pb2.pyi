import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pullcord.v1 import cancel_pb2 as _cancel_pb2
from pullcord.v1 import event_pb2 as _event_pb2
from pullcord.v1 import run_pb2 as _run_pb2
from pullcord.v1 import runnable_pb2 as _runnable_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: _run_pb2.RunSpec
    def __init__(self, spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _event_pb2.RunEvent
    def __init__(self, event: _Optional[_Union[_event_pb2.RunEvent, _Mapping]] = ...) -> None: ...

class StartRunRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: _run_pb2.RunSpec
    def __init__(self, spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ...) -> None: ...

class StartRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("run_id", "after_sequence", "tenant", "owner")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    after_sequence: int
    tenant: str
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., after_sequence: _Optional[int] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _event_pb2.RunEvent
    def __init__(self, event: _Optional[_Union[_event_pb2.RunEvent, _Mapping]] = ...) -> None: ...

class WaitRunRequest(_message.Message):
    __slots__ = ("run_id", "timeout", "tenant", "owner")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    timeout: _duration_pb2.Duration
    tenant: str
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class WaitRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run_id", "tenant", "owner")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    tenant: str
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("session_id", "user_id", "runnable", "states", "labels", "page_size", "page_token", "parent_run_id", "tenant", "owner")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNABLE_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PARENT_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    user_id: str
    runnable: str
    states: _containers.RepeatedScalarFieldContainer[_run_pb2.RunState]
    labels: _containers.ScalarMap[str, str]
    page_size: int
    page_token: str
    parent_run_id: str
    tenant: str
    owner: str
    def __init__(self, session_id: _Optional[str] = ..., user_id: _Optional[str] = ..., runnable: _Optional[str] = ..., states: _Optional[_Iterable[_Union[_run_pb2.RunState, str]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., parent_run_id: _Optional[str] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[_run_pb2.Run]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[_run_pb2.Run, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("run_id", "reason", "mode", "grace_period", "wait", "before_start", "cause", "tenant", "owner")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_START_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    mode: _cancel_pb2.CancelMode
    grace_period: _duration_pb2.Duration
    wait: _duration_pb2.Duration
    before_start: bool
    cause: _cancel_pb2.CancelCause
    tenant: str
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ..., mode: _Optional[_Union[_cancel_pb2.CancelMode, str]] = ..., grace_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., before_start: _Optional[bool] = ..., cause: _Optional[_Union[_cancel_pb2.CancelCause, str]] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class CancelRunResponse(_message.Message):
    __slots__ = ("outcome", "run", "accept_time", "deliver_time", "stop_time")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_TIME_FIELD_NUMBER: _ClassVar[int]
    DELIVER_TIME_FIELD_NUMBER: _ClassVar[int]
    STOP_TIME_FIELD_NUMBER: _ClassVar[int]
    outcome: _cancel_pb2.CancelOutcome
    run: _run_pb2.Run
    accept_time: _timestamp_pb2.Timestamp
    deliver_time: _timestamp_pb2.Timestamp
    stop_time: _timestamp_pb2.Timestamp
    def __init__(self, outcome: _Optional[_Union[_cancel_pb2.CancelOutcome, str]] = ..., run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., accept_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deliver_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stop_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CancelRunsRequest(_message.Message):
    __slots__ = ("session_id", "user_id", "runnable", "labels", "reason", "mode", "validate_only", "max_affected", "tenant", "owner")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNABLE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    MAX_AFFECTED_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    user_id: str
    runnable: str
    labels: _containers.ScalarMap[str, str]
    reason: str
    mode: _cancel_pb2.CancelMode
    validate_only: bool
    max_affected: int
    tenant: str
    owner: str
    def __init__(self, session_id: _Optional[str] = ..., user_id: _Optional[str] = ..., runnable: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., reason: _Optional[str] = ..., mode: _Optional[_Union[_cancel_pb2.CancelMode, str]] = ..., validate_only: _Optional[bool] = ..., max_affected: _Optional[int] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class CancelRunsResult(_message.Message):
    __slots__ = ("run_id", "outcome", "tenant", "owner")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    outcome: _cancel_pb2.CancelOutcome
    tenant: str
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., outcome: _Optional[_Union[_cancel_pb2.CancelOutcome, str]] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class CancelRunsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[CancelRunsResult]
    def __init__(self, results: _Optional[_Iterable[_Union[CancelRunsResult, _Mapping]]] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("tool_call_id", "approved", "answer", "note")
    TOOL_CALL_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    tool_call_id: str
    approved: bool
    answer: str
    note: str
    def __init__(self, tool_call_id: _Optional[str] = ..., approved: _Optional[bool] = ..., answer: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class ContinueRunRequest(_message.Message):
    __slots__ = ("run_id", "decisions", "tenant", "owner")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    tenant: str
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class ContinueRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ...) -> None: ...

class EraseRunsRequest(_message.Message):
    __slots__ = ("user_id", "session_id", "tenant", "owner", "validate_only")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session_id: str
    tenant: str
    owner: str
    validate_only: bool
    def __init__(self, user_id: _Optional[str] = ..., session_id: _Optional[str] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class EraseRunsResponse(_message.Message):
    __slots__ = ("runs", "cancels", "live_run_ids")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    LIVE_RUN_IDS_FIELD_NUMBER: _ClassVar[int]
    runs: int
    cancels: int
    live_run_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, runs: _Optional[int] = ..., cancels: _Optional[int] = ..., live_run_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListRunnablesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRunnablesResponse(_message.Message):
    __slots__ = ("runnables",)
    RUNNABLES_FIELD_NUMBER: _ClassVar[int]
    runnables: _containers.RepeatedCompositeFieldContainer[_runnable_pb2.Runnable]
    def __init__(self, runnables: _Optional[_Iterable[_Union[_runnable_pb2.Runnable, _Mapping]]] = ...) -> None: ...

class WatchRunsRequest(_message.Message):
    __slots__ = ("session_id", "user_id", "runnable", "labels", "parent_run_id", "after", "tenant", "owner")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNABLE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PARENT_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    user_id: str
    runnable: str
    labels: _containers.ScalarMap[str, str]
    parent_run_id: str
    after: str
    tenant: str
    owner: str
    def __init__(self, session_id: _Optional[str] = ..., user_id: _Optional[str] = ..., runnable: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., parent_run_id: _Optional[str] = ..., after: _Optional[str] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class WatchRunsResponse(_message.Message):
    __slots__ = ("run", "position", "caught_up", "missed")
    RUN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    position: str
    caught_up: bool
    missed: bool
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., position: _Optional[str] = ..., caught_up: _Optional[bool] = ..., missed: _Optional[bool] = ...) -> None: ...

class CreateRunTokenRequest(_message.Message):
    __slots__ = ("run_id", "lifetime", "watch_only", "tenant", "owner")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_FIELD_NUMBER: _ClassVar[int]
    WATCH_ONLY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    lifetime: _duration_pb2.Duration
    watch_only: bool
    tenant: str
    owner: str
    def __init__(self, run_id: _Optional[str] = ..., lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., watch_only: _Optional[bool] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class CreateRunTokenResponse(_message.Message):
    __slots__ = ("token", "expire_time")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    token: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, token: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
