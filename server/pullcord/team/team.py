"""The Team: a leader with members, and the one tool by which it hands them work.

A team is a value, like an agent. A member's work is a child run of the team's, which can be
watched and cancelled alone; the engine knows parents and children. The result of a
team's run is its leader's text, and as data the list of what its members made.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from operator import itemgetter
from typing import Any

from pydantic import BaseModel

from pullcord.adapters.offering import runnables
from pullcord.models.base import Model, checked_model
from pullcord.native.carrying import loaded
from pullcord.native.conversation import conversation_of, system_text, takes_of
from pullcord.native.endings import OnCutOff
from pullcord.native.in_process import Native
from pullcord.native.loop import LoopOptions, converse
from pullcord.native.structured import checked_schema, deliver
from pullcord.native.tools import Tool, tools_by_name
from pullcord.native.waiting import again, waiting_for
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind
from pullcord.run.outcomes import Outcomes
from pullcord.run.record import Run
from pullcord.run.resources import Resources, checked_resources
from pullcord.run.runnable import Isolation, Runnable, checked_isolation, slug
from pullcord.run.state import RunState


class Team(Native):
    """A model that leads, and members that work for it."""

    kind = SourceKind.TEAM
    is_async = True

    def __init__(
        self,
        *,
        members: Sequence[Runnable | Callable[..., Any]],
        model: Model,
        name: str = "",
        id: str | None = None,
        description: str | None = None,
        instructions: str | Sequence[str] | None = None,
        tools: Sequence[Callable[..., Any]] = (),
        output_schema: type[BaseModel] | None = None,
        output_retries: int = 0,
        on_cut_off: OnCutOff = "complete",
        max_model_calls: int | None = 50,
        max_same_failures: int | None = 3,
        isolation: Isolation | None = None,
        resources: Resources | None = None,
    ) -> None:
        """Describes the team.

        Args:
            members: agents, teams, workflows, functions: whatever can be run.
            model: the leader.
            name: for people; the id is made of it if none is given.
            id: what callers name it by.
            description: what it is, for callers and the leader.
            instructions: the rules for the leader; several make a list.
            tools: functions that the leader may call itself.
            output_schema: the shape of the answer, sent to the model; a valid one becomes the
                run's `output_data`, and any other fails the run.
            output_retries: how often the model gets an error and is asked again if its answer does
                not fit the schema, before the run fails.
            on_cut_off: as for an Agent, of the leader's answer.
            max_model_calls: as for an Agent, of the leader's calls.
            max_same_failures: as for an Agent, of the leader's tool calls.
            isolation: as for an Agent; its members execute in the same process.
            resources: as for an Agent; None: the most that one of its members needs.

        Raises:
            TypeError: a member cannot be run, the model is none, a function cannot be a tool, or
                the schema is no pydantic model.
            ValueError: there are no members, two members or two tools bear one name, no id can be
                made of the name, a bound or the isolation is wrong, or a member needs more
                resources than were given.
        """
        self.name = name
        self.id = id or slug(name or "team")
        self.description = description or ""
        self.isolation = checked_isolation(isolation, self.id)
        self.model = checked_model(model, self.id)
        self.takes = takes_of(model)
        self.instructions = instructions or ()
        self.output_schema = checked_schema(output_schema)
        given = runnables(members, "members")
        if not given:
            raise ValueError(f"the team {self.id!r} has no members; give at least one")
        self.resources = checked_resources(resources, self.id, given)
        self.members = tuple(member.id for member in given)
        self._members = {member.id: member for member in given}
        if len(self._members) < len(given):
            raise ValueError(f"two members of {self.id!r} have one id: {', '.join(self.members)}")
        self.tools = tools_by_name((self._delegation(), *map(Tool, tools)))
        self.options = LoopOptions(on_cut_off, max_model_calls, max_same_failures, output_retries)

    async def execute(self, ctx: RunContext) -> None:
        """Does one run: the leader is asked, and hands out work, until it has its answer."""
        outcomes = self._outcomes_of(ctx)
        _outcomes.set(outcomes)  # for this run's task and its tool calls alone
        system = system_text(self.description, [*_several(self.instructions), self._introduction()])
        messages = await conversation_of(ctx, system, self.model)
        answer = await converse(
            ctx,
            self.model,
            messages,
            self.tools,
            self.output_schema,
            self.options,
            outcomes.data,
        )
        deliver(ctx, self.output_schema, answer)

    def _outcomes_of(self, ctx: RunContext) -> Outcomes:
        """None yet; or those of before the pause, if the run goes on after one."""
        if ctx.resumed is None:
            return Outcomes("members")
        turn = loaded(ctx.resumed.continuation, self.model, self.tools)
        return Outcomes.of("members", turn.extra, itemgetter("run_id"))

    def _introduction(self) -> str:
        about = (f"{m.id}: {m.description or m.name or m.id}" for m in self._members.values())
        return "You lead a team. Its members are: " + "; ".join(about)

    def _delegation(self) -> Tool:
        async def delegate_to_member(member_id: str, task: str, ctx: RunContext) -> str:
            """Hand a task to a member of the team, and get back what the member made of it.

            Args:
                member_id: The member's id.
                task: What is to be done, with everything the member must know.
            """
            member = self._members.get(member_id)
            if member is None:
                raise LookupError(
                    f"there is no member {member_id!r}; the members are: {', '.join(self.members)}"
                )
            return _reported(await _hand_over(ctx, member, task))

        return Tool(delegate_to_member)


_outcomes: ContextVar[Outcomes] = ContextVar("outcomes")
"""The results of the members of the run at work."""


async def _hand_over(ctx: RunContext, member: Runnable, task: str) -> Run:
    """Has a member do its work; what it made is kept, whatever becomes of the team."""
    outcomes = _outcomes.get()
    child = ctx.start(member, task, again=again())
    outcomes.begin(child.run_id, {"member": member.id}, child.run_id)
    ctx.set_output(None, outcomes.data())
    try:
        with waiting_for(child.run_id):
            return await child.wait()
    finally:
        outcomes.keep(child.run_id, {"member": member.id}, child.snapshot())
        ctx.set_output(None, outcomes.data())


def _several(instructions: str | Sequence[str]) -> list[str]:
    return [instructions] if isinstance(instructions, str) else list(instructions)


def _reported(run: Run) -> str:
    """The tool's result for the leader: a member's output, with a note if it did not complete."""
    if run.state is RunState.COMPLETED:
        return run.output
    if run.state is RunState.CANCELLED:
        stop = run.cancellation
        why = f": {stop.reason}" if stop is not None and stop.reason else ""
        note = f"[the member was stopped before its end{why}]"
    else:
        error = run.error
        note = f"[the member failed: {error.type}: {error.message}]" if error else "[it failed]"
    return f"{run.output}\n\n{note}" if run.output else note
