"""An agent of Google's ADK: `pullcord serve examples/google_adk_app.py:agent`.

In a checkout, in an environment of its own: `pip install '.[google-adk]' litellm`. It needs
OPENAI_API_KEY; with `model="gemini-3-flash"` it needs GOOGLE_API_KEY, and no litellm.
"""

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm


async def look_up(topic: str) -> str:
    """Looks up what is known about a topic."""
    return f"{topic} is well known"


agent = LlmAgent(
    name="storyteller",
    model=LiteLlm("openai/gpt-5-mini"),
    instruction="Tell stories.",
    tools=[look_up],
)
