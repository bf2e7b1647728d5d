"""Programs as the ecosystem's users write them, with the imports of ours, do what they say."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openai_server import Call, OpenAIServer, Pace

ENDLESS = Pace(0.002)
DELEGATE = Call("delegate_to_member", {"member_id": "storyteller-agent", "task": "tell"})


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer(default=[ENDLESS]) as server:
        yield server


@pytest.mark.parametrize(
    ("script", "answers", "says"),
    [
        (
            "cancel_agent",
            [],
            ["cancelled it: True", "streamed: cancelled True", "not streamed: CANCELLED second"],
        ),
        (
            "cancel_team",
            [["I will ask. ", DELEGATE], [ENDLESS]],
            ["cancelled it: True", "team: cancelled", "member said something: True"],
        ),
        (
            "cancel_workflow",
            [[Call("search", {"topic": "dragons"})], ["the facts"], [ENDLESS]],
            [
                "cancelled it: True",
                "steps: research writing",
                "workflow: CANCELLED",
                "kept the research: True",
            ],
        ),
    ],
)
def test_a_script_that_cancels_runs_as_it_is(
    provider: OpenAIServer, script: str, answers: list, says: list[str]
) -> None:
    """Scripts that cancel an agent, a team and a workflow from another thread run unchanged."""
    for answer in answers:
        provider.script(*answer)
    made = subprocess.run(
        [sys.executable, Path(__file__).parent / f"{script}.py"],
        env=os.environ | {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (made.stdout.splitlines(), made.stderr, made.returncode) == (says, "", 0)
    assert provider.exchanges[-1].left.wait(30)
