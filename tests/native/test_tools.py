"""Functions as tools."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal

import pytest
from pullcord.native.tools import InvalidArguments, NotApproved, Tool, needs_approval
from pullcord.run.context import RunContext
from pydantic import BaseModel, Field


class Threads:
    """As much of a RunContext as a tool call needs: a thread a call."""

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        result: list[Any] = []
        thread = threading.Thread(target=lambda: result.append(function()))
        thread.start()
        thread.join()
        return result[0]


CTX: Any = Threads()


class Place(BaseModel):
    city: str
    zip: int = 0


def weather(
    ctx: RunContext,
    place: Place,
    unit: Literal["C", "F"] = "C",
    days: Annotated[int, Field(ge=1)] = 1,
    schema: list[str] | None = None,
) -> Any:
    """Tells the weather.

    Not always right.

    Args:
        ctx: the run.
        place: where.
        days: how far to look ahead.
    """
    assert ctx is CTX
    return [place, unit, days, schema]


def test_a_model_learns_of_a_tool_from_its_docstring_and_type_hints() -> None:
    """Name, descriptions and schema come from the function; the RunContext is left out."""
    definition = Tool(weather).definition
    assert definition.name == "weather"
    assert definition.description == "Tells the weather.\n\nNot always right."
    assert definition.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["place"],
        "properties": {
            "place": {"$ref": "#/$defs/Place", "description": "where."},
            "unit": {"enum": ["C", "F"], "type": "string", "default": "C"},
            "days": {
                "type": "integer",
                "minimum": 1,
                "default": 1,
                "description": "how far to look ahead.",
            },
            "schema": {"anyOf": [{"items": {"type": "string"}, "type": "array"}, {"type": "null"}]},
        },
        "$defs": {
            "Place": {
                "title": "Place",
                "type": "object",
                "required": ["city"],
                "properties": {
                    "city": {"title": "City", "type": "string"},
                    "zip": {"title": "Zip", "type": "integer", "default": 0},
                },
            }
        },
    }


async def test_arguments_arrive_as_the_types_that_the_function_names() -> None:
    """What the model leaves out keeps the function's default; a result becomes JSON text."""
    text = await Tool(weather).call(CTX, '{"place": {"city": "Oslo"}, "days": "3"}')
    assert text == '[{"city":"Oslo","zip":0},"C",3,null]'


async def test_a_string_is_its_own_result() -> None:
    """A result that is a string goes to the model as it is, any other as JSON."""

    def shout(text: str) -> str:
        return text.upper()

    async def nothing() -> None:
        pass

    assert await Tool(shout).call(CTX, '{"text": "é"}') == "É"
    assert await Tool(nothing).call(CTX, "") == "null"


async def test_a_sync_wrapper_of_an_async_function_works() -> None:
    """A sync function that returns an awaitable is awaited."""

    async def inner() -> str:
        return "in"

    def outer():  # type: ignore[no-untyped-def]
        return inner()

    assert await Tool(outer).call(CTX, "{}") == "in"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ("{}", "place: Field required"),
        ('{"place": {"city": "Oslo"}, "days": 0}', "days: Input should be greater"),
        ('{"place": {"city": "Oslo"}, "ctx": 1}', "ctx: Extra inputs"),
    ],
)
async def test_wrong_arguments_are_explained(arguments: str, problem: str) -> None:
    """Arguments that do not fit are refused before the function runs, with what is wrong."""
    with pytest.raises(InvalidArguments, match=problem):
        await Tool(weather).call(CTX, arguments)


def test_what_cannot_be_a_tool_is_refused() -> None:
    """A function without a usable name, with nameless parameters, or that yields, is refused."""

    def many(*numbers: int) -> None: ...

    def stream() -> Iterator[str]:
        yield ""

    async def astream() -> AsyncIterator[str]:
        yield ""

    for wrong in (lambda: 1, many, stream, astream):
        with pytest.raises(TypeError):
            Tool(wrong)


async def test_a_tool_that_needs_approval_is_not_called_without() -> None:
    """The tool itself holds to its mark: a call that nobody approved raises, and does nothing."""
    executed: list[int] = []

    @needs_approval
    async def pay(amount: int) -> str:
        executed.append(amount)
        return "paid"

    tool = Tool(pay)
    assert tool.is_to_be_asked_about('{"amount": 1}')
    assert not tool.is_to_be_asked_about('{"amount": "much"}')
    assert not Tool(weather).is_to_be_asked_about('{"place": {"city": "Ulm"}}')
    with pytest.raises(NotApproved, match="pay"):
        await tool.call(CTX, '{"amount": 1}')
    assert executed == []
    assert await tool.call(CTX, '{"amount": 1}', approved=True) == "paid"
