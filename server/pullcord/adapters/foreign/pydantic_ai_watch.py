"""What an agent of pydantic-ai does, as reports: by capabilities that stand around each run, the
served one and those that its code begins.

How a run begins, pauses and ends is the adapter's business.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability

from pullcord.adapters.foreign.children import id_of
from pullcord.adapters.foreign.driver import name_of
from pullcord.adapters.foreign.own_loop import OwnLoop
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.values import text_of
from pullcord.run.events import Source, ToolCallState
from pullcord.run.plain import class_name
from pullcord.run.usage import Usage


class Watch(AbstractCapability[Any]):  # type: ignore[misc]  # an extra's class, not checked
    """Reports what one run does, and keeps tools from beginning once it must stop."""

    source: Source | None = None
    """The child whose run it is; None: the served run itself."""

    def __init__(self, agent: Any, report: Report, loop: OwnLoop) -> None:
        self._agent = agent
        self.report = report
        self.loop = loop
        self.counted = Usage()
        """By the calls of models that were seen."""
        self._invalid: dict[str, Any] = {}
        self._has_streamed = False

    @property
    def _call(self) -> str:
        """What the report knows this run's calls of models by, of which there is one at a time."""
        return self.source.run_id if self.source is not None else ""

    # --- events

    def take(self, event: Any) -> None:
        """Reports an event of the stream, by its kind."""
        report, source = self.report, self.source
        match event.event_kind:
            case "part_start":
                self._piece(event.part.part_kind, getattr(event.part, "content", None))
            case "part_delta":
                delta = event.delta
                self._piece(delta.part_delta_kind, getattr(delta, "content_delta", None))
                if isinstance(asked := getattr(delta, "args_delta", None), str):
                    report.requested(asked, call=self._call)
            case "function_tool_call" if event.args_valid is False:
                self._invalid[event.part.tool_call_id] = event.part
            case "function_tool_result":
                if (call := self._invalid.pop(event.part.tool_call_id, None)) is not None:
                    id, asked = call.tool_call_id, call.args_as_json_str()
                    report.tool_started(id, call.tool_name, asked, source=source)
                    why = text_of(event.part.content)
                    report.tool_ended(id, why, ToolCallState.FAILED, source=source)

    def _piece(self, kind: str, content: Any) -> None:
        if not isinstance(content, str):
            return
        if kind == "text":
            self._has_streamed = True
            self.report.text(content, self.source, call=self._call)
        elif kind == "thinking":
            self.report.reasoning(content, self.source, call=self._call)

    def count(self, used: Usage) -> None:
        """So much was used by a call of a model."""
        self.counted += used

    # --- what the framework calls

    async def wrap_model_request(
        self, ctx: Any, *, request_context: Any, handler: Callable[[Any], Any]
    ) -> Any:
        """Stands around one call of a model."""
        report, call, model = self.report, self._call, request_context.model
        self._has_streamed = False
        await self.loop.begin(
            lambda: report.model_began(
                call,
                said=_said(request_context.messages),
                model=getattr(model, "model_name", ""),
                provider=getattr(model, "system", ""),
                source=self.source,
            )
        )
        try:
            response = await handler(request_context)
        except Exception as error:
            failure = class_name(error)
            self.loop.do(lambda: report.model_failed(failure, call))
            raise
        except BaseException:
            if self.source is not None:  # it may go on without this one
                self.loop.do(lambda: report.model_interrupted(call))
            raise
        self.loop.do(lambda: self._answered(response))
        return response

    def _answered(self, response: Any) -> None:
        self.report.finish_reason(response.finish_reason, self.source, call=self._call)
        # The code that began a child may not have asked for a stream.
        if self.source is not None and not self._has_streamed:
            for part in response.parts:
                self._piece(part.part_kind, getattr(part, "content", None))
        used = usage_of(response.usage)
        self.count(used)
        self.report.model_ended(used, self._call)

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Callable[[Any], Any]
    ) -> Any:
        """Stands around one call of a tool."""
        report, source, id = self.report, self.source, call.tool_call_id
        is_async, asked = self._is_async(call.tool_name), call.args_as_json_str()
        await self.loop.begin(
            lambda: report.tool_started(id, call.tool_name, asked, is_async=is_async, source=source)
        )
        before = _around.set(_Around(self, id))
        try:
            result = await handler(args)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            self.loop.do(lambda: report.tool_ended(id, why, ToolCallState.FAILED, source=source))
            raise
        finally:
            _around.reset(before)
        told = getattr(result, "return_value", result)
        self.loop.do(lambda: report.tool_ended(id, told, source=source))
        return result

    def _is_async(self, tool_name: str) -> bool | None:
        for toolset in self._agent.toolsets:
            tools = getattr(toolset, "tools", None)
            if isinstance(tools, dict) and (tool := tools.get(tool_name)) is not None:
                schema = getattr(tool, "function_schema", None)
                is_async: bool | None = getattr(schema, "is_async", None)
                return is_async
        return None


class _WithinRun(Watch):
    """Reports a run that the code of another one has begun, as a child of that one."""

    has_wrap_run_event_stream = False
    """A run is not streamed for our sake: not every model can. What its code streams, is heard."""

    def __init__(self, agent: Any, around: "_Around") -> None:
        super().__init__(agent, around.watch.report, around.watch.loop)
        self._above = around

    def count(self, used: Usage) -> None:
        """Counted for the one above as well, whose usage object it may share."""
        super().count(used)
        self._above.watch.count(used)

    async def wrap_run(self, ctx: Any, *, handler: Callable[[], Any]) -> Any:
        """Stands around the whole run."""
        report = self.report
        run_id = ctx.run_id or str(uuid.uuid4())
        self.source = await self.loop.ask(lambda: self._began(run_id))
        try:
            result = await handler()
        except Exception as failure:
            error = failure
            self.loop.do(lambda: report.child_ended(run_id, error=report.error(error)))
            raise
        except BaseException:
            self.loop.do(lambda: report.child_cancelled(run_id))
            raise
        self.loop.do(lambda: report.child_ended(run_id, text_of(result.output)))
        return result

    def _began(self, run_id: str) -> Source:
        name = name_of(self._agent) or "agent"
        above = self._above
        return self.report.child_started(
            run_id, id_of(name), name, parent=above.watch.source, within=above.tool_call
        )

    async def wrap_run_event_stream(self, ctx: Any, *, stream: Any) -> AsyncIterator[Any]:
        """Hears the events, of a run whose code streams it."""
        async for event in stream:
            self.loop.do(partial(self.take, event))
            yield event


# --- runs within runs


@dataclass(frozen=True, slots=True)
class _Around:
    """What code is executed within."""

    watch: Watch
    tool_call: str = ""


_around: ContextVar[_Around | None] = ContextVar("pullcord_pydantic_ai_around", default=None)


def watch_within(watch: Watch) -> None:
    """Runs that are begun from here on, in this context, are within this one."""
    _see_all_runs()
    _around.set(_Around(watch))


def _see_all_runs() -> None:
    """Has each run of an agent ask what it is within, once for this process.

    pydantic-ai has no hook for the runs of all agents; `Agent.iter` is what all of them go through.
    It is given one capability more where a served run is around it, and is as it was elsewhere.
    """
    begin = Agent.iter
    if hasattr(begin, "_pullcord"):
        return

    @wraps(begin)
    def iter(agent: Any, *args: Any, **options: Any) -> Any:
        around = _around.get()
        given = list(options.get("capabilities") or ())
        if around is not None and not any(one is around.watch for one in given):
            options["capabilities"] = [*given, _WithinRun(agent, around)]
        return begin(agent, *args, **options)

    iter._pullcord = True  # type: ignore[attr-defined]  # the mark that it was done
    Agent.iter = iter


def usage_of(used: Any) -> Usage:
    """What the framework counts, in our words."""
    details = getattr(used, "details", None) or {}
    return Usage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        reasoning_tokens=details.get("reasoning_tokens", 0),
        cached_tokens=used.cache_read_tokens,
        cost=float(getattr(used, "cost", None) or 0.0),
    )


def _said(messages: Any) -> str:
    """The words that a model reads, to estimate how many they are."""
    parts = (part for message in messages for part in message.parts)
    return "\n".join(
        text_of(getattr(part, "content", None) or getattr(part, "args", "")) for part in parts
    )
