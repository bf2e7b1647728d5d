"""Why a model's answer ended, in words of our own.

Plain values. How the run goes on is decided where the model is asked.
"""

from enum import StrEnum


class FinishReason(StrEnum):
    """Why a model ended its answer."""

    STOP = "stop"
    """By itself: it has said all that it wanted to say."""
    TOOL_CALLS = "tool_calls"
    """It wants tools to be called."""
    LENGTH = "length"
    """It was cut off, by the limit of tokens or the size of the model's context."""
    CONTENT_FILTER = "content_filter"
    """The provider withheld the rest."""
    REFUSAL = "refusal"
    """The model refused."""
    ERROR = "error"
    """Something failed at the provider in the middle of the answer."""
    OTHER = "other"
    """A reason that is not known here."""
