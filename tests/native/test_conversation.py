"""What a model is told before its first answer."""

from pullcord.models.base import AssistantMessage, SystemMessage, UserMessage
from pullcord.native.conversation import conversation, system_text
from pullcord.run.cancel import Cancellation
from pullcord.run.events import RunError, ToolCall, ToolCallState
from pullcord.run.message import Given
from pullcord.run.record import Run
from pullcord.run.state import RunState


def test_description_and_instructions_make_the_system_message() -> None:
    """The description comes first; several instructions become a list."""
    assert system_text("A cook.", "Be brief.") == "A cook.\n\nBe brief."
    assert system_text("", ["Be brief.", "Be kind."]) == "- Be brief.\n- Be kind."
    assert system_text("", ()) == ""


def test_input_data_follows_the_input() -> None:
    """Structured input goes to the model as JSON, below the text."""
    assert conversation("", [], Given("hi")) == [UserMessage("hi")]
    assert conversation("S", [], Given("hi", {"a": 1})) == [
        SystemMessage("S"),
        UserMessage('hi\n\n{"a":1}'),
    ]


def test_stopped_turns_stay_in_the_conversation() -> None:
    """Of a stopped turn the model sees what was made, that it was stopped, and its tool calls."""
    done = Run("1", "agents/a", RunState.COMPLETED, input="one", output="first")
    stopped = Run(
        "2",
        "agents/a",
        RunState.CANCELLED,
        input="two",
        output="sec",
        cancellation=Cancellation(),
        tool_calls=(ToolCall("c", "send_mail", state=ToolCallState.UNKNOWN),),
    )
    failed = Run("3", "agents/a", RunState.FAILED, input="three", error=RunError("ValueError"))
    assert conversation("", [done, stopped, failed], Given("four")) == [
        UserMessage("one"),
        AssistantMessage("first"),
        UserMessage("two"),
        AssistantMessage(
            "sec\n\n[this answer was stopped before its end; "
            "it called send_mail, which may have taken effect]"
        ),
        UserMessage("three"),
        AssistantMessage("[this answer failed before its end]"),
        UserMessage("four"),
    ]
