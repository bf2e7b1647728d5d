"""An agent of LangChain, which is a graph: `pullcord serve examples/langgraph_app.py:agent`.

In a checkout: `pip install '.[langgraph]' langchain langchain-openai`. It needs OPENAI_API_KEY.
"""

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI


async def look_up(topic: str) -> str:
    """Looks up what is known about a topic."""
    return f"{topic} is well known"


agent = create_agent(
    # Some servers report usage only where they are asked for it.
    ChatOpenAI(model="gpt-5-mini", stream_usage=True),
    tools=[look_up],
    system_prompt="Tell stories.",
    name="storyteller",
)
