"""Plain functions as runnables: sync or async, returning or yielding.

A function takes what it names: `input`, `ctx` (the RunContext), `input_data`, `parts`, `messages`;
a single parameter of any other name gets the input. It returns or yields strings, which are
content, or events.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, overload

from pullcord.run.context import RunContext
from pullcord.run.events import Payload, SourceKind
from pullcord.run.resources import Resources, checked_resources
from pullcord.run.runnable import Isolation, checked_isolation, slug
from pullcord.run.takes import Takes

_OFFERS = ("input", "ctx", "input_data", "parts", "messages")


class FunctionRunnable:
    """A function that can be run as `agents/<id>`; still callable as the function it is."""

    kind = SourceKind.AGENT
    members: tuple[str, ...] = ()

    def __init__(
        self,
        function: Callable[..., Any],
        id: str | None = None,
        description: str | None = None,
        *,
        isolation: Isolation | None = None,
        resources: Resources | None = None,
        offers: Mapping[str, Any] | None = None,
    ) -> None:
        """`offers` are further things that its parameters may name, or be annotated with.

        Raises TypeError where the function needs a parameter that no run can give or the
        resources are no Resources, and ValueError where there is no such isolation.
        """
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.id = id or slug(self.name)
        self.description = (
            description if description is not None else inspect.getdoc(function) or ""
        )
        self.is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(
            function
        )
        self.isolation = checked_isolation(isolation, self.id)
        self.resources = checked_resources(resources, self.id)
        self._offers = dict(offers or {})
        self._parameters = _parameters(function, self._offers)
        self.takes = _takes(set(self._parameters.values()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function itself, without a run."""
        return self.function(*args, **kwargs)

    def execute(self, ctx: RunContext) -> Any:
        """Calls the function for one run, and streams what it returns or yields."""
        offers = {"ctx": ctx, **self._offers}
        call = partial(
            self.function,
            **{
                parameter: offers[offer] if offer in offers else getattr(ctx, offer)
                for parameter, offer in self._parameters.items()
            },
        )
        if self.is_async:
            return _drain_async(call, ctx)
        made = call()
        if isinstance(made, Iterator):
            _drain(made, ctx)
        else:
            _say(made, ctx)
        return None


@overload
def runnable(function: Callable[..., Any], /) -> FunctionRunnable: ...


@overload
def runnable(
    *,
    id: str | None = None,
    description: str | None = None,
    isolation: Isolation | None = None,
    resources: Resources | None = None,
) -> Callable[[Callable[..., Any]], FunctionRunnable]: ...


def runnable(
    function: Callable[..., Any] | None = None,
    /,
    *,
    id: str | None = None,
    description: str | None = None,
    isolation: Isolation | None = None,
    resources: Resources | None = None,
) -> Any:
    """Makes a function something that can be served: `@runnable` or `@runnable(id="counter")`.

    Without an id its name is made into one; without a description its docstring is it. With
    `isolation="process"` each of its runs has a process for itself. With `resources`, each waits,
    PENDING, for a worker that has that room.
    """
    if function is not None:
        return FunctionRunnable(function)
    return lambda decorated: FunctionRunnable(
        decorated, id, description, isolation=isolation, resources=resources
    )


def _parameters(function: Callable[..., Any], more: Mapping[str, Any]) -> dict[str, str]:
    """Which of our offers each parameter takes."""
    takes: dict[str, str] = {}
    by_type = {"RunContext": "ctx"} | {type(value).__name__: name for name, value in more.items()}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = parameter.annotation
        type_name = (
            annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        )
        if parameter.name in _OFFERS or parameter.name in more:
            takes[parameter.name] = parameter.name
        elif (offer := by_type.get(type_name.rpartition(".")[2])) is not None:
            takes[parameter.name] = offer
        elif "input" not in takes.values() and (not takes or parameter.default is parameter.empty):
            takes[parameter.name] = "input"
        elif parameter.default is parameter.empty:
            offers = ", ".join((*_OFFERS, *more))
            raise TypeError(f"{function} needs {parameter.name!r}; a run can give {offers}")
    return takes


def _takes(offers: AbstractSet[str]) -> Takes:
    """The inputs of a function with these parameters; with the context, it takes everything."""
    parts = "parts" in offers or "ctx" in offers
    files = ("*/*",) if parts else ()
    return Takes(parts, "messages" in offers or "ctx" in offers, files, files)


def _drain(made: Iterator[Any], ctx: RunContext) -> None:
    write = ctx.write
    try:
        for item in made:
            if type(item) is str:
                write(item)
            else:
                _say(item, ctx)
    finally:
        close = getattr(made, "close", None)
        if close is not None:
            close()


async def _drain_async(call: Callable[[], Any], ctx: RunContext) -> None:
    made = call()  # not before the task's first step: one that is stopped earlier never calls it
    if not isinstance(made, AsyncIterator):
        _say(await made, ctx)
        return
    write = ctx.write
    try:
        async for item in made:
            if type(item) is str:
                write(item)
            else:
                _say(item, ctx)
    finally:
        close = getattr(made, "aclose", None)
        if close is not None:
            await close()


def _say(item: Any, ctx: RunContext) -> None:
    if item is None:
        return
    if isinstance(item, str):
        ctx.write(item)
    elif isinstance(item, Mapping):
        ctx.set_output(None, item)
    elif isinstance(item, Payload):
        ctx.emit(item)
    elif isinstance(content := getattr(item, "content", None), str):  # such as a StepOutput
        ctx.write(content)
        if isinstance(data := getattr(item, "data", None), Mapping):
            ctx.set_output(None, data)
    else:
        raise TypeError(
            f"a run yields strings, events or (returns) a mapping, not {type(item).__name__}"
        )
