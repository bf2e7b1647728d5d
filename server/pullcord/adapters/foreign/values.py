"""Values of a framework as text and as data: pydantic models, dataclasses, messages, anything."""

from typing import Any

from pydantic_core import to_json, to_jsonable_python

from pullcord.run.plain import words


def text_of(value: Any) -> str:
    """A value as text: text as it is, anything else as JSON, what has no JSON by its `str`."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return to_json(value, fallback=words, inf_nan_mode="constants").decode()
    except Exception:  # an object within itself, an author's serializer
        return words(value)


def data_of(value: Any) -> dict[str, Any]:
    """A value as the data of a result; what is no object stands under `result`."""
    try:
        data = to_jsonable_python(value, fallback=words, inf_nan_mode="constants")
    except Exception:  # as above
        data = words(value)
    return data if isinstance(data, dict) else {"result": data}
