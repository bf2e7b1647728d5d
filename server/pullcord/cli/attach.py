"""`--data` and `--attach`: what goes with the text of a run.

Files, standard input and addresses become its parts, and a JSON object its `input_data`. The
server bounds their size; its error names the file. An attachment that no server takes is refused
before it is read.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from pullcord.cli.exits import wrong_usage
from pullcord.engine.options import MAX_PARTS_BYTES
from pullcord.run.errors import CallFailed, InvalidArgument, Violation
from pullcord.run.message import Part, guessed_type, is_media_type
from pullcord.run.plain import plain
from pullcord.run.readers import MAX_INPUT_DATA

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_FIELD = re.compile(r"spec\.parts\[(\d+)\]")
_MIB = 1024 * 1024
_AN_OBJECT = """write '{"name": "value"}'"""


def parts_of(attached: Sequence[str] | None) -> tuple[Part, ...]:
    """The parts that these options stand for.

    Each is FILE, FILE:media/type, an address, or `-` for standard input. Raises typer.Exit, after
    saying what is wrong.
    """
    parts: list[Part] = []
    room = MAX_PARTS_BYTES
    for text in attached or ():
        part = _part(text, room)
        room -= part.size
        parts.append(part)
    return tuple(parts)


def data_of(text: str | None) -> Mapping[str, Any] | None:
    """The object of this JSON, or of that on standard input if it is `-`; None if none is given.

    Raises typer.Exit, after saying what is wrong.
    """
    if text is None:
        return None
    try:
        data = json.loads(sys.stdin.read() if text == "-" else text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise wrong_usage(f"--data: it is no JSON: {error}; {_AN_OBJECT}") from None
    if not isinstance(data, dict):
        raise wrong_usage(f"--data: it must be a JSON object; {_AN_OBJECT}")
    try:
        return plain(data, "--data", MAX_INPUT_DATA)
    except ValueError as error:
        raise wrong_usage(str(error)) from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _part(text: str, room: int) -> Part:
    where, given = _split(text)
    name = "" if where == "-" else Path(where.rstrip("/")).name
    media_type = given or guessed_type(name)
    if not media_type:
        raise wrong_usage(
            f"--attach {text}: its media type cannot be guessed; write {where}:image/png"
        )
    if _ADDRESS.match(where):
        return Part(uri=where, media_type=media_type, name=name)
    return Part(data=_read(where, text, room), media_type=media_type, name=name)


def _split(text: str) -> tuple[str, str]:
    """The file and its media type, if that is given; a file's own name may have colons."""
    where, colon, media_type = text.rpartition(":")
    if colon and where and is_media_type(media_type) and not Path(text).exists():
        return where, media_type
    return text, ""


def _read(where: str, text: str, room: int) -> bytes:
    try:
        if where == "-":
            data = sys.stdin.buffer.read(room + 1)
        else:
            with Path(where).open("rb") as file:
                data = file.read(room + 1)
    except OSError as error:
        raise wrong_usage(f"--attach {text}: {error.strerror or error}") from None
    if not data:
        raise wrong_usage(f"--attach {text}: it is empty")
    if len(data) > room:
        most = f"all attachments together may have {MAX_PARTS_BYTES // _MIB} MiB"
        raise wrong_usage(f"--attach {text}: it is too large: {most}, on any server")
    return data


@contextmanager
def named(parts: Sequence[Part]) -> Iterator[None]:
    """Puts the name of an attachment into the server's error about it."""
    try:
        yield
    except InvalidArgument as refused:
        raise InvalidArgument(*(_named(v, parts) for v in refused.violations)) from None
    except CallFailed as refused:
        if refused.code == "RESOURCE_EXHAUSTED" and parts:
            size = sum(part.size for part in parts) / _MIB
            words = f"the attachments have {size:.1f} MiB, which is more than this server takes"
            raise InvalidArgument(Violation("--attach", words)) from None
        raise


def _named(violation: Violation, parts: Sequence[Part]) -> Violation:
    found = _FIELD.match(violation.field)
    if found is None or int(found[1]) >= len(parts):
        return violation
    name = parts[int(found[1])].name or "standard input"
    return Violation("", f"--attach {name}: {violation.description}")
