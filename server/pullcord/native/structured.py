"""Structured output: a model's answer as the object that the author's schema describes.

The text streams as it comes, like any other; only a whole and valid answer becomes data. How a
provider is told of the schema is the models' business.
"""

from typing import Any

from pydantic import BaseModel, RootModel, ValidationError

from pullcord.native.tools import explained
from pullcord.run.context import RunContext

OutputSchema = type[BaseModel]


class InvalidOutput(Exception):
    """The model's answer is not what the output schema asks for; the message says where."""


def checked_schema(schema: Any) -> OutputSchema | None:
    """The schema itself. Raises TypeError where it is no pydantic model of an object."""
    is_model = isinstance(schema, type) and issubclass(schema, BaseModel)
    if schema is not None and (not is_model or issubclass(schema, RootModel)):
        raise TypeError(f"an output_schema is a pydantic model of an object, not {schema!r}")
    made: OutputSchema | None = schema
    return made


def deliver(ctx: RunContext, schema: OutputSchema | None, answer: str) -> None:
    """Makes the run's data of its last answer, where there is a schema.

    Raises:
        InvalidOutput: it is no JSON, or not what the schema asks for.
        RunCancelledError: the run is to stop; it then has no data.
    """
    if schema is None:
        return
    data = _data_of(schema, answer)
    ctx.cancel_token.raise_if_cancelled()
    ctx.set_output(None, data)


def _data_of(schema: OutputSchema, answer: str) -> dict[str, Any]:
    try:
        made = schema.model_validate_json(answer)
    except ValidationError as error:
        raise InvalidOutput(explained(error, "answer")) from error
    return made.model_dump(mode="json", by_alias=True)
