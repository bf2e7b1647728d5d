"""What OpenAI is told of an output schema."""

from typing import Any, Generic, TypeVar

import pytest
from pullcord.models.openai.schemas import output_format
from pydantic import BaseModel, ConfigDict


class Point(BaseModel):
    x: int
    y: int = 0


class Node(BaseModel):
    name: str
    next: "Node | None" = None


class FreeKeys(BaseModel):
    counts: dict[str, int]


class Anything(BaseModel):
    value: Any


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Within(BaseModel):
    points: list[FreeKeys]


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    held: T


def test_a_schema_of_named_properties_is_strict() -> None:
    """Every property is required then, also one that has a default."""
    form = output_format(Point)
    assert form["strict"] is True
    assert form["schema"]["required"] == ["x", "y"]


def test_a_schema_may_hold_itself() -> None:
    """A recursive model is strict too, and its root is an object, as OpenAI insists."""
    form = output_format(Node)
    assert form["strict"] is True
    assert form["schema"]["type"] == "object"


@pytest.mark.parametrize("schema", [FreeKeys, Anything, Open, Within])
def test_what_strict_forbids_is_asked_for_without_it(schema: type[BaseModel]) -> None:
    """Free keys and free types are sent as pydantic describes them, for the model's good will."""
    form = output_format(schema)
    assert form["strict"] is False
    assert form["schema"] == schema.model_json_schema()


def test_a_name_is_one_that_the_provider_takes() -> None:
    """A generic model's name has brackets, which OpenAI does not take."""
    assert output_format(Box[int])["name"] == "Box_int_"
