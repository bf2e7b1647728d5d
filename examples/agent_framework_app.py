"""An agent of Microsoft's Agent Framework: `pullcord serve examples/agent_framework_app.py:agent`.

In a checkout: `pip install '.[agent-framework]' agent-framework-openai`. It needs OPENAI_API_KEY.
"""

from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient


async def look_up(topic: str) -> str:
    """Looks up what is known about a topic."""
    return f"{topic} is well known"


agent = Agent(
    OpenAIChatCompletionClient("gpt-5-mini"),
    name="storyteller",
    instructions="Tell stories.",
    tools=[look_up],
)
