"""What is llama-index-core's own: agents that hand over to each other.

`make apart` runs this, in an environment of its own: its OpenAI client does not fit beside others.
"""

from llama_index.core.agent.workflow import AgentWorkflow
from pullcord import LlamaIndexWorkflow

from tests.adapters.foreign.kinds import llama_index_agents_kind as kind
from tests.adapters.foreign.test_contract import ended, pytestmark
from tests.openai_server import Call, OpenAIServer
from tests.transports.harness import Serve, kind_of

__all__ = ["pytestmark"]


def test_agents_that_hand_over_speak_in_paragraphs(model: OpenAIServer, serve: Serve) -> None:
    """What each of them says is the run's text, and an event says who speaks."""
    first, second = kind.agent(model.base_url), kind.agent(model.base_url)
    second.name = "second"
    first.description = second.description = "helps"
    flow = AgentWorkflow(agents=[first, second], root_agent="helper", timeout=None)
    model.script("I pass you on", Call("handoff", {"to_agent": "second", "reason": "why"}, "a"))
    model.script("Here I am")
    stream = serve(LlamaIndexWorkflow(flow, id="flow")).run("flow", "?")
    assert ended(stream, "run_completed").output == stream.text() == "I pass you on\n\nHere I am"
    told = [e.custom for e in stream.events if kind_of(e) == "custom"]
    assert [e.data["agent"] for e in told if e.name == "agent_updated"] == ["second"]
