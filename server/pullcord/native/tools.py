"""Plain functions as tools: their description for a model, and their calls.

A function's name, docstring and type hints are all there is to write. When tools are called, and
what becomes of one that raises, is not decided here.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NotRequired, Protocol, TypeVar, get_type_hints

import docstring_parser
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import to_json
from typing_extensions import TypedDict

from pullcord.models.base import ToolDefinition
from pullcord.models.reading.text import encodable
from pullcord.models.reading.values import whole_arguments
from pullcord.run.context import RunContext
from pullcord.run.errors import PublicError
from pullcord.run.plain import words

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__pullcord_needs_approval__"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ToolFailed(Exception):
    """A tool ended in a way that is no ordinary exception; the message says in which."""


class InvalidArguments(PublicError):
    """The model gave arguments that do not fit the tool; the message names them."""


class NotApproved(PublicError):
    """The tool needs somebody's approval, and has none for this call."""


def needs_approval(function: F) -> F:
    """Marks a tool that is executed only after somebody has approved the call.

    When a model asks for it, the run pauses; ContinueRun brings the decision. An answer instead of
    an approval is what the call returns, so that a tool can also be a question to a human.
    """
    setattr(function, _MARK, True)
    return function


class CallableTool(Protocol):
    """A tool as an agent's loop uses it, wherever it is executed."""

    @property
    def name(self) -> str:
        """The tool's name for the model."""

    @property
    def definition(self) -> ToolDefinition:
        """Its name, description and parameters, as the model gets them."""

    def is_to_be_asked_about(self, arguments: str) -> bool:
        """Whether a call with these arguments waits for approval; one that must fail does not."""

    async def call(self, ctx: RunContext, arguments: str, *, approved: bool = False) -> str:
        """Calls it, and returns its result as text. May raise anything."""


class Tool:
    """One function that a model may call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Reads the function.

        Parameters are described to the model by their type hints and by the docstring; one that is
        annotated `RunContext` is filled by us, and the model never hears of it.

        Raises:
            TypeError: the function cannot be a tool.
        """
        self._function = function
        self.needs_approval = getattr(function, _MARK, False) is True
        self._is_async = inspect.iscoroutinefunction(function)
        name = getattr(function, "__name__", "")
        if not _NAME.fullmatch(name):
            raise TypeError(f"a tool needs a name that models can say, not {name!r}: use def")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{name} is a generator; a tool returns its result in one piece")
        told = docstring_parser.parse(inspect.getdoc(function) or "")
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
        self._contexts = [p for p in parameters if hints.get(p) is RunContext]
        offered = {n: p for n, p in parameters.items() if n not in self._contexts}
        descriptions = {p.arg_name: p.description for p in told.params}
        fields = {n: _field(name, p, hints, descriptions.get(n)) for n, p in offered.items()}
        # A TypedDict rather than a model: any name can be a key, and what the model leaves out
        # stays out, so that the function's own default holds.
        shape = with_config(ConfigDict(extra="forbid"))(TypedDict(name, fields))  # type: ignore[operator]  # made at run time
        self._arguments: TypeAdapter[dict[str, Any]] = TypeAdapter(shape)
        self.definition = ToolDefinition(
            name, told.description or "", _schema(self._arguments, offered)
        )

    @property
    def name(self) -> str:
        """The tool's name for the model."""
        return self.definition.name

    def is_to_be_asked_about(self, arguments: str) -> bool:
        """Whether a call with these arguments waits for approval; one that must fail does not."""
        if not self.needs_approval:
            return False
        try:
            self._read(arguments)
        except InvalidArguments:
            return False
        return True

    async def call(self, ctx: RunContext, arguments: str, *, approved: bool = False) -> str:
        """Calls the function, a sync one in a thread, and returns its result as text.

        Raises:
            InvalidArguments: they are not JSON, or not what the function takes.
            NotApproved: the function needs an approval, and nothing says that it has one.
            Exception: whatever the function raises.
        """
        given = self._read(arguments)
        if self.needs_approval and not approved:
            raise NotApproved(f"{self.name} needs an approval")
        given.update(dict.fromkeys(self._contexts, ctx))
        if self._is_async:
            return _text_of(await self._function(**given))

        def in_thread() -> Any:
            try:
                result = self._function(**given)
            except (
                KeyboardInterrupt
            ) as error:  # of its own: one at a keyboard meets the main thread
                raise ToolFailed(f"it raised KeyboardInterrupt: {error}".rstrip(": ")) from error
            return result if inspect.isawaitable(result) else _text_of(result)

        result = await ctx.in_thread(in_thread)
        if inspect.isawaitable(result):  # a sync wrapper around an async function
            return _text_of(await result)
        text: str = result
        return text

    def _read(self, arguments: str) -> dict[str, Any]:
        try:
            return self._arguments.validate_json(whole_arguments(arguments))
        except ValidationError as error:
            raise InvalidArguments(explained(error, "arguments")) from error


def _text_of(result: Any) -> str:
    """A result as text: a text as it is, anything else as JSON, what has no JSON by its `str`."""
    if isinstance(result, str):
        return encodable(str.__str__(result))
    try:
        return to_json(result, fallback=words, inf_nan_mode="constants").decode()
    except Exception:  # bytes that are no UTF-8, an object within itself, an author's serializer
        return encodable(words(result))


def tools_by_name(tools: Iterable[Tool]) -> dict[str, Tool]:
    """Tools by name, in order. Raises ValueError where two bear one name."""
    named: dict[str, Tool] = {}
    for tool in tools:
        if tool.name in named:
            raise ValueError(f"two tools are called {tool.name!r}")
        named[tool.name] = tool
    return named


def _field(
    tool: str, parameter: inspect.Parameter, hints: Mapping[str, Any], description: str | None
) -> Any:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise TypeError(f"{tool}: the parameter {parameter} has no name that a model could use")
    kind: Any = hints.get(parameter.name, Any)
    if description:
        kind = Annotated[kind, Field(description=description)]
    return kind if parameter.default is parameter.empty else NotRequired[kind]


def _schema(
    arguments: TypeAdapter[dict[str, Any]], parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    schema = arguments.json_schema()
    schema.pop("title", None)
    for name, described in schema.setdefault("properties", {}).items():
        described.pop("title", None)  # only repeats the name
        default = parameters[name].default
        if isinstance(default, str | int | float):
            described["default"] = default
    return schema


def explained(error: ValidationError, whole: str) -> str:
    """Every error with its place, in words for a model or a caller; `whole` names the top level."""
    found = (
        f"{'.'.join(map(str, problem['loc'])) or whole}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False)
    )
    return "; ".join(found)
