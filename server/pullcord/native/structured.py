"""Structured output: a model's answer as the object that the author's schema describes.

The text streams as it comes, like any other; only a whole and valid answer becomes data. How a
provider gets the schema is the models' business.
"""

import re
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError

from pullcord.native.endings import Answer, AnswerCutOff, AnswerWithheld
from pullcord.native.tools import explained
from pullcord.run.context import RunContext
from pullcord.run.finish import FinishReason

OutputSchema = type[BaseModel]

_FENCE = re.compile(r"(?s)(?:```|~~~)[ \t]*[\w/.+-]*\s*(.*?)\s*(?:```|~~~|\Z)")
_FROM_FIRST_TO_LAST = re.compile(r"(?s)(?:```|~~~)[ \t]*[\w/.+-]*\s*(.*)\s*(?:```|~~~)")
"""Markdown fences: each of them, whose end may be missing, and one that has some within it."""


class InvalidOutput(Exception):
    """The model's answer is not what the output schema asks for; the message says where."""


def checked_schema(schema: Any) -> OutputSchema | None:
    """The schema itself. Raises TypeError where it is no pydantic model of an object."""
    is_model = isinstance(schema, type) and issubclass(schema, BaseModel)
    if schema is not None and (not is_model or issubclass(schema, RootModel)):
        raise TypeError(f"an output_schema is a pydantic model of an object, not {schema!r}")
    made: OutputSchema | None = schema
    return made


def deliver(ctx: RunContext, schema: OutputSchema | None, answer: Answer) -> None:
    """Makes the run's data of its last answer, where there is a schema.

    Raises:
        InvalidOutput: it is no JSON, or not what the schema asks for.
        AnswerCutOff, AnswerWithheld: the same, because the provider did not send all of it.
        RunCancelledError: the run must stop; it then has no data.
    """
    if schema is None:
        return
    try:
        data = _data_of(schema, answer.text)
    except InvalidOutput as error:
        if answer.finish_reason is FinishReason.LENGTH:
            words = "the limit of tokens cut off the structured output"
            raise AnswerCutOff(words, said=str(error)) from error
        if answer.finish_reason is FinishReason.CONTENT_FILTER:
            words = "the model's provider withheld some of the structured output"
            raise AnswerWithheld(words, said=str(error)) from error
        raise
    ctx.cancel_token.raise_if_cancelled()
    # The text of answers before, which were not valid, was streamed, and is no part of the result.
    ctx.set_output(answer.text if answer.rejected else None, data)


def complaint(schema: OutputSchema | None, answer: str) -> str:
    """The correction sent to a model whose answer does not fit the schema; empty: it fits."""
    if schema is None:
        return ""
    try:
        _data_of(schema, answer)
    except InvalidOutput as error:
        return f"This answer is not valid: {error}. Answer again, with the whole object alone."
    return ""


def _data_of(schema: OutputSchema, answer: str) -> dict[str, Any]:
    try:
        made = _made_of(schema, answer)
    except ValidationError as error:
        raise InvalidOutput(explained(error, "answer")) from error
    return made.model_dump(mode="json", by_alias=True)


def _made_of(schema: OutputSchema, answer: str) -> BaseModel:
    """The answer as it is, else what stands in a Markdown fence, the last that is valid."""
    fenced = [text for text in _FENCE.findall(answer) if text]
    wrong: ValidationError | None = None
    for text in (
        answer.removeprefix("\ufeff"),
        *reversed(fenced),
        *_FROM_FIRST_TO_LAST.findall(answer),
    ):
        try:
            return schema.model_validate_json(text)
        except ValidationError as error:
            # The error within the last fence says more than that a fence is no JSON.
            wrong = error if wrong is None or (fenced and text is fenced[-1]) else wrong
    assert wrong is not None
    raise wrong
