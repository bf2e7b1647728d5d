"""Tool calls put together from their pieces, however a provider cuts and numbers them.

Whether a call is executed is not decided here.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pullcord.models.base import ModelError, ToolRequest
from pullcord.models.reading import values

MAX_CALLS = 256
"""Calls of one answer."""
MAX_ARGUMENTS = 1024 * 1024
"""Characters of one call's arguments."""


_ADDED = re.compile(r"(?:functions|default_api|tools)[.:](.+?)(?::\d+)?")


@dataclass(slots=True)
class _Call:
    index: int | None
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    size: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    is_closed: bool = False
    """It came as a whole, and takes no more pieces."""
    is_doubtful: bool = False
    """It may be the name of the call before once more, unless arguments follow."""

    @property
    def written(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class Calls:
    """The calls of one answer, in their order."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        """The names of the tools on offer."""
        self._calls: list[_Call] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(
        self,
        *,
        index: int | None = None,
        id: str = "",
        name: str = "",
        arguments: str = "",
        extra: Mapping[str, Any] | None = None,
        closes: bool = False,
    ) -> None:
        """Takes a piece of a call, or with `closes` all of one.

        Raises:
            ModelError: there are too many calls, or one is too long.
        """
        if not (id or name or arguments or extra):
            return
        call = self._of(index, id, name, arguments)
        if call is not None and not (id or name or closes) and self._is_another(call, arguments):
            name, call = call.name, None
        if call is None:
            before = self._calls[-1] if self._calls else None
            call = _Call(index)
            self._calls.append(call)
            call.is_doubtful = (
                before is not None
                and before.index == index
                and before.name == name
                and (not id or id == before.id)
                and not arguments
            )
            if len(self._calls) > MAX_CALLS:
                raise ModelError(f"the model asked for more than {MAX_CALLS} tool calls at once")
        call.id = call.id or id
        call.name = self._named(call.name, name)
        for key, value in (extra or {}).items():
            call.extra[key] = values.merged(call.extra.get(key), value)
        if closes:
            call.pieces, call.is_closed = [arguments or call.written], True
            call.size = len(call.written)
        elif arguments and not self._is_repeated(call, arguments):
            call.pieces.append(arguments)
            call.size += len(arguments)
        if call.size > MAX_ARGUMENTS:
            raise ModelError(f"the arguments of a tool call exceed {MAX_ARGUMENTS} characters")

    def _of(self, index: int | None, id: str, name: str, arguments: str) -> _Call | None:
        """The call that a piece belongs to; None: it begins a new one."""
        for call in reversed(self._calls):
            # With another index it is one id for all of the calls, which says nothing.
            if id and call.id == id and index in (None, call.index):
                return call
        current = next((c for c in reversed(self._calls) if index in (None, c.index)), None)
        if current is None:
            if name or not self._calls:
                return None
            last = self._calls[-1]  # some servers number the pieces and not the calls
            return None if last.is_closed or values.is_whole_object(last.written) else last
        return None if name and self._begins(current, id, name, arguments) else current

    @staticmethod
    def _is_another(call: _Call, arguments: str) -> bool:
        """Whether arguments alone are those of another call of the same tool."""
        return (
            call.written.strip() not in ("{}", arguments.strip())
            and values.is_whole_object(arguments)
            and values.is_whole_object(call.written)
        )

    def _begins(self, current: _Call, id: str, name: str, arguments: str) -> bool:
        """Whether a piece with a name and the place of a call that is there begins another one.

        Some servers give every call the same index or none, others repeat the name in every piece,
        or change the id in every piece.
        """
        if not current.name:
            return False
        has_other_id = bool(id and current.id and id != current.id)
        if current.is_closed or values.is_whole_object(current.written):
            return has_other_id or arguments != current.written
        if name != current.name and not self._is_continued(current.name, name):
            return True
        if current.written:
            return has_other_id and (not arguments or arguments.lstrip().startswith("{"))
        return has_other_id and not arguments

    def _is_continued(self, name: str, more: str) -> bool:
        """Whether the second is the rest of a tool's name, or all of it so far."""
        return name not in self._names and any(
            known.startswith(name + more) or (more.startswith(name) and known.startswith(more))
            for known in self._names
        )

    def _named(self, name: str, more: str) -> str:
        if not name or not more or not self._is_continued(name, more):
            return name or more
        return more if more.startswith(name) else name + more

    @staticmethod
    def _is_repeated(call: _Call, arguments: str) -> bool:
        """Whether the call is whole, so that more can only say the same once more."""
        if call.is_closed:
            return True
        if len(call.pieces) != 1 and not arguments.startswith("{"):
            return False
        return call.written.strip() != "{}" and values.is_whole_object(call.written)

    def whole(self) -> Iterator[ToolRequest]:
        """The calls, now that no more pieces come."""
        taken: set[str] = set()
        for call in self._calls:
            if call.is_doubtful and not call.written:
                continue
            for arguments in values.all_arguments(call.written):
                id = call.id
                if not id or id in taken:
                    id = uuid.uuid4().hex[:9]  # Mistral takes nothing but nine letters and digits
                taken.add(id)
                yield ToolRequest(
                    id, self._known(call.name), arguments, values.kept(call.extra) or {}
                )

    def _known(self, name: str) -> str:
        """The tool's own name, where the model adds to it: `functions.now:0`, `default_api.now`."""
        if name in self._names or not (bare := _ADDED.fullmatch(name)):
            return name
        return bare[1] if bare[1] in self._names else name
