"""The reference of the protocol, from the comments in protos/. No text of it is written here."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).parents[2]
PACKAGE = "pullcord.v1"
# Numbers of fields in descriptor.proto: a comment is found by the path of numbers that leads to it.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _NESTED, _NESTED_ENUM, _METHOD, _VALUE = 2, 3, 4, 2, 2

Where = tuple[int, ...]


def page() -> str:
    """Every service, message and enum."""
    parts = [
        "# Protocol\n",
        f"The package `{PACKAGE}`. [gRPC](../grpc.md) says how to call it.\n",
    ]
    for file in sorted(_files(), key=lambda each: not each.service):
        parts += _File(file).sections()
    return "\n".join(parts)


def _files() -> list[FileDescriptorProto]:
    buf = Path(sys.executable).with_name("buf")
    command = [buf, "build", "--as-file-descriptor-set", "--output", "-#format=binpb"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    everything = FileDescriptorSet.FromString(done.stdout)
    return [file for file in everything.file if file.package == PACKAGE]


class _File:
    """One .proto file with its comments."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._told: dict[Where, str] = {
            tuple(each.path): each.leading_comments for each in file.source_code_info.location
        }

    def sections(self) -> Iterator[str]:
        for number, service in enumerate(self._file.service):
            yield self._service(service, (_SERVICE, number))
        for number, message in enumerate(self._file.message_type):
            yield from self._message(message, message.name, (_MESSAGE, number))
        for number, enum in enumerate(self._file.enum_type):
            yield self._enum(enum, enum.name, (_ENUM, number))

    def _service(self, service: ServiceDescriptorProto, where: Where) -> str:
        lines = [f"## {service.name}\n\n{self._text(where)}\n"]
        for number, rpc in enumerate(service.method):
            answer = "stream of " if rpc.server_streaming else ""
            lines.append(
                f"### {rpc.name}\n\nTakes {_type(rpc.input_type)}, answers {answer}"
                f"{_type(rpc.output_type)}.\n\n{self._text((*where, _METHOD, number))}\n"
            )
        return "\n".join(lines)

    def _message(self, message: DescriptorProto, name: str, where: Where) -> Iterator[str]:
        entries = {each.name: each for each in message.nested_type if each.options.map_entry}
        rows = [
            (f"`{field.name}` = {field.number}", _kind(field, entries), self._cell(at))
            for number, field in enumerate(message.field)
            for at in [(*where, _FIELD, number)]
        ]
        yield f"## {name}\n\n{self._text(where)}\n\n{_table(('Field', 'Type', 'Meaning'), rows)}"
        for number, nested in enumerate(message.nested_type):
            if nested.name not in entries:
                yield from self._message(nested, f"{name}.{nested.name}", (*where, _NESTED, number))
        for number, enum in enumerate(message.enum_type):
            yield self._enum(enum, f"{name}.{enum.name}", (*where, _NESTED_ENUM, number))

    def _enum(self, enum: EnumDescriptorProto, name: str, where: Where) -> str:
        rows = [
            (f"`{value.name}` = {value.number}", self._cell((*where, _VALUE, number)))
            for number, value in enumerate(enum.value)
        ]
        return f"## {name}\n\n{self._text(where)}\n\n{_table(('Value', 'Meaning'), rows)}"

    def _text(self, where: Where) -> str:
        lines = self._told.get(where, "").splitlines()
        return "\n".join(line.removeprefix(" ") for line in lines).replace("<", "&lt;")

    def _cell(self, where: Where) -> str:
        return " ".join(self._text(where).split()).replace("|", "\\|")


def _kind(field: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        return f"map of {_kind(key, {})} to {_kind(value, {})}"
    name = _type(field.type_name) if field.type_name else _scalar(field)
    return f"list of {name}" if field.label == FieldDescriptorProto.LABEL_REPEATED else name


def _scalar(field: FieldDescriptorProto) -> str:
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _type(name: str) -> str:
    """A link to a type's section; the types of others are only named."""
    own = name.removeprefix(f".{PACKAGE}.")
    if own == name:
        return f"`{name.removeprefix('.')}`"
    return f"[{own}](#{own.replace('.', '').lower()})"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) if rows else ""
