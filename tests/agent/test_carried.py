"""Agents and teams whose pause outlives their process: the conversation goes on where it was."""

from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord.agent import Agent, needs_approval
from pullcord.engine.clock import ThreadClock
from pullcord.models.base import (
    AssistantMessage,
    Finished,
    Kept,
    Model,
    ModelChunk,
    ModelRequest,
    Text,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.run.events import ToolCallState
from pullcord.run.finish import FinishReason
from pullcord.run.message import Part
from pullcord.run.record import Decision
from pullcord.run.state import RunState
from pullcord.team import Team
from pullcord.testing import nothing_left
from pydantic import BaseModel

from tests.engine.driving import ended
from tests.engine.processes import Process

PNG = Part(data=b"\x89PNG", media_type="image/png")


class Scripted(Model):
    """Gives its answers in order, and remembers what it was asked."""

    id = "scripted"

    def __init__(self, *answers: list[ModelChunk]) -> None:
        self.answers = list(answers)
        self.asked: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """The next answer."""
        self.asked.append(request)
        answer = self.answers.pop(0)
        for chunk in answer:
            yield chunk
        calls = any(isinstance(chunk, ToolRequest) for chunk in answer)
        yield Finished(FinishReason.TOOL_CALLS if calls else FinishReason.STOP)


def calls(*names: str, **arguments: str) -> list[ModelChunk]:
    """An answer that asks for these tools."""
    return [ToolRequest(f"{name}-id", name, arguments.get(name, "{}")) for name in names]


Next = Callable[[Any], Process]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Next]:
    """Ends one process, and begins the next one, which serves this."""
    made: list[Process] = []

    def make(served: Any) -> Process:
        if made:
            made[-1].engine.close()
        made.append(Process(tmp_path, ThreadClock(), {f"agents/{served.id}": served}))
        return made[-1]

    with nothing_left():
        yield make
        made[-1].engine.close()


done: list[str] = []


@needs_approval
def pay(amount: int) -> str:
    """Pays."""
    done.append(f"paid {amount}")
    return f"paid {amount}"


def look() -> str:
    """Looks."""
    done.append("looked")
    return "seen"


def yes(*ids: str) -> list[Decision]:
    return [Decision(id, approved=True) for id in ids]


def test_an_agents_conversation_goes_on(serve: Next) -> None:
    """The model is shown all that it was shown before the pause, and what came of each call; of
    several calls of the turn each is executed once, and none before the decision."""
    done.clear()
    model = Scripted(calls("look"), [Text("I pay. "), Kept({"sign": "ed"}), *calls("pay", "look")])
    model.answers[1][2] = ToolRequest("pay-id", "pay", '{"amount": 3}', {"a": 1})
    first = serve(Agent(name="a", model=model, tools=[pay, look], instructions="Be kind."))
    first.start(runnable="agents/a", input="Buy it")
    first.rests()
    assert done == ["looked"]
    before = model.asked[1].messages
    again = Scripted([Text("done")])
    second = serve(Agent(name="a", model=again, tools=[pay, look], instructions="Be rude."))
    second.engine.continue_run("r", yes("pay-id"))
    run = ended(second.engine)
    assert (run.state, run.output) == (RunState.COMPLETED, "I pay. done")
    assert sorted(done) == ["looked", "looked", "paid 3"]
    shown = again.asked[0].messages
    assert shown[: len(before)] == before
    answer, *results = shown[len(before) :]
    assert answer == AssistantMessage("I pay. ", tuple(model_calls(3)), {"sign": "ed"})
    assert results == [ToolMessage("pay-id", "paid 3"), ToolMessage("look-id", "seen")]
    assert [c.state for c in run.tool_calls] == [ToolCallState.COMPLETED] * 3
    assert run.usage.tool_calls == 3


class Price(BaseModel):
    """A price."""

    euros: int


PAYS = calls("pay", pay='{"amount": 3}')


def test_an_answer_that_did_not_fit_counts_after_the_pause(serve: Next) -> None:
    """What was asked again before the pause is not asked again after it; the output is the answer
    that fits alone."""

    def made(*answers: list[ModelChunk]) -> Agent:
        model = Scripted(*answers)
        return Agent(name="a", model=model, tools=[pay], output_schema=Price, output_retries=1)

    fits, wrong = [Text('{"euros": 3}')], [Text("cheap")]
    for answers, output in (([fits], '{"euros": 3}'), ([wrong, fits], "")):
        run_id = f"r{len(answers)}"
        first = serve(made(wrong, PAYS))
        first.start(run_id, runnable="agents/a", input="Buy it")
        first.rests(run_id)
        second = serve(made(*answers))
        second.engine.continue_run(run_id, yes("pay-id"))
        run = ended(second.engine, run_id)
        if output:
            assert (run.state, run.output) == (RunState.COMPLETED, output)
        else:
            assert run.state is RunState.FAILED


def test_a_call_that_failed_counts_after_the_pause(serve: Next) -> None:
    """The model that has not learnt from a failure before the pause fails by the same one after it
    as it would have without."""

    def broken() -> str:
        """Never works."""
        raise OSError("gone")

    def made(*answers: list[ModelChunk]) -> Agent:
        model = Scripted(*answers)
        return Agent(name="a", model=model, tools=[pay, broken], max_same_failures=2)

    first = serve(made(calls("broken"), PAYS))
    first.start(runnable="agents/a", input="Buy it")
    first.rests()
    second = serve(made(calls("broken"), [Text("It never ends.")]))
    second.engine.continue_run("r", yes("pay-id"))
    run = ended(second.engine)
    assert run.error is not None
    assert run.error.type == "RepeatedFailure"


def model_calls(amount: int) -> list[ToolRequest]:
    pays = ToolRequest("pay-id", "pay", f'{{"amount": {amount}}}', {"a": 1})
    return [pays, ToolRequest("look-id", "look", "{}")]


def test_a_turn_with_files_goes_on(serve: Next) -> None:
    """What the user sent beside the text is shown again as it was."""
    model = Scripted([*calls("pay", pay='{"amount": 1}')])
    model.media = type(model.media)(data=("image/png",))
    first = serve(Agent(name="a", model=model, tools=[pay]))
    first.start(runnable="agents/a", input="This", parts=(PNG,))
    first.rests()
    again = Scripted([Text("done")])
    second = serve(Agent(name="a", model=again, tools=[pay]))
    second.engine.continue_run("r", [Decision("pay-id", answer="in cash")])
    assert ended(second.engine).output == "done"
    assert again.asked[0].messages[0] == UserMessage("This", (PNG,))
    assert again.asked[0].messages[-1] == ToolMessage("pay-id", "in cash")


def test_a_tool_that_has_changed_is_not_called(serve: Next) -> None:
    """A decision is about what was shown: with other parameters, or gone, the run fails in words,
    and nothing is executed. What it did before stands."""
    done.clear()
    first = serve(Agent(name="a", model=Scripted(calls("pay", pay='{"amount": 1}')), tools=[pay]))
    first.start(runnable="agents/a", input="Buy it")
    first.rests()

    def changed(amount: int, account: str) -> str:
        """Pays."""
        done.append("paid otherwise")
        return "paid"

    changed.__name__ = "pay"
    second = serve(Agent(name="a", model=Scripted([Text("?")]), tools=[needs_approval(changed)]))
    second.engine.continue_run("r", yes("pay-id"))
    run = ended(second.engine)
    assert run.error is not None
    assert run.error.type == "ContinuationRefused"
    assert "'pay' has changed" in run.error.message
    assert done == []


def test_a_model_that_keeps_more_than_json_says_so(serve: Next) -> None:
    """What only its process can hold is not handed over, and the pause says that."""
    answer = [Kept(object()), *calls("pay", pay='{"amount": 1}')]
    first = serve(Agent(name="a", model=Scripted(answer), tools=[pay]))
    first.start(runnable="agents/a", input="Buy it")
    assert not first.paused().survives


def test_a_leaders_members_are_not_forgotten(serve: Next) -> None:
    """What a team's members had made before the leader's own call waited stands in its result."""
    delegate = {"delegate_to_member": '{"member_id": "helper", "task": "help"}'}
    leader = Scripted(
        calls("delegate_to_member", **delegate),
        calls("pay", pay='{"amount": 2}'),
    )
    helper = Agent(name="helper", model=Scripted([Text("helped")]))
    first = serve(Team(name="t", id="t", members=[helper], model=leader, tools=[pay]))
    first.start(runnable="agents/t", input="Go")
    first.rests()
    more = Scripted(calls("delegate_to_member", **delegate), [Text("all done")])
    helper = Agent(name="helper", model=Scripted([Text("helped again")]))
    second = serve(Team(name="t", id="t", members=[helper], model=more, tools=[pay]))
    second.engine.continue_run("r", yes("pay-id"))
    run = ended(second.engine)
    assert run.output == "all done"
    assert run.output_data is not None
    members = dict(run.output_data)["members"]
    assert [entry["output"] for entry in members] == ["helped", "helped again"]
