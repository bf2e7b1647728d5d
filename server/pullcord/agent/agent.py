"""The Agent: what an author writes down, and how one run of it goes.

An agent is a value: it holds no conversation and no run, and one object serves any number of runs
at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from pydantic import BaseModel

from pullcord.agent.mcp.server import McpServer, checked_servers, connecting
from pullcord.models.base import Model, checked_model
from pullcord.native.conversation import conversation_of, system_text, takes_of
from pullcord.native.endings import OnCutOff
from pullcord.native.in_process import Native
from pullcord.native.loop import LoopOptions, converse
from pullcord.native.structured import checked_schema, deliver
from pullcord.native.tools import CallableTool, Tool, tools_by_name
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind
from pullcord.run.resources import Resources, checked_resources
from pullcord.run.runnable import Isolation, checked_isolation, slug


class Agent(Native):
    """A model with instructions and tools."""

    kind = SourceKind.AGENT
    is_async = True
    members: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        model: Model,
        name: str = "",
        id: str | None = None,
        description: str | None = None,
        instructions: str | Sequence[str] | None = None,
        tools: Sequence[Callable[..., Any]] = (),
        mcp: Sequence[McpServer] = (),
        output_schema: type[BaseModel] | None = None,
        output_retries: int = 0,
        on_cut_off: OnCutOff = "complete",
        max_model_calls: int | None = 50,
        max_same_failures: int | None = 3,
        isolation: Isolation | None = None,
        resources: Resources | None = None,
    ) -> None:
        """Describes the agent.

        Args:
            model: who answers.
            name: for people; the id is made of it if none is given.
            id: what callers name it by.
            description: what it is, for callers and the model.
            instructions: the rules for the model; several make a list.
            tools: functions that the model may call. It gets their docstrings and type hints; sync
                ones run in threads.
            mcp: servers whose tools the model may call, too.
            output_schema: the shape of the answer, sent to the model; a valid one becomes the
                run's `output_data`, and any other fails the run.
            output_retries: how often the model gets an error and is asked again if its answer does
                not fit the schema, before the run fails.
            on_cut_off: "fail" fails a run whose answer the limit of tokens cut off; "complete"
                leaves it with the text so far, if there is any.
            max_model_calls: one more ends the run CANCELLED, cause BUDGET; None is no bound.
            max_same_failures: after so many failures of one call with the same arguments and the
                same error the run fails; None is no bound.
            isolation: "process" gives each run a process for itself; None: it shares one.
            resources: the room that each run needs, such as Resources(cpu=2, gpu=1); it waits,
                PENDING, for a worker that has it, where `pullcord serve` places it.

        Raises:
            TypeError: the model is none, a function cannot be a tool, the schema is no
                pydantic model, or the resources are no Resources.
            MissingExtra: there are MCP servers, and the extra `mcp` is not installed.
            ValueError: two tools or servers bear one name, no id can be made of the name, or a
                bound or the isolation is wrong.
        """
        self.name = name
        self.id = id or slug(name or "agent")
        self.description = description or ""
        self.isolation = checked_isolation(isolation, self.id)
        self.resources = checked_resources(resources, self.id)
        self.model = checked_model(model, self.id)
        self.takes = takes_of(model)
        self.instructions = instructions or ()
        self.output_schema = checked_schema(output_schema)
        self.tools = tools_by_name(map(Tool, tools))
        self.mcp = checked_servers(mcp)
        self.options = LoopOptions(on_cut_off, max_model_calls, max_same_failures, output_retries)

    async def execute(self, ctx: RunContext) -> None:
        """Does one run: the session's earlier turns and the input go to the model."""
        system = system_text(self.description, self.instructions)
        messages = await conversation_of(ctx, system, self.model)
        async with self._all_tools(ctx) as tools:
            answer = await converse(
                ctx, self.model, messages, tools, self.output_schema, self.options
            )
        deliver(ctx, self.output_schema, answer)

    def _all_tools(
        self, ctx: RunContext
    ) -> AbstractAsyncContextManager[Mapping[str, CallableTool]]:
        """The agent's own tools, and those of its servers while one run needs them."""
        if not self.mcp:
            return nullcontext(self.tools)
        made: AbstractAsyncContextManager[Mapping[str, CallableTool]]
        made = connecting().connected(ctx, self.mcp, self.tools)
        return made
