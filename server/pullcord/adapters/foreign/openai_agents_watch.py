"""What an agent of the OpenAI Agents SDK does, as reports: by hooks of each run, the served one and
those that its code begins. They are awaited before every call of a model and of a tool.

How a run begins, pauses and ends is the adapter's business.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import agents.tool
from agents import AgentsException, RunHooks
from agents.lifecycle import RunHooksBase
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner

from pullcord.adapters.foreign.children import id_of
from pullcord.adapters.foreign.driver import name_of
from pullcord.adapters.foreign.own_loop import OwnLoop
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.values import text_of
from pullcord.run.events import Source
from pullcord.run.plain import class_name
from pullcord.run.usage import Usage

_SYNC_MARK: str | None = getattr(agents.tool, "_SYNC_FUNCTION_TOOL_MARKER", None)
"""The attribute by which the SDK knows its sync tools; None: this version has none."""


class Hooks(RunHooks[Any]):  # type: ignore[misc]  # an extra's class, not checked
    """Reports what one run does, and keeps calls from beginning once it must stop."""

    source: Source | None = None
    """The child whose run it is; None: the served run itself."""

    def __init__(self, report: Report, loop: OwnLoop, run_id: str) -> None:
        self.report = report
        self.loop = loop
        self.run_id = run_id
        self._counted = Usage()
        self._speaker = ""
        """The agent that is heard, of those that hand over to each other."""

    def take(self, event: Any) -> None:
        """Reports an event of the stream."""
        report, source, call = self.report, self.source, self.run_id
        if event.type == "agent_updated_stream_event":
            before, self._speaker = self._speaker, name_of(event.new_agent)
            if before:  # the SDK tells of the first agent as well
                report.custom("agent_updated", {"agent": self._speaker}, source)
            return
        if event.type != "raw_response_event":
            return
        data = event.data
        match data.type:
            case "response.output_text.delta" | "response.refusal.delta":
                report.text(data.delta, source, call=call, speaker=self._speaker)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                report.reasoning(data.delta, source, call=call)
            case "response.function_call_arguments.delta":
                report.requested(data.delta, call=call)
            case "response.incomplete":
                details = data.response.incomplete_details
                report.finish_reason(getattr(details, "reason", None), source, call=call)

    def counted(self, total: Any) -> None:
        """So much was used and counted before the run paused in another process."""
        self._counted = _usage(total)

    def count_the_rest(self, total: Any) -> None:
        """What was counted by this run's own usage object, and not seen by us."""
        missing = _usage(total) - self._counted
        if missing.input_tokens > 0 or missing.output_tokens > 0:
            self.report.used(missing)

    def count(self, used: Usage) -> None:
        """So much was used by a call of a model."""
        self._counted += used

    def broke_off(self, error: BaseException) -> None:
        """The run has failed, or was interrupted."""
        self.loop.do(lambda: self._broke_off(error))

    def _broke_off(self, error: BaseException) -> None:
        # What the SDK itself raises, such as a guardrail's end, interrupts a call under way.
        if isinstance(error, Exception) and not isinstance(error, AgentsException):
            self.report.model_failed(class_name(error), self.run_id)
        else:
            self.report.model_interrupted(self.run_id)

    # --- what the SDK awaits

    async def on_llm_start(
        self, context: Any, agent: Any, system_prompt: str | None, input_items: Any
    ) -> None:
        """A model is about to be asked."""
        model = getattr(agent.model, "model", agent.model)
        said = "\n".join((system_prompt or "", *map(_words, input_items)))
        named = model if isinstance(model, str) else ""
        await self.loop.begin(
            lambda: self.report.model_began(
                self.run_id, said=said, model=named, provider="openai", source=self.source
            )
        )

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        """A model's answer has ended. Many servers do not report usage unless they are asked."""
        self.loop.do(lambda: self._answered(agent, response))

    def _answered(self, agent: Any, response: Any) -> None:
        used = _usage(response.usage)
        self.count(used)
        self.report.model_ended(used if used.total_tokens else None, self.run_id)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        """A tool is about to be called."""
        id, arguments = _id(context, tool), getattr(context, "tool_arguments", "")
        is_async = _is_async(tool)
        await self.loop.begin(
            lambda: self.report.tool_started(
                id, tool.name, arguments, is_async=is_async, source=self.source
            )
        )

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        """A tool has returned."""
        id = _id(context, tool)
        self.loop.do(lambda: self.report.tool_ended(id, result, source=self.source))


class _WithinRun(Hooks):
    """Reports a run that the code of another one has begun, as a child of that one."""

    def __init__(self, agent: Any, above: Hooks, tool_call: str, *, hears_stream: bool) -> None:
        # A run that waits for an approval goes on as the same child.
        run_id = f"{above.run_id}:{tool_call}" if tool_call else str(uuid.uuid4())
        super().__init__(above.report, above.loop, run_id)
        self._name = name_of(agent) or "agent"
        self._above = above
        self._tool_call = tool_call
        self._hears_stream = hears_stream

    def count(self, used: Usage) -> None:
        """Counted for the one above as well, whose usage object it may share."""
        super().count(used)
        self._above.count(used)

    def began(self) -> None:
        """The run begins."""
        self.source = self.report.child_started(
            self.run_id,
            id_of(self._name),
            self._name,
            parent=self._above.source,
            within=self._tool_call,
        )

    def ended(self, result: Any) -> None:
        """The run has ended, unless it waits for an approval."""
        if not result.interruptions:
            output = result.final_output
            self.loop.do(lambda: self.report.child_ended(self.run_id, text_of(output)))

    def _broke_off(self, error: BaseException) -> None:
        super()._broke_off(error)
        if isinstance(error, Exception):
            self.report.child_ended(self.run_id, error=self.report.error(error))
        else:
            self.report.child_cancelled(self.run_id)

    def _answered(self, agent: Any, response: Any) -> None:
        """The SDK tells what a model says only to those who stream; of others, all of it now."""
        if not self._hears_stream:
            for item in response.output:
                for part in getattr(item, "content", None) or ():
                    text = getattr(part, "text", None) or getattr(part, "refusal", None)
                    speaker = name_of(agent)
                    self.report.text(text or "", self.source, call=self.run_id, speaker=speaker)
        super()._answered(agent, response)


# --- runs within runs

_around: ContextVar[Hooks | None] = ContextVar("pullcord_openai_agents_around", default=None)


def watch_within(hooks: Hooks) -> None:
    """Runs that are begun from here on, in this context, are within this one."""
    if not isinstance(get_default_agent_runner(), _Runner):
        set_default_agent_runner(_Runner(get_default_agent_runner()))
    _around.set(hooks)


class _Runner(AgentRunner):  # type: ignore[misc]  # as above
    """The SDK's runner, which also tells the run around one of those that are begun within it.

    The SDK gives a run's hooks to no run within it, so each of those is given hooks of its own.
    """

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    async def run(self, starting_agent: Any, input: Any, **options: Any) -> Any:
        """As the SDK's."""
        hooks = _hooks_within(starting_agent, options)
        if hooks is None:
            return await self._runner.run(starting_agent, input, **options)
        await hooks.loop.ask(hooks.began)
        with _around_those(hooks):
            result = await self._runner.run(starting_agent, input, **options)
        hooks.ended(result)
        return result

    def run_sync(self, starting_agent: Any, input: Any, **options: Any) -> Any:
        """As the SDK's."""
        hooks = _hooks_within(starting_agent, options)
        if hooks is None:
            return self._runner.run_sync(starting_agent, input, **options)
        hooks.loop.wait_for(hooks.began)
        with _around_those(hooks):
            result = self._runner.run_sync(starting_agent, input, **options)
        hooks.ended(result)
        return result

    def run_streamed(self, starting_agent: Any, input: Any, **options: Any) -> Any:
        """As the SDK's."""
        hooks = _hooks_within(starting_agent, options, hears_stream=True)
        if hooks is None:
            return self._runner.run_streamed(starting_agent, input, **options)
        hooks.loop.wait_for(hooks.began)
        with _around_those(hooks):
            result = self._runner.run_streamed(starting_agent, input, **options)
        result.stream_events = _heard(result, hooks)
        return result


@contextmanager
def _around_those(hooks: _WithinRun) -> Iterator[None]:
    """A block that begins the run of these hooks: what is begun in it is within that run, and what
    the block raises ends it."""
    before = _around.set(hooks)
    try:
        yield
    except BaseException as error:
        hooks.broke_off(error)
        raise
    finally:
        _around.reset(before)


def _hooks_within(
    agent: Any, options: dict[str, Any], *, hears_stream: bool = False
) -> _WithinRun | None:
    """The hooks of a run within another, which are put beside its own; None: it is within none."""
    around, given = _around.get(), options.get("hooks")
    if around is None or given is around or not isinstance(given, RunHooksBase | None):
        return None
    tool_call = getattr(options.get("context"), "tool_call_id", "")
    hooks = _WithinRun(agent, around, tool_call, hears_stream=hears_stream)
    options["hooks"] = hooks if given is None else _Both(hooks, given)
    return hooks


def _heard(result: Any, hooks: _WithinRun) -> Callable[[], AsyncIterator[Any]]:
    """The events of a run, heard on their way to its code."""
    stream = result.stream_events

    async def stream_events() -> AsyncIterator[Any]:
        try:
            async with aclosing(stream()) as events:
                async for event in events:
                    hooks.loop.do(partial(hooks.take, event))
                    yield event
        except BaseException as error:
            hooks.broke_off(error)
            raise
        hooks.ended(result)

    return stream_events


class _Both(RunHooks[Any]):  # type: ignore[misc]  # as above
    """Two hooks for one run: ours, and its own."""

    def __init__(self, *hooks: Any) -> None:
        self._hooks = hooks

    async def on_llm_start(self, *told: Any) -> None:
        """As theirs."""
        await self._each("on_llm_start", told)

    async def on_llm_end(self, *told: Any) -> None:
        """As theirs."""
        await self._each("on_llm_end", told)

    async def on_agent_start(self, *told: Any) -> None:
        """As theirs."""
        await self._each("on_agent_start", told)

    async def on_agent_end(self, *told: Any) -> None:
        """As theirs."""
        await self._each("on_agent_end", told)

    async def on_handoff(self, *told: Any, **named: Any) -> None:
        """As theirs."""
        await self._each("on_handoff", told, **named)

    async def on_tool_start(self, *told: Any) -> None:
        """As theirs."""
        await self._each("on_tool_start", told)

    async def on_tool_end(self, *told: Any) -> None:
        """As theirs."""
        await self._each("on_tool_end", told)

    async def _each(self, name: str, told: tuple[Any, ...], **named: Any) -> None:
        for hooks in self._hooks:
            await getattr(hooks, name)(*told, **named)


def _id(context: Any, tool: Any) -> str:
    return getattr(context, "tool_call_id", None) or str(tool.name)


def _is_async(tool: Any) -> bool | None:
    if getattr(tool, "_is_agent_tool", False):
        return True
    invoke = getattr(tool, "on_invoke_tool", None)
    if invoke is None or _SYNC_MARK is None:
        return None
    return not getattr(invoke, _SYNC_MARK, False)


def _words(item: Any) -> str:
    """The words of an item that a model reads, to estimate how many they are."""
    if not isinstance(item, dict):
        return text_of(item)
    return text_of(item.get("content") or item.get("arguments") or item.get("output"))


def _usage(used: Any) -> Usage:
    return Usage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        reasoning_tokens=getattr(used.output_tokens_details, "reasoning_tokens", 0) or 0,
        cached_tokens=getattr(used.input_tokens_details, "cached_tokens", 0) or 0,
    )
