"""An agent of the OpenAI Agents SDK: `pullcord serve examples/openai_agents_app.py:agent`.

In a checkout: `pip install '.[openai-agents]'`. It needs OPENAI_API_KEY.
"""

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, function_tool
from openai import AsyncOpenAI


@function_tool
async def look_up(topic: str) -> str:
    """Looks up what is known about a topic."""
    return f"{topic} is well known"


agent = Agent(
    name="storyteller",
    model=OpenAIChatCompletionsModel("gpt-5-mini", AsyncOpenAI()),
    # Some servers report usage only where they are asked for it.
    model_settings=ModelSettings(include_usage=True),
    instructions="Tell stories.",
    tools=[look_up],
)
