"""Models of OpenAI, and of every server that speaks its protocol (`base_url`).

They stand on the official `openai` package rather than on pydantic-ai's model layer above it: one
dependency instead of a framework, a stream whose connection can be closed directly (which is what
a cancel is about), and `base_url` reaches most other providers anyway.
"""

from pullcord.models.openai.chat import OpenAIChat
from pullcord.models.openai.responses import OpenAIResponses

__all__ = ["OpenAIChat", "OpenAIResponses"]
