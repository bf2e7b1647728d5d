"""One call of a language model, as operators count and trace it: a frozen value.

It has no word of the request or of the answer.
"""

from dataclasses import dataclass

from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call that has ended. Times are seconds, and none is a time of day: the machine on which the
    call was made may have another one."""

    model: str
    """The provider's name of it, as its author has given it; empty: a framework that does not
    tell."""
    provider: str = ""
    """Such as `openai`; empty: not known."""
    seconds: float = 0.0
    """From the request to the end of the answer."""
    first_after: float | None = None
    """From the request to the first piece of the answer; None: none came."""
    usage: Usage = Usage()
    """The usage that was counted for it."""
    finish_reason: FinishReason | None = None
    """The end of the answer; OTHER if it is not known how; None: it had none."""
    error_type: str = ""
    """The class of the error by which it failed; empty: it did not fail, and without a
    `finish_reason` it was interrupted."""
