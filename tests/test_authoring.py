"""What an author gets to see who writes something wrong: at once, by name, and with what to do."""

from typing import Any

import pytest
from pullcord import Agent, OfflineModel, Parallel, RunServer, Step, Team, Workflow, runnable
from pullcord.client import RunClient
from pullcord.workflow import Loop


@runnable
def say(input: str) -> str:
    return input


MODEL = OfflineModel()
ONE = Agent(name="One", model=MODEL)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Agent(model="gpt-5-mini"), TypeError, r"OpenAIChat\(id='gpt-5-mini'\)"),
        (
            lambda: Agent(name="A", model=None),
            TypeError,
            "the model of 'a' must be a Model, not None",
        ),
        (lambda: Agent(model=OfflineModel), TypeError, "the class OfflineModel"),
        (lambda: Agent(name=7, model=MODEL), TypeError, "a name must be text, not int"),
        (lambda: Team(model=MODEL, members=[]), ValueError, "has no members"),
        (lambda: Team(model=MODEL, members=["x"]), TypeError, r"members\[0\] .* not the text 'x'"),
        (lambda: Team(model=MODEL, members=ONE), TypeError, "members must be a list"),
        (lambda: Workflow(steps=["a"]), TypeError, r"steps\[0\] must be .* not the text 'a'"),
        (lambda: Workflow(steps=[say, None]), TypeError, r"steps\[1\] .* not None"),
        (lambda: Workflow(steps="abc"), TypeError, "steps must be a list"),
        (
            lambda: Parallel([say, say]),
            TypeError,
            r"steps\[0\] is a list; give its items one by one",
        ),
        (lambda: Loop([[say]]), TypeError, r"steps\[0\] is a list"),
        (lambda: Step(executor=3), TypeError, "the executor of a step must be"),
        (lambda: Workflow(steps=[Agent]), TypeError, "the class Agent; give an object of it"),
        (lambda: RunServer(agents=["x"]), TypeError, r"agents\[0\] must be .* not the text 'x'"),
        (lambda: RunServer(agents=ONE), TypeError, "agents must be a list"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_written(
    make: Any, error: type[Exception], words: str
) -> None:
    """A constructor refuses what its run would fail by, and names the argument."""
    with pytest.raises(error, match=words):
        make()


def test_a_plain_function_can_be_a_member() -> None:
    """As it can be a step."""

    def writer(input: str) -> str:
        return input

    assert Team(model=MODEL, members=[writer, ONE]).members == ("writer", "one")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"input": {"a": 1}}, TypeError, "data goes into input_data"),
        ({"limits": {"timeout": 1}}, TypeError, "spec.limits must be a Limits, not dict"),
        ({"session_id": 7}, TypeError, "spec.session_id must be text"),
        ({"labels": ["a"]}, TypeError, "spec.labels must be a mapping"),
        ({"timeout": 0}, ValueError, "timeout must be more than 0"),
    ],
)
def test_a_client_says_which_argument_is_wrong(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Before anything is sent, and in the words of the caller's own code."""
    with RunClient("127.0.0.1:1") as client, pytest.raises(error, match=words):
        client.run("agents/say", **options)
