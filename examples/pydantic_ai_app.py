"""An agent of pydantic-ai, served as it is: `pullcord serve examples/pydantic_ai_app.py:agent`.

In a checkout: `pip install '.[pydantic-ai,openai]'`. It needs OPENAI_API_KEY.
"""

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel

agent = Agent(OpenAIChatModel("gpt-5-mini"), name="storyteller", instructions="Tell stories.")


@agent.tool_plain
async def look_up(topic: str) -> str:
    """Looks up what is known about a topic."""
    return f"{topic} is well known"
