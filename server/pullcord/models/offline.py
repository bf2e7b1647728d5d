"""A model that needs no key and no network, for first steps, demos and tests.

It tells one story around whatever it was asked, at a human pace; or it leads a team by handing its
task to every member. It calls no other tools and never pretends to be clever.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence

from pullcord.models.base import (
    Finished,
    Media,
    Model,
    ModelChunk,
    ModelRequest,
    Text,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.run.finish import FinishReason
from pullcord.run.takes import EVERYTHING
from pullcord.run.usage import Usage

_LONGEST_PROMPT = 200

_STORY = """\
You asked for this: “{prompt}”. I am the offline model and know only one story, so here it is, \
with your wish sewn into its lining.

The last tram of the evening left the harbour at eleven, with Mara at the controls and nobody \
behind her but a man with a cello and a girl asleep against the window. Above their heads ran the \
cord, a plain cotton line from the first window to the last, worn shiny by a hundred years of \
hands. Mara's grandmother had driven this line, and had taught her its only rule: whoever pulls \
the cord is right. You do not ask why. You do not finish the street first. You find the next safe \
place, you stop, and you open the doors.

At the fish market the man with the cello stood up. On a scrap of paper he had written the words \
“{prompt}”, and he read them again and again as if they were an address. “Is it far?” he asked. \
“That depends on how it ends,” said Mara, for she had carried stranger errands than his, and the \
tram hummed on past the shuttered stalls and the ropes and the smell of tar.

They climbed the hill by the observatory. Rain began, softly, as if it did not want to wake the \
girl. The man spoke of a letter that he had begun eleven times. Each time he had come a little \
further, and each time somebody had called him away; and because he threw away what he could not \
finish, he had nothing now, not even the good first lines.

“That was your mistake,” said Mara. “When this tram stops early, the passengers do not have to go \
back to the harbour. They are as far as they are. Tomorrow they go on from there.” The man thought \
about it for the length of a street. Then he turned the scrap of paper over, and on its back he \
wrote a line, and under it another, while the lamps slid over his hands.

By the old brewery the girl woke. She looked at the rain, at the cello, at the writing man; she \
saw her own front door come swimming out of the dark; and without a word she reached up and pulled \
the cord. The bell rang once. Mara did what her grandmother had taught her: she let the wheels \
roll to the next safe place, stopped, and opened the doors.

The man looked up from his paper. It was not where he had meant to go. But the letter had seven \
lines by now, and none of them would be lost; so he lifted his cello, wished Mara a good night, \
and stepped out into the rain, smiling, as far as he was.
"""


class OfflineModel(Model):
    """Streams a little story with the prompt woven in, a word at a time; or leads a team."""

    media = Media(EVERYTHING.data_types, EVERYTHING.uri_types)

    def __init__(
        self,
        id: str = "offline",
        *,
        words_per_second: float = 30.0,
        think_for: float = 0.0,
        hands_to: Sequence[str] = (),
    ) -> None:
        """Sets the pace.

        Args:
            id: what it is called.
            words_per_second: more than 0; `math.inf` tells the story in one go.
            think_for: seconds of silence before the first word.
            hands_to: the ids of a team's members. It then leads that team: it hands the prompt to
                all of them at once, and says how many words came back.
        """
        if not words_per_second > 0:
            raise ValueError("words_per_second must be more than 0")
        self.id = id
        self._pause = 1 / words_per_second
        self._think_for = think_for
        self._hands_to = tuple(hands_to)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Tells the story, or leads; each word counts as a token."""
        last = request.messages[-1] if request.messages else None
        leads = bool(self._hands_to)
        if leads and isinstance(last, ToolMessage):
            text = _summary(self._hands_to, request)
        elif leads:
            text = f"I hand this to {' and '.join(self._hands_to)}.\n\n"
        else:
            text = _seen(request) + _STORY.format(prompt=_prompt(request))
        story = text.split(" ")
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(self._think_for)
        begin = clock()
        for number, word in enumerate(story):
            yield Text(word if number == 0 else f" {word}")
            # By the clock, not pause by pause, so that a busy loop does not slow the story down.
            await asyncio.sleep(begin + (number + 1) * self._pause - clock())
        hands_out = leads and not isinstance(last, ToolMessage)
        for number, member in enumerate(self._hands_to if hands_out else ()):
            task = json.dumps({"member_id": member, "task": _prompt(request)}, ensure_ascii=False)
            yield ToolRequest(f"call-{number + 1}", "delegate_to_member", task)
        heard = sum(len(message.text.split()) for message in request.messages)
        yield Usage(input_tokens=heard, output_tokens=len(story))
        yield Finished(FinishReason.TOOL_CALLS if hands_out else FinishReason.STOP)

    def cost(self, usage: Usage) -> float:
        """Nothing: it runs here."""
        return 0.0


def _prompt(request: ModelRequest) -> str:
    for message in reversed(request.messages):
        if isinstance(message, UserMessage):
            said = " ".join(message.text.split()) or "…"
            if len(said) > _LONGEST_PROMPT:
                said = f"{said[: _LONGEST_PROMPT - 1]}…"
            return said
    return "…"


def _seen(request: ModelRequest) -> str:
    """Names the prompt's files, since a model that sees nothing can at least do that."""
    last = next((m for m in reversed(request.messages) if isinstance(m, UserMessage)), None)
    files = [part for part in (last.parts if last else ()) if part.text is None]
    if not files:
        return ""
    told = ", ".join(
        f"{part.label} of {len(part.data):,} bytes" if part.data else f"{part.label} at {part.uri}"
        for part in files
    )
    return f"You attached {told}. I keep it beside me, though I have no eyes.\n\n"


def _summary(members: Sequence[str], request: ModelRequest) -> str:
    """The results of the latest round of calls: they are the last messages, in order."""
    answers = [message.text for message in request.messages if isinstance(message, ToolMessage)]
    told = zip(members, answers[-len(members) :], strict=False)
    told_words = ", ".join(f"{member} with {len(answer.split())} words" for member, answer in told)
    return f"All have answered: {told_words}."
