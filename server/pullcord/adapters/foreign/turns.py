"""What a foreign agent is given to read: the session's earlier turns, and the input of this one.

An earlier turn that was stopped is part of the conversation, with what it had made and a note that
it was stopped. How a framework wants to be told is its adapter's business.
"""

from typing import Literal, NamedTuple

from pullcord.models.base import AssistantMessage, SystemMessage, UserMessage
from pullcord.native.conversation import conversation
from pullcord.run.context import RunContext
from pullcord.run.message import TEXTUAL, Given
from pullcord.run.record import Run
from pullcord.run.takes import Takes


class Turn(NamedTuple):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


TEXT = Takes(parts=True, messages=True, data_types=TEXTUAL)
"""What all of them take: text, also as parts and files, and a conversation of the caller's."""


async def history_of(ctx: RunContext) -> list[Run]:
    """The session's ended runs of this runnable, oldest first; none without a session, or where the
    caller brings the conversation."""
    if ctx.messages or not ctx.session_id:
        return []
    # Read in a thread, because a shared store is asked over the network.
    return await ctx.in_thread(ctx.history)


def turns_of(ctx: RunContext, history: list[Run]) -> list[Turn]:
    """The conversation: the earlier turns, and this one's input last."""
    turns: list[Turn] = []
    given = Given(ctx.input, ctx.input_data, ctx.parts, ctx.messages)
    for message in conversation("", history, given):
        if isinstance(message, UserMessage):
            turns.append(Turn("user", message.text))
        elif isinstance(message, AssistantMessage):
            turns.append(Turn("assistant", message.text))
        elif isinstance(message, SystemMessage):
            turns.append(Turn("system", message.text))
    return turns
