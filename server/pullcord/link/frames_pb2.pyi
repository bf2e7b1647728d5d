from pullcord.v1 import cancel_pb2 as _cancel_pb2
from pullcord.v1 import error_pb2 as _error_pb2
from pullcord.v1 import event_pb2 as _event_pb2
from pullcord.v1 import run_pb2 as _run_pb2
from pullcord.v1 import run_service_pb2 as _run_service_pb2
from pullcord.v1 import runnable_pb2 as _runnable_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Up(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[UpFrame]
    def __init__(self, frames: _Optional[_Iterable[_Union[UpFrame, _Mapping]]] = ...) -> None: ...

class UpFrame(_message.Message):
    __slots__ = ("ready", "said", "used", "emitted", "relayed", "output", "tool_ended", "ask", "delivered", "stuck", "ended", "pong", "stalled", "unready", "closed", "released", "taken_back", "hands_over", "texts", "killed", "model_called")
    READY_FIELD_NUMBER: _ClassVar[int]
    SAID_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    EMITTED_FIELD_NUMBER: _ClassVar[int]
    RELAYED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TOOL_ENDED_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    STUCK_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    STALLED_FIELD_NUMBER: _ClassVar[int]
    UNREADY_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    TAKEN_BACK_FIELD_NUMBER: _ClassVar[int]
    HANDS_OVER_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    KILLED_FIELD_NUMBER: _ClassVar[int]
    MODEL_CALLED_FIELD_NUMBER: _ClassVar[int]
    ready: Ready
    said: Said
    used: Used
    emitted: Happened
    relayed: Happened
    output: Output
    tool_ended: ToolEnded
    ask: Ask
    delivered: int
    stuck: int
    ended: Ended
    pong: int
    stalled: Stalled
    unready: Unready
    closed: int
    released: int
    taken_back: int
    hands_over: HandsOver
    texts: Texts
    killed: Killed
    model_called: ModelCalled
    def __init__(self, ready: _Optional[_Union[Ready, _Mapping]] = ..., said: _Optional[_Union[Said, _Mapping]] = ..., used: _Optional[_Union[Used, _Mapping]] = ..., emitted: _Optional[_Union[Happened, _Mapping]] = ..., relayed: _Optional[_Union[Happened, _Mapping]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., tool_ended: _Optional[_Union[ToolEnded, _Mapping]] = ..., ask: _Optional[_Union[Ask, _Mapping]] = ..., delivered: _Optional[int] = ..., stuck: _Optional[int] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., pong: _Optional[int] = ..., stalled: _Optional[_Union[Stalled, _Mapping]] = ..., unready: _Optional[_Union[Unready, _Mapping]] = ..., closed: _Optional[int] = ..., released: _Optional[int] = ..., taken_back: _Optional[int] = ..., hands_over: _Optional[_Union[HandsOver, _Mapping]] = ..., texts: _Optional[_Union[Texts, _Mapping]] = ..., killed: _Optional[_Union[Killed, _Mapping]] = ..., model_called: _Optional[_Union[ModelCalled, _Mapping]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("version", "offers")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    version: str
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    def __init__(self, version: _Optional[str] = ..., offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ...) -> None: ...

class Unready(_message.Message):
    __slots__ = ("words",)
    WORDS_FIELD_NUMBER: _ClassVar[int]
    words: str
    def __init__(self, words: _Optional[str] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("runnable", "is_async", "isolation", "resources")
    RUNNABLE_FIELD_NUMBER: _ClassVar[int]
    IS_ASYNC_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    runnable: _runnable_pb2.Runnable
    is_async: bool
    isolation: str
    resources: Resources
    def __init__(self, runnable: _Optional[_Union[_runnable_pb2.Runnable, _Mapping]] = ..., is_async: _Optional[bool] = ..., isolation: _Optional[str] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("cpu", "memory", "gpu")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    cpu: float
    memory: int
    gpu: float
    def __init__(self, cpu: _Optional[float] = ..., memory: _Optional[int] = ..., gpu: _Optional[float] = ...) -> None: ...

class Said(_message.Message):
    __slots__ = ("run", "text", "lengths", "source", "reasoning")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    run: int
    text: str
    lengths: _containers.RepeatedScalarFieldContainer[int]
    source: _event_pb2.Source
    reasoning: bool
    def __init__(self, run: _Optional[int] = ..., text: _Optional[str] = ..., lengths: _Optional[_Iterable[int]] = ..., source: _Optional[_Union[_event_pb2.Source, _Mapping]] = ..., reasoning: _Optional[bool] = ...) -> None: ...

class Texts(_message.Message):
    __slots__ = ("runs", "texts")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedScalarFieldContainer[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, runs: _Optional[_Iterable[int]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Used(_message.Message):
    __slots__ = ("run", "usage")
    RUN_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    run: int
    usage: _run_pb2.Usage
    def __init__(self, run: _Optional[int] = ..., usage: _Optional[_Union[_run_pb2.Usage, _Mapping]] = ...) -> None: ...

class Happened(_message.Message):
    __slots__ = ("run", "event", "data")
    RUN_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    run: int
    event: _event_pb2.RunEvent
    data: bytes
    def __init__(self, run: _Optional[int] = ..., event: _Optional[_Union[_event_pb2.RunEvent, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("run", "text", "data", "finish_reason")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    run: int
    text: str
    data: bytes
    finish_reason: _run_pb2.FinishReason
    def __init__(self, run: _Optional[int] = ..., text: _Optional[str] = ..., data: _Optional[bytes] = ..., finish_reason: _Optional[_Union[_run_pb2.FinishReason, str]] = ...) -> None: ...

class ToolEnded(_message.Message):
    __slots__ = ("run", "call")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    run: int
    call: _run_pb2.ToolCall
    def __init__(self, run: _Optional[int] = ..., call: _Optional[_Union[_run_pb2.ToolCall, _Mapping]] = ...) -> None: ...

class Killed(_message.Message):
    __slots__ = ("run", "processes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    run: int
    processes: _containers.RepeatedCompositeFieldContainer[KilledProcess]
    def __init__(self, run: _Optional[int] = ..., processes: _Optional[_Iterable[_Union[KilledProcess, _Mapping]]] = ...) -> None: ...

class KilledProcess(_message.Message):
    __slots__ = ("pid", "name", "command")
    PID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    pid: int
    name: str
    command: str
    def __init__(self, pid: _Optional[int] = ..., name: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

class ModelCalled(_message.Message):
    __slots__ = ("run", "model", "provider", "seconds", "first_after", "usage", "finish_reason", "error_type")
    RUN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    FIRST_AFTER_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    run: int
    model: str
    provider: str
    seconds: float
    first_after: float
    usage: _run_pb2.Usage
    finish_reason: _run_pb2.FinishReason
    error_type: str
    def __init__(self, run: _Optional[int] = ..., model: _Optional[str] = ..., provider: _Optional[str] = ..., seconds: _Optional[float] = ..., first_after: _Optional[float] = ..., usage: _Optional[_Union[_run_pb2.Usage, _Mapping]] = ..., finish_reason: _Optional[_Union[_run_pb2.FinishReason, str]] = ..., error_type: _Optional[str] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("run", "error", "is_cancel", "left")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    IS_CANCEL_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    run: int
    error: _error_pb2.RunError
    is_cancel: bool
    left: str
    def __init__(self, run: _Optional[int] = ..., error: _Optional[_Union[_error_pb2.RunError, _Mapping]] = ..., is_cancel: _Optional[bool] = ..., left: _Optional[str] = ...) -> None: ...

class Stalled(_message.Message):
    __slots__ = ("run_id", "seconds", "stack")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    seconds: float
    stack: str
    def __init__(self, run_id: _Optional[str] = ..., seconds: _Optional[float] = ..., stack: _Optional[str] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("id", "run", "began", "settle", "stop", "begin", "tool_started", "pause", "start_child", "history", "follow_run", "get", "wait", "take", "cancel", "continue_run", "tenant", "owner")
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    BEGAN_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    TOOL_STARTED_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    START_CHILD_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_RUN_FIELD_NUMBER: _ClassVar[int]
    GET_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    TAKE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    CONTINUE_RUN_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    id: int
    run: int
    began: bool
    settle: bool
    stop: _cancel_pb2.Cancellation
    begin: Happened
    tool_started: _run_pb2.ToolCall
    pause: Pause
    start_child: StartChild
    history: int
    follow_run: FollowRun
    get: str
    wait: str
    take: int
    cancel: Cancel
    continue_run: Continue
    tenant: str
    owner: str
    def __init__(self, id: _Optional[int] = ..., run: _Optional[int] = ..., began: _Optional[bool] = ..., settle: _Optional[bool] = ..., stop: _Optional[_Union[_cancel_pb2.Cancellation, _Mapping]] = ..., begin: _Optional[_Union[Happened, _Mapping]] = ..., tool_started: _Optional[_Union[_run_pb2.ToolCall, _Mapping]] = ..., pause: _Optional[_Union[Pause, _Mapping]] = ..., start_child: _Optional[_Union[StartChild, _Mapping]] = ..., history: _Optional[int] = ..., follow_run: _Optional[_Union[FollowRun, _Mapping]] = ..., get: _Optional[str] = ..., wait: _Optional[str] = ..., take: _Optional[int] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., continue_run: _Optional[_Union[Continue, _Mapping]] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class Pause(_message.Message):
    __slots__ = ("question", "calls", "continuation", "above")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    ABOVE_FIELD_NUMBER: _ClassVar[int]
    question: str
    calls: _containers.RepeatedCompositeFieldContainer[_run_pb2.ToolCall]
    continuation: bytes
    above: _containers.RepeatedCompositeFieldContainer[HandedOver]
    def __init__(self, question: _Optional[str] = ..., calls: _Optional[_Iterable[_Union[_run_pb2.ToolCall, _Mapping]]] = ..., continuation: _Optional[bytes] = ..., above: _Optional[_Iterable[_Union[HandedOver, _Mapping]]] = ...) -> None: ...

class HandedOver(_message.Message):
    __slots__ = ("continuation", "children")
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    continuation: bytes
    children: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, continuation: _Optional[bytes] = ..., children: _Optional[_Iterable[str]] = ...) -> None: ...

class HandsOver(_message.Message):
    __slots__ = ("run", "handed")
    RUN_FIELD_NUMBER: _ClassVar[int]
    HANDED_FIELD_NUMBER: _ClassVar[int]
    run: int
    handed: _containers.RepeatedCompositeFieldContainer[HandedOver]
    def __init__(self, run: _Optional[int] = ..., handed: _Optional[_Iterable[_Union[HandedOver, _Mapping]]] = ...) -> None: ...

class StartChild(_message.Message):
    __slots__ = ("key", "offer", "input", "data", "path", "parts", "messages", "again")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    key: int
    offer: Offer
    input: str
    data: bytes
    path: _containers.RepeatedScalarFieldContainer[str]
    parts: _containers.RepeatedCompositeFieldContainer[_run_pb2.Part]
    messages: _containers.RepeatedCompositeFieldContainer[_run_pb2.Message]
    again: str
    def __init__(self, key: _Optional[int] = ..., offer: _Optional[_Union[Offer, _Mapping]] = ..., input: _Optional[str] = ..., data: _Optional[bytes] = ..., path: _Optional[_Iterable[str]] = ..., parts: _Optional[_Iterable[_Union[_run_pb2.Part, _Mapping]]] = ..., messages: _Optional[_Iterable[_Union[_run_pb2.Message, _Mapping]]] = ..., again: _Optional[str] = ...) -> None: ...

class FollowRun(_message.Message):
    __slots__ = ("key", "offer", "spec", "parent_run_id", "data")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PARENT_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    key: int
    offer: Offer
    spec: _run_pb2.RunSpec
    parent_run_id: str
    data: bytes
    def __init__(self, key: _Optional[int] = ..., offer: _Optional[_Union[Offer, _Mapping]] = ..., spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., parent_run_id: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("run_id", "cancellation", "grace_period", "before_start")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    BEFORE_START_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    cancellation: _cancel_pb2.Cancellation
    grace_period: float
    before_start: bool
    def __init__(self, run_id: _Optional[str] = ..., cancellation: _Optional[_Union[_cancel_pb2.Cancellation, _Mapping]] = ..., grace_period: _Optional[float] = ..., before_start: _Optional[bool] = ...) -> None: ...

class Continue(_message.Message):
    __slots__ = ("run_id", "decisions", "actor")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    actor: str
    def __init__(self, run_id: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., actor: _Optional[str] = ...) -> None: ...

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

class Trailer(_message.Message):
    __slots__ = ("trace", "children", "source", "steps")
    class TraceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TRACE_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    trace: _containers.ScalarMap[str, str]
    children: _containers.RepeatedScalarFieldContainer[str]
    source: _event_pb2.Source
    steps: _containers.RepeatedCompositeFieldContainer[OpenStep]
    def __init__(self, trace: _Optional[_Mapping[str, str]] = ..., children: _Optional[_Iterable[str]] = ..., source: _Optional[_Union[_event_pb2.Source, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[OpenStep, _Mapping]]] = ...) -> None: ...

class OpenStep(_message.Message):
    __slots__ = ("source", "run_id")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    source: _event_pb2.Source
    run_id: str
    def __init__(self, source: _Optional[_Union[_event_pb2.Source, _Mapping]] = ..., run_id: _Optional[str] = ...) -> None: ...

class Down(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[DownFrame]
    def __init__(self, frames: _Optional[_Iterable[_Union[DownFrame, _Mapping]]] = ...) -> None: ...

class DownFrame(_message.Message):
    __slots__ = ("hello", "start", "stop", "answer", "drop", "ping", "leave", "forget")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    start: Start
    stop: Stop
    answer: Answer
    drop: int
    ping: int
    leave: bool
    forget: int
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., stop: _Optional[_Union[Stop, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., drop: _Optional[int] = ..., ping: _Optional[int] = ..., leave: _Optional[bool] = ..., forget: _Optional[int] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "target", "options", "log_level", "log_json", "exclusive", "disclosure")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    LOG_JSON_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    DISCLOSURE_FIELD_NUMBER: _ClassVar[int]
    version: str
    target: str
    options: str
    log_level: str
    log_json: bool
    exclusive: bool
    disclosure: str
    def __init__(self, version: _Optional[str] = ..., target: _Optional[str] = ..., options: _Optional[str] = ..., log_level: _Optional[str] = ..., log_json: _Optional[bool] = ..., exclusive: _Optional[bool] = ..., disclosure: _Optional[str] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("run", "spec", "key", "parent", "trace", "tenant", "owner", "data", "resumed")
    class TraceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RUN_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    run: int
    spec: _run_pb2.RunSpec
    key: int
    parent: int
    trace: _containers.ScalarMap[str, str]
    tenant: str
    owner: str
    data: bytes
    resumed: Resumed
    def __init__(self, run: _Optional[int] = ..., spec: _Optional[_Union[_run_pb2.RunSpec, _Mapping]] = ..., key: _Optional[int] = ..., parent: _Optional[int] = ..., trace: _Optional[_Mapping[str, str]] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ..., data: _Optional[bytes] = ..., resumed: _Optional[_Union[Resumed, _Mapping]] = ...) -> None: ...

class Resumed(_message.Message):
    __slots__ = ("continuation", "decisions", "usage")
    CONTINUATION_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    continuation: bytes
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    usage: _run_pb2.Usage
    def __init__(self, continuation: _Optional[bytes] = ..., decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., usage: _Optional[_Union[_run_pb2.Usage, _Mapping]] = ...) -> None: ...

class Stop(_message.Message):
    __slots__ = ("run", "cancellation", "grace_period")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    run: int
    cancellation: _cancel_pb2.Cancellation
    grace_period: float
    def __init__(self, run: _Optional[int] = ..., cancellation: _Optional[_Union[_cancel_pb2.Cancellation, _Mapping]] = ..., grace_period: _Optional[float] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("id", "done", "began", "must_stop", "call", "decisions", "run", "runs", "following", "events", "receipt", "refusal")
    ID_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    BEGAN_FIELD_NUMBER: _ClassVar[int]
    MUST_STOP_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    id: int
    done: bool
    began: Began
    must_stop: bool
    call: _run_pb2.ToolCall
    decisions: Decisions
    run: _run_pb2.Run
    runs: Runs
    following: Following
    events: Events
    receipt: _run_service_pb2.CancelRunResponse
    refusal: Refusal
    def __init__(self, id: _Optional[int] = ..., done: _Optional[bool] = ..., began: _Optional[_Union[Began, _Mapping]] = ..., must_stop: _Optional[bool] = ..., call: _Optional[_Union[_run_pb2.ToolCall, _Mapping]] = ..., decisions: _Optional[_Union[Decisions, _Mapping]] = ..., run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., runs: _Optional[_Union[Runs, _Mapping]] = ..., following: _Optional[_Union[Following, _Mapping]] = ..., events: _Optional[_Union[Events, _Mapping]] = ..., receipt: _Optional[_Union[_run_service_pb2.CancelRunResponse, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Began(_message.Message):
    __slots__ = ("deadline",)
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    deadline: float
    def __init__(self, deadline: _Optional[float] = ...) -> None: ...

class Decisions(_message.Message):
    __slots__ = ("decisions",)
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    def __init__(self, decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ...) -> None: ...

class Runs(_message.Message):
    __slots__ = ("runs", "more")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[_run_pb2.Run]
    more: bool
    def __init__(self, runs: _Optional[_Iterable[_Union[_run_pb2.Run, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class Following(_message.Message):
    __slots__ = ("run_id", "watch")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    watch: int
    def __init__(self, run_id: _Optional[str] = ..., watch: _Optional[int] = ...) -> None: ...

class Events(_message.Message):
    __slots__ = ("responses", "ended")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedScalarFieldContainer[bytes]
    ended: bool
    def __init__(self, responses: _Optional[_Iterable[bytes]] = ..., ended: _Optional[bool] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "metadata", "message", "retry_after", "violations")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    metadata: _containers.ScalarMap[str, str]
    message: str
    retry_after: float
    violations: _containers.RepeatedCompositeFieldContainer[Violation]
    def __init__(self, reason: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., message: _Optional[str] = ..., retry_after: _Optional[float] = ..., violations: _Optional[_Iterable[_Union[Violation, _Mapping]]] = ...) -> None: ...

class Violation(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...
