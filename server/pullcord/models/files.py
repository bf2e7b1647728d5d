"""Files on their way to a provider: as base64, as `data:` addresses, and with a name.

What a message of one provider looks like is in its own module. Nothing here reads a file.
"""

import base64
import mimetypes
from collections.abc import Iterable

from pullcord.models.base import Media, Message, ModelError, UserMessage
from pullcord.run.message import Part, matches


def check_media(messages: Iterable[Message], media: Media, model: str, provider: str) -> None:
    """Raises ModelError for the first file that this model does not take.

    Most are refused before their run begins. Others come later: in a session's earlier turns, which
    another model has answered.
    """
    for message in messages:
        for part in message.parts if isinstance(message, UserMessage) else ():
            if part.text is not None:
                continue
            taken = media.uri if part.data is None else media.data
            if not matches(part.kind, taken):
                how = "by its address" if part.data is None else "as data"
                types = ", ".join(taken) or "no files"
                words = f"the model {model!r} takes {types} {how}, and not {part.label}"
                raise ModelError(words, provider=provider)


def encoded(part: Part) -> str:
    """The file's data as base64."""
    return base64.b64encode(part.data or b"").decode()


def address(part: Part) -> str:
    """The file's address: its URI, or a `data:` address that holds it."""
    return part.uri if part.uri is not None else f"data:{part.kind};base64,{encoded(part)}"


def file_name(part: Part) -> str:
    """The file's name, or one that fits its type: some providers look at the ending."""
    return part.name or f"file{mimetypes.guess_extension(part.kind) or ''}"


def family(part: Part) -> str:
    """The first half of its media type, such as `image`."""
    return part.kind.partition("/")[0]
