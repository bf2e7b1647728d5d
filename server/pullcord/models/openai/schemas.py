"""An author's output schema as OpenAI takes it: strict wherever the schema allows that.

What becomes of the answer is not known here.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import openai
from pydantic import BaseModel

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")


@functools.cache
def output_format(schema: type[BaseModel]) -> Mapping[str, Any]:
    """Name, schema and strictness; what both APIs call them.

    Strict means that the provider keeps its answer to the schema. It needs every object to name all
    of its properties; a mapping with free keys, for one, can only be asked for.
    """
    tool: Any = openai.pydantic_function_tool(schema)  # the SDK's one public way to a strict schema
    strict = tool["function"]["parameters"]
    is_strict = all(map(_is_closed, _parts(strict)))
    return {
        "name": _NO_NAME.sub("_", schema.__name__)[:64],
        "schema": strict if is_strict else schema.model_json_schema(),
        "strict": is_strict,
    }


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema, and every schema within it."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    for name in ("properties", "$defs", "definitions"):
        for part in schema.get(name, {}).values():
            yield from _parts(part)
    for name in ("anyOf", "allOf", "oneOf", "prefixItems"):
        for part in schema.get(name, ()):
            yield from _parts(part)
    yield from _parts(schema.get("items"))


def _is_closed(schema: Mapping[str, Any]) -> bool:
    if schema.get("type") == "object":
        return schema.get("additionalProperties") is False
    return any(key in schema for key in ("type", "$ref", "anyOf", "allOf", "enum", "const"))
