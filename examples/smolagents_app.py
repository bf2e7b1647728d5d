"""An agent of smolagents: `pullcord serve examples/smolagents_app.py:storyteller`.

In a checkout: `pip install '.[openai]' smolagents`. It needs OPENAI_API_KEY.
"""

from collections.abc import Iterator

from pullcord import RunContext, runnable
from smolagents import ChatMessageStreamDelta, FinalAnswerStep, OpenAIModel, ToolCallingAgent, tool


@tool
def look_up(topic: str) -> str:
    """Looks up what is known.

    Args:
        topic: what it is about.
    """
    return f"{topic} is well known"


@runnable(id="storyteller", isolation="process")  # nothing else stops a thread of smolagents
def storyteller(input: str, ctx: RunContext) -> Iterator[str]:
    earlier = "".join(f"User: {run.input}\nYou: {run.output}\n" for run in ctx.history())
    agent = ToolCallingAgent([look_up], OpenAIModel("gpt-5-mini"), stream_outputs=True)
    for event in agent.run(f"{earlier}User: {input}", stream=True):
        if isinstance(event, ChatMessageStreamDelta | FinalAnswerStep):
            yield str(getattr(event, "output", None) or getattr(event, "content", None) or "")
