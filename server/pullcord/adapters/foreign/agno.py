"""Agents, teams and workflows of agno, served as they are.

How a run of each is begun, read to its end, and continued after a pause. What its events mean is
`agno_events`' business. Each run has a copy of the object, as agno's own server makes them.
"""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Unpack

from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.requirement import RunRequirement

from pullcord.adapters.foreign.agno_events import Events
from pullcord.adapters.foreign.driver import ForeignRunFailed, ForeignRunnable, Placement, name_of
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import history_of, turns_of
from pullcord.adapters.foreign.values import text_of
from pullcord.native.approval import answer_of
from pullcord.native.carrying import of_form
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind, ToolCall
from pullcord.run.record import Decision, Run, is_runnable_name
from pullcord.run.resumed import Resumed
from pullcord.run.runnable import slug
from pullcord.run.state import RunState
from pullcord.run.takes import NOTHING

_FORM = "agno/1"


class _Agno(ForeignRunnable):
    """The part that the adapters of agents, teams and workflows share."""

    def __init__(
        self,
        given: Any,
        *,
        id: str | None = None,
        description: str | None = None,
        history: bool = True,
        **placement: Unpack[Placement],
    ) -> None:
        """Describes the object, which itself stays as it is.

        Args:
            given: agno's object.
            id: what callers name it by; made of its name if none is given.
            description: what it is, told to callers; its own if none is given.
            history: whether the session's earlier turns are told to the model. An object with a
                `db` keeps its own history, and is told only of turns that were stopped or failed,
                which agno leaves out.
            placement: where each run executes: `isolation` and `resources`.

        Raises:
            ValueError: no id can be made of the name, or there is no such placement.
        """
        told = getattr(given, "description", None)
        super().__init__(
            id=id or _id_of(given),
            name=name_of(given),
            fallback=self.kind.value,
            description=description or (told if isinstance(told, str) else ""),
            **placement,
        )
        self.given = given
        self._history = history

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        own = self.given.deep_copy()
        events = Events(ctx, report, own)
        told = {"session_id": ctx.session_key, "user_id": ctx.user_key or None}
        options = {**told, "stream": True, "stream_events": True, "yield_run_output": True}
        stream: AsyncIterator[Any]
        if ctx.resumed is None:
            stream = own.arun(await self._input(ctx, own), run_id=ctx.run_id, **options)
        else:
            stream = own.acontinue_run(**_taken_up(ctx.resumed), **options)
        while True:
            async for event in stream:
                events.take(event)
            if not (requirements := events.take_requirements()):
                return
            await _decide(report, requirements, _handed_over(events.output, requirements))
            stream = own.acontinue_run(
                run_response=events.output, requirements=requirements, **options
            )

    async def _input(self, ctx: RunContext, own: Any) -> Any:
        history = await history_of(ctx) if self._history else []
        if getattr(own, "db", None) is not None:
            history = _stopped_last(history)
        turns = turns_of(ctx, history)
        if len(turns) == 1:
            return turns[0].text
        return [Message(role=turn.role, content=turn.text) for turn in turns]


class AgnoAgent(_Agno):
    """An agent of agno."""


class AgnoTeam(_Agno):
    """A team of agno; its members' runs are child runs."""

    kind = SourceKind.TEAM

    def __init__(self, given: Any, **options: Any) -> None:
        """As an agent."""
        super().__init__(given, **options)
        members = given.members if isinstance(given.members, list) else []
        self.members = tuple(name_of(member) for member in members if name_of(member))


class AgnoWorkflow(_Agno):
    """A workflow of agno; the runs of its steps are child runs.

    A sync function as a step runs on the event loop, in agno itself; so write it `async def`.
    """

    kind = SourceKind.WORKFLOW
    takes = NOTHING

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        own = self.given.deep_copy()
        events = Events(ctx, report, own)
        stream = own.arun(
            ctx.input or (dict(ctx.input_data) if ctx.input_data else ""),
            run_id=ctx.run_id,
            session_id=ctx.session_key,
            user_id=ctx.user_key or None,
            stream=True,
            stream_events=True,
        )
        try:
            async for event in stream:
                events.take(event)
        finally:
            report.keep({"steps": events.steps()})
        if events.take_requirements():
            raise ForeignRunFailed(
                "a step of the workflow paused for a decision, which is not supported in workflows "
                "of agno; serve the agent or team by itself"
            )


def _id_of(given: Any) -> str | None:
    """The id that agno knows the object by, as one of ours."""
    id = getattr(given, "id", None)
    if not isinstance(id, str) or not id:
        return None
    return id if is_runnable_name(f"agents/{id}") else slug(id)


def _stopped_last(history: Sequence[Run]) -> list[Run]:
    """The last turns that agno leaves out of its own history."""
    stopped: list[Run] = []
    for run in reversed(history):
        if run.state is RunState.COMPLETED:
            break
        stopped.insert(0, run)
    return stopped


def _handed_over(output: Any, requirements: Sequence[Any]) -> bytes | None:
    """The run as agno writes it down; None: it is a team's, or holds more than JSON."""
    if type(output) is not RunOutput:
        return None
    told = {
        "form": _FORM,
        "output": output.to_dict(),
        "requirements": [requirement.to_dict() for requirement in requirements],
    }
    try:
        return json.dumps(told).encode()
    except (TypeError, ValueError):
        return None


def _taken_up(resumed: Resumed) -> dict[str, Any]:
    """The arguments that continue a run which paused elsewhere. Raises ContinuationRefused."""
    told = of_form(resumed.continuation, _FORM)
    output = RunOutput.from_dict(told["output"])
    tools = {tool.tool_call_id: tool for tool in output.tools or ()}
    requirements = [RunRequirement.from_dict(one) for one in told["requirements"]]
    for requirement, decision in zip(requirements, resumed.decisions, strict=True):
        own = requirement.tool_execution
        requirement.tool_execution = tools.get(own.tool_call_id, own)  # agno looks at the run's
        _enter(requirement, decision)
    return {"run_response": output, "requirements": requirements}


async def _decide(report: Report, requirements: Sequence[Any], handed_over: bytes | None) -> None:
    """Asks about the calls that a run waits for, and enters the decisions."""
    tools = [requirement.tool_execution for requirement in requirements]
    calls = [ToolCall(t.tool_call_id, t.tool_name, text_of(t.tool_args)) for t in tools]
    names = " and ".join(dict.fromkeys(call.tool_name for call in calls))
    decisions = await report.ask(f"May {names} be called?", calls, handed_over)
    for requirement, decision in zip(requirements, decisions, strict=True):
        _enter(requirement, decision)


def _enter(requirement: Any, decision: Decision) -> None:
    answer = answer_of(decision)
    if requirement.needs_confirmation:
        if answer is None:
            requirement.confirm()
        else:
            requirement.reject(decision.note or answer)
    elif requirement.needs_external_execution:
        requirement.set_external_execution_result("Approved." if answer is None else answer)
    elif requirement.needs_user_input:
        requirement.provide_user_input(_fields(requirement.user_input_schema or (), answer or ""))


def _fields(schema: Sequence[Any], answer: str) -> dict[str, Any]:
    """An answer as the fields that are asked for: a JSON object, or text for each of them."""
    try:
        read = json.loads(answer)
    except ValueError:
        read = None
    missing = [field.name for field in schema if field.value is None]
    return read if isinstance(read, dict) else dict.fromkeys(missing, answer)
