"""Decides how a run ends or goes on, by the way its model's answer ended.

One table of our own reasons, and the errors for those that fail a run. Asking the model and calling
its tools are not done here.
"""

from dataclasses import dataclass
from typing import Literal

from pullcord.models.base import Finished, ModelError
from pullcord.run.errors import PublicError
from pullcord.run.finish import FinishReason

OnCutOff = Literal["complete", "fail"]
"""The end of a run whose answer the limit of tokens cut off."""


class AnswerCutOff(PublicError):
    """The answer was cut off by the limit of tokens, and what text so far cannot be the result."""


class AnswerWithheld(PublicError):
    """The provider's filter withheld the answer."""


class AnswerRefused(PublicError):
    """The model refused."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's last answer of a run."""

    text: str
    finish_reason: FinishReason
    """STOP, LENGTH, CONTENT_FILTER or OTHER: with any other reason there is no last answer."""
    rejected: int = 0
    """Answers before it that did not fit the output schema."""


def check_end(end: Finished, text: str, *, has_calls: bool, on_cut_off: OnCutOff) -> None:
    """Returns where the run may go on with this answer, or end COMPLETED with it.

    Args:
        end: how the answer ended.
        text: what it says.
        has_calls: it asks for tools; they are executed if this returns.
        on_cut_off: how a run ends whose answer was cut off.

    Raises:
        AnswerCutOff, AnswerWithheld, AnswerRefused, ModelError: the run has failed.
    """
    said = end.words if end.words != end.reason else ""
    match end.reason:
        case FinishReason.LENGTH:
            if has_calls:
                raise AnswerCutOff(
                    "the limit of tokens cut off the answer with its tool calls; none was executed"
                )
            if not text.strip():
                raise AnswerCutOff("the limit of tokens was reached before the model said anything")
            if on_cut_off == "fail":
                raise AnswerCutOff("the limit of tokens cut off the answer")
        case FinishReason.CONTENT_FILTER:
            if has_calls or not text.strip():
                raise AnswerWithheld("the model's provider withheld the answer", said=said)
        case FinishReason.REFUSAL:
            raise AnswerRefused(f"the model refused: {text.strip()[:1000] or 'it gave no reason'}")
        case FinishReason.ERROR:
            words = "the model's provider failed in the middle of its answer"
            raise ModelError(words, said=said)
        case FinishReason.TOOL_CALLS:
            if not has_calls and not text.strip():
                raise ModelError("the model's provider announced tool calls and sent none")
        case FinishReason.OTHER:
            if not text.strip() and not has_calls:
                words = "the model's answer ended for a reason that is not known"
                raise ModelError(words, said=said)
