"""An author's output schema as JSON schema, for providers that take one.

The answer is checked elsewhere.
"""

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


@functools.cache
def closed_schema(schema: type[BaseModel]) -> Mapping[str, Any]:
    """The schema, in which every object without free keys says that it has no others."""
    closed: Mapping[str, Any] = _closed(schema.model_json_schema())
    return closed


def _closed(part: Any) -> Any:
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    made = {key: _closed(value) for key, value in part.items()}
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made
