"""The input of a run: a text, data, parts of the user's turn, and messages that came before it.

Frozen values, and the rules for their fields. What a runnable takes of them is in `takes`; how a
model's provider is sent them is the model's business.
"""

import mimetypes
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pullcord.run.errors import Violation
from pullcord.run.plain import cut

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9*][A-Za-z0-9!#$&^_.+-]*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f]+")
_NO_ADDRESS = ("file:", "data:")

MAX_MEDIA_TYPE = 127
"""Characters."""
MAX_PART_NAME = 255
"""Characters of a file's name, and of the name of a message's speaker."""
MAX_URI = 8192
"""Characters."""
MAX_SHOWN = 1024
"""Bytes of a part's text that a Run shows."""
MIB = 1024 * 1024

TEXTUAL = (
    "text/*",
    "application/json",
    "application/ld+json",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
    "application/javascript",
    "application/x-sh",
    "application/sql",
)
"""Media types of files that are text, in UTF-8 unless the file is broken."""


class Role(StrEnum):
    """The author of a message."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"
    """A tool that was called somewhere else: its result, as text."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message: text, a file by its address, or a file. One of the three is set."""

    text: str | None = None
    uri: str | None = None
    """An address such as `https://…`. The model's provider fetches it, and no process of ours."""
    data: bytes | None = field(default=None, repr=False)
    media_type: str = ""
    """Such as `image/png`; needed with `uri` and `data`. Empty with text: text/plain."""
    name: str = ""
    """The file's name."""

    @classmethod
    def file(cls, path: str | Path, media_type: str = "") -> "Part":
        """A file of this machine, read now; its media type is guessed from its name if not given.

        Raises:
            OSError: it cannot be read.
            ValueError: no media type is known for its name.
        """
        path = Path(path)
        media_type = media_type or guessed_type(path.name)
        if not media_type:
            raise ValueError(f"the media type of {path.name!r} is not known; give one")
        return cls(data=path.read_bytes(), media_type=media_type, name=path.name)

    @property
    def kind(self) -> str:
        """Its media type in small letters."""
        return self.media_type.lower() or ("text/plain" if self.text is not None else "")

    @property
    def size(self) -> int:
        """Bytes of what it holds, and of what is said about it."""
        text = (self.text or "") + (self.uri or "") + self.media_type + self.name
        return _size(text) + len(self.data or b"")

    @property
    def as_text(self) -> str | None:
        """The text, if the part is text in any form; else None."""
        if self.text is not None:
            return self.text
        if self.data is not None and is_textual(self.kind):
            return self.data.decode("utf-8-sig", "replace")
        return None

    @property
    def label(self) -> str:
        """A name for people, such as `photo.png (image/png)`."""
        name = self.name or ("a text" if self.text is not None else "a file")
        return f"{name} ({self.kind})" if self.kind else name

    def brief(self) -> "Part":
        """The part as a caller sees it later: no file, and of a text the beginning."""
        text = None if self.text is None else cut(self.text, MAX_SHOWN)
        return replace(self, text=text, data=None)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation that a caller brings."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str = ""
    """Of who said it; of a TOOL message the tool's, and needed."""

    @classmethod
    def of(cls, role: Role | str, *parts: Part | str, name: str = "") -> "Message":
        """A message: `Message.of("user", "What is this?", Part.file("photo.png"))`.

        Raises ValueError where there is no such role.
        """
        made = tuple(Part(part) if isinstance(part, str) else part for part in parts)
        return cls(Role(role), made, name)

    @property
    def text(self) -> str:
        """All of its text."""
        return "\n\n".join(filter(None, (part.as_text for part in self.parts)))


@dataclass(frozen=True, slots=True)
class Given:
    """The whole input of a run."""

    input: str = ""
    data: Mapping[str, Any] | None = None
    parts: tuple[Part, ...] = ()
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class PartBounds:
    """The most that a run may be given so."""

    count: int = 1000
    """Parts, those of its messages included; messages, too."""
    part_bytes: int = 4 * MIB
    """Of one part."""
    all_bytes: int = 8 * MIB
    """Of all parts, those of its messages included."""


BOUNDS = PartBounds()


def matches(media_type: str, patterns: Iterable[str]) -> bool:
    """Whether the media type is one of these, such as `image/*`."""
    family = media_type.partition("/")[0]
    return any(pattern in (media_type, f"{family}/*", "*/*") for pattern in patterns)


def is_textual(media_type: str) -> bool:
    """Whether files of this type are text."""
    return matches(media_type, TEXTUAL)


def is_media_type(text: str) -> bool:
    """Whether this can be a media type."""
    return len(text) <= MAX_MEDIA_TYPE and _MEDIA_TYPE.fullmatch(text) is not None


def guessed_type(name: str) -> str:
    """The media type that a file of this name has, usually; empty: none is known."""
    return _KNOWN.get(Path(name).suffix.lower()) or mimetypes.guess_type(name)[0] or ""


_KNOWN = {
    ".md": "text/markdown",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".wav": "audio/wav",
    ".ts": "text/plain",  # mimetypes takes it for a film
}
"""Media types on which systems' lists differ."""


def is_uri(text: str) -> bool:
    """Whether this is an absolute address."""
    return len(text) <= MAX_URI and _URI.fullmatch(text) is not None


def violations(
    parts: Sequence[Part], messages: Sequence[Message], bounds: PartBounds
) -> list[Violation]:
    """Every wrong field, by its path within the spec, such as `parts[2].data`."""
    count = len(parts) + sum(len(message.parts) for message in messages)
    if max(count, len(messages)) > bounds.count:
        where = "parts" if len(parts) > bounds.count or not messages else "messages"
        what = f"all parts, those of messages included, must be at most {bounds.count}"
        return [Violation(where, f"{what}, and are {max(count, len(messages))}")]
    found = [v for i, part in enumerate(parts) for v in _of_part(part, f"parts[{i}]", bounds)]
    for index, message in enumerate(messages):
        found += _of_message(message, f"messages[{index}]", bounds)
    total = sum(part.size for part in (*parts, *(p for m in messages for p in m.parts)))
    if total > bounds.all_bytes:
        where = "messages" if messages and not parts else "parts"
        what = f"all parts, those of messages included, must be at most {bounds.all_bytes} bytes"
        found.append(Violation(where, f"{what} together, and have {total}"))
    return found


def _of_message(message: Message, where: str, bounds: PartBounds) -> list[Violation]:
    found = []
    if not message.parts:
        found.append(Violation(f"{where}.parts", "must be at least one"))
    if message.role is Role.TOOL and not message.name:
        found.append(Violation(f"{where}.name", "is required: the name of the tool"))
    if not _is_name(message.name):
        found.append(Violation(f"{where}.name", _NAME))
    for index, part in enumerate(message.parts):
        path = f"{where}.parts[{index}]"
        found += _of_part(part, path, bounds)
        if message.role is not Role.USER and part.text is None:
            found.append(Violation(path, "must be text: only a message of USER may have files"))
    return found


def _of_part(part: Part, where: str, bounds: PartBounds) -> list[Violation]:
    found = []
    if sum(held is not None for held in (part.text, part.uri, part.data)) != 1:
        found.append(Violation(where, "must have one of text, uri and data"))
    if part.text is not None and (size := _size(part.text)) > bounds.part_bytes:
        found.append(_too_much(f"{where}.text", size, bounds))
    if part.uri is not None and not is_uri(part.uri):
        found.append(Violation(f"{where}.uri", f"must be a URI of at most {MAX_URI} characters"))
    elif part.uri is not None and part.uri.lower().startswith(_NO_ADDRESS):
        found.append(Violation(f"{where}.uri", "must not be a file: or data: address; send data"))
    if part.data is not None:
        if not part.data:
            found.append(Violation(f"{where}.data", "must not be empty"))
        elif len(part.data) > bounds.part_bytes:
            found.append(_too_much(f"{where}.data", len(part.data), bounds))
        elif is_textual(part.kind) and not _is_utf8(part.data):
            found.append(Violation(f"{where}.data", f"must be UTF-8, as it is {part.kind}"))
    if not part.media_type and (part.uri is not None or part.data is not None):
        needed = "is required with uri and data, such as 'image/png'"
        found.append(Violation(f"{where}.media_type", needed))
    elif part.media_type and (not is_media_type(part.media_type) or "*" in part.media_type):
        found.append(Violation(f"{where}.media_type", "must look like 'image/png'"))
    if not _is_name(part.name):
        found.append(Violation(f"{where}.name", _NAME))
    return found


def _too_much(where: str, size: int, bounds: PartBounds) -> Violation:
    return Violation(where, f"must be at most {bounds.part_bytes} bytes, and has {size}")


_NAME = f"must be at most {MAX_PART_NAME} characters, and none that controls a terminal"


def _is_name(text: str) -> bool:
    return len(text) <= MAX_PART_NAME and (not text or text.isprintable())


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
