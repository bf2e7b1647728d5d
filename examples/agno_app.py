"""An agent of agno, served as it is: `pullcord serve examples/agno_app.py:agent`.

In a checkout: `pip install '.[agno,openai]'`. It needs OPENAI_API_KEY.
"""

from agno.agent import Agent
from agno.models.openai import OpenAIChat


async def look_up(topic: str) -> str:
    """Looks up what is known about a topic."""
    return f"{topic} is well known"


agent = Agent(
    name="storyteller",
    model=OpenAIChat(id="gpt-5-mini"),
    description="Tell stories.",
    tools=[look_up],
    telemetry=False,
)
