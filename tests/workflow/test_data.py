"""What goes from one step to the next besides text, and what a workflow comes to then."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from pullcord import Agent, RunContext, runnable
from pullcord.models.base import Finished, Model, ModelChunk, ModelRequest, Text
from pullcord.run.finish import FinishReason
from pullcord.workflow import Condition, Loop, Parallel, Router, StepInput, StepOutput, Workflow

SEEN: list[Any] = []


class Hears(Model):
    """Says what it heard last."""

    id = "hears"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        yield Text(request.messages[-1].text)
        yield Finished(FinishReason.STOP)


def one(input: str) -> dict[str, Any]:
    return {"a": 1}


def more(input: str, input_data: Mapping[str, Any] | None) -> dict[str, Any]:
    SEEN.append((input, input_data))
    return {**(input_data or {}), "b": 2}


def looks(step_input: StepInput) -> StepOutput:
    SEEN.append(step_input.previous_step_data)
    return StepOutput("both", data={"text": "both"})


@pytest.fixture(autouse=True)
def seen() -> list[Any]:
    SEEN.clear()
    return SEEN


def test_a_step_gets_the_data_of_the_one_before(seen: list[Any]) -> None:
    """As data, and as JSON for what takes only text; the workflow's output is that JSON."""
    result = Workflow(name="W", steps=[one, more]).run("x")
    assert seen == [('{"a": 1}', {"a": 1})]
    assert result.content == '{"a": 1, "b": 2}'
    assert [step["output_data"] for step in result.output_data["steps"]] == [
        {"a": 1},
        {"a": 1, "b": 2},
    ]


def test_the_first_step_gets_the_workflows_own_data(seen: list[Any]) -> None:
    """Like its text, its parts and its messages."""
    Workflow(name="W", steps=[more]).run("x", input_data={"own": True})
    assert seen == [("x", {"own": True})]


@pytest.mark.parametrize(
    "step",
    [
        Loop([more], max_iterations=1),
        Condition(True, [more]),
        Router(lambda given: "more", [more]),
        Workflow(name="Inner", steps=[more]),
    ],
    ids=["loop", "condition", "router", "workflow"],
)
def test_groups_pass_data_on(step: Any, seen: list[Any]) -> None:
    """Into their steps, and what these made out of them; a nested workflow's is its text."""
    result = Workflow(name="W", steps=[one, step, more]).run("x")
    assert seen[0] == ('{"a": 1}', {"a": 1})
    assert seen[1][0] == '{"a": 1, "b": 2}'
    assert result.content.startswith("{")


def test_steps_at_the_same_time_make_data_by_their_ids(seen: list[Any]) -> None:
    """Each gets the data of the one before; what they made is under their ids."""
    Workflow(name="W", steps=[one, Parallel(more, looks), looks]).run("x")
    assert seen[-1] == {"more": {"a": 1, "b": 2}, "looks": {"text": "both"}}


def test_a_condition_reads_data() -> None:
    """What decides about steps gets the data of all that came before."""

    def decides(given: StepInput) -> bool:
        return given.get_step_data("one") == {"a": 1} and given.input_data is None

    result = Workflow(name="W", steps=[one, Condition(decides, [looks])]).run("x")
    assert result.content == "both"


def test_a_model_is_told_data_once() -> None:
    """An agent that follows a step with data hears it as JSON, and not twice."""
    result = Workflow(name="W", steps=[one, Agent(name="A", model=Hears())]).run("x")
    assert result.content == '{"a": 1}'


def test_the_list_of_a_nested_workflow_is_not_handed_on(seen: list[Any]) -> None:
    """It says what became of its steps, and is nothing to go on with."""

    @runnable
    def says(ctx: RunContext) -> str:
        return "words"

    Workflow(name="W", steps=[Workflow(name="Inner", steps=[says]), more]).run("x")
    assert seen == [("words", None)]
