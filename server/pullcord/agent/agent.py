"""The Agent: what an author writes down, and how one run of it goes.

An agent is a value: it holds no conversation and no run, and one object serves any number of runs
at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from pullcord.models.base import Model
from pullcord.native.conversation import conversation, system_text
from pullcord.native.in_process import Native
from pullcord.native.loop import converse
from pullcord.native.structured import checked_schema, deliver
from pullcord.native.tools import Tool, tools_by_name
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind
from pullcord.run.runnable import slug


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
        output_schema: type[BaseModel] | None = None,
    ) -> None:
        """Describes the agent.

        Args:
            model: who answers.
            name: for people; the id is made of it where none is given.
            id: what callers name it by.
            description: what it is, told to callers and to the model.
            instructions: what the model is to keep to; several make a list.
            tools: functions that the model may call. Their docstrings and type hints are what it is
                told of them; sync ones run in threads.
            output_schema: what the answer is to be, told to the model; a valid one becomes the
                run's `output_data`, and any other fails the run.

        Raises:
            TypeError: a function cannot be a tool, or the schema is no pydantic model.
            ValueError: two tools bear one name, or no id can be made of the name.
        """
        self.name = name
        self.id = id or slug(name or "agent")
        self.description = description or ""
        self.model = model
        self.instructions = instructions or ()
        self.output_schema = checked_schema(output_schema)
        self.tools = tools_by_name(map(Tool, tools))

    async def execute(self, ctx: RunContext) -> None:
        """Does one run: the session's earlier turns and the input go to the model."""
        # Read in a thread, because a shared store is asked over the network.
        history = await ctx.in_thread(ctx.history) if ctx.session_id else []
        system = system_text(self.description, self.instructions)
        messages = conversation(system, history, ctx.input, ctx.input_data)
        answer = await converse(ctx, self.model, messages, self.tools, self.output_schema)
        deliver(ctx, self.output_schema, answer)
