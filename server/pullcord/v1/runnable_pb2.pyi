from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunnableKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUNNABLE_KIND_UNSPECIFIED: _ClassVar[RunnableKind]
    RUNNABLE_KIND_AGENT: _ClassVar[RunnableKind]
    RUNNABLE_KIND_TEAM: _ClassVar[RunnableKind]
    RUNNABLE_KIND_WORKFLOW: _ClassVar[RunnableKind]
RUNNABLE_KIND_UNSPECIFIED: RunnableKind
RUNNABLE_KIND_AGENT: RunnableKind
RUNNABLE_KIND_TEAM: RunnableKind
RUNNABLE_KIND_WORKFLOW: RunnableKind

class Takes(_message.Message):
    __slots__ = ("parts", "messages", "data_types", "uri_types")
    PARTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPES_FIELD_NUMBER: _ClassVar[int]
    URI_TYPES_FIELD_NUMBER: _ClassVar[int]
    parts: bool
    messages: bool
    data_types: _containers.RepeatedScalarFieldContainer[str]
    uri_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parts: _Optional[bool] = ..., messages: _Optional[bool] = ..., data_types: _Optional[_Iterable[str]] = ..., uri_types: _Optional[_Iterable[str]] = ...) -> None: ...

class Runnable(_message.Message):
    __slots__ = ("name", "kind", "id", "display_name", "description", "members", "takes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    TAKES_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: RunnableKind
    id: str
    display_name: str
    description: str
    members: _containers.RepeatedScalarFieldContainer[str]
    takes: Takes
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[RunnableKind, str]] = ..., id: _Optional[str] = ..., display_name: _Optional[str] = ..., description: _Optional[str] = ..., members: _Optional[_Iterable[str]] = ..., takes: _Optional[_Union[Takes, _Mapping]] = ...) -> None: ...
