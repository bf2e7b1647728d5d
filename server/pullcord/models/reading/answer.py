"""Reading one answer to its end: how long to wait, when it is whole, and what its failures are.

A protocol fills `Answer`; this module has the one loop in which every answer is read. Connecting
and asking again are not done here.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any

from pullcord.models.base import Finished, ModelChunk, ModelError, Reasoning, Text
from pullcord.models.reading.failures import Withheld, fit
from pullcord.models.reading.frames import FrameReader, NotAFrame
from pullcord.models.reading.text import Joint
from pullcord.models.reading.thinking import ThinkSplitter, ThinkTags
from pullcord.models.reading.values import Kind, graver
from pullcord.run.finish import FinishReason

_GRACE = 1.0
"""Seconds that a whole answer is waited on for what may follow, such as the usage."""
_DRAIN = 0.05
"""Seconds to see the end of the body, after which the connection can serve the next call."""
_DRAINED = 64
_SHOWN = 300


class Answer(ABC):
    """One answer of a provider, as far as it has come."""

    provider: str

    def __init__(self, think_tags: ThinkTags = "text") -> None:
        self.reason: FinishReason | None = None
        """Why it ended, as far as the provider has said so."""
        self.words = ""
        """The provider's words for that."""
        self.progress = 0
        """Rises with all that the model says; what keeps a connection alive does not count."""
        self.is_whole = False
        """The model has ended; what may follow is about the answer and no part of it."""
        self.is_over = False
        """Nothing more follows."""
        self.refused = False
        self.strange = ""
        """The first frame that said nothing of the answer."""
        self._joints = {kind: Joint() for kind in Kind}
        self._splitter = ThinkSplitter(think_tags) if think_tags != "text" else None

    @abstractmethod
    def read(self, event: str, data: Any) -> Iterator[ModelChunk]:
        """The chunks in one frame. Raises ModelError if it says that the provider failed."""

    @abstractmethod
    def end(self) -> Iterator[ModelChunk]:
        """The last chunks. Raises ModelError if the answer is not whole."""

    def say(self, kind: Kind, piece: str) -> Iterator[ModelChunk]:
        """A piece of text, as far as its characters are whole."""
        self.progress += 1
        self.refused = self.refused or kind is Kind.REFUSAL
        yield from self._chunk(kind, self._joints[kind].feed(piece))

    def flush(self) -> Iterator[ModelChunk]:
        """Text that was held back, of characters that are never completed."""
        for kind, joint in self._joints.items():
            yield from self._chunk(kind, joint.flush())
        if self._splitter is not None:
            yield from _chunks(self._splitter.flush())

    def _chunk(self, kind: Kind, text: str) -> Iterator[ModelChunk]:
        splitter = self._splitter
        if splitter is not None and kind is Kind.TEXT:
            yield from _chunks(splitter.feed(text))
            return
        if splitter is not None and kind is Kind.REASONING and text:
            splitter.close()
        yield from _chunks([(kind, text)])

    def ended(self, reason: FinishReason, words: str = "") -> None:
        """The provider says why it ended; of several reasons the gravest holds."""
        if self.reason is None or graver(self.reason, reason) is reason:
            self.reason, self.words = reason, words
        self.is_whole = True

    def finished(self, reason: FinishReason, words: str = "") -> Finished:
        """The last chunk; a model that has refused has not stopped by itself."""
        if self.refused and reason in (FinishReason.STOP, FinishReason.OTHER):
            reason = FinishReason.REFUSAL
        return Finished(reason, fit(words))

    def check_understood(self) -> None:
        """Raises ModelError for an answer without a reason of which no frame said anything.

        Most likely another API was asked than the model's.
        """
        if self.strange and not self.progress:
            words = "the model's provider sent what is no answer of this API"
            raise ModelError(words, said=fit(self.strange), provider=self.provider)

    def broke_off(self) -> ModelError:
        """The error for an answer that ends without an end."""
        words, said = "the model's provider broke off its answer", ""
        if self.strange and not self.progress:
            said = f"all that it sent was {fit(self.strange)}"
        return ModelError(words, said=said, provider=self.provider, may_pass=not self.progress)


def _chunks(pieces: Iterable[tuple[Kind, str]]) -> Iterator[ModelChunk]:
    for kind, text in pieces:
        if text:
            yield Reasoning(text) if kind is Kind.REASONING else Text(text)


class Interrupted(Exception):
    """The connection broke. Raised by the iterator of bytes, from the client's own error."""


async def read_answer(
    body: AsyncIterator[bytes], answer: Answer, silence: float
) -> AsyncGenerator[ModelChunk, None]:
    """Reads an answer from the bytes of its body; the last chunk is Finished.

    Args:
        body: raises Interrupted where the connection breaks.
        answer: takes the frames.
        silence: seconds that the model may say nothing.

    Raises:
        ModelError: the provider failed, broke off, was silent for too long, or sent what cannot be
            understood.
    """
    now = asyncio.get_running_loop().time
    reader = FrameReader()
    left = silence
    while not answer.is_over:
        waits = now()
        try:
            async with asyncio.timeout(left):
                piece = await anext(body, None)
        except TimeoutError:
            if answer.is_whole:
                break
            raise ModelError(
                "the model's provider did not answer in time", provider=answer.provider
            ) from None
        except Interrupted:
            if answer.is_whole:
                break
            raise
        left = max(0.0, left - (now() - waits))  # the time that our own reader takes does not count
        progress = answer.progress
        try:
            for frame in reader.end() if piece is None else reader.feed(piece):
                for chunk in answer.read(frame.event, frame.data):
                    yield chunk
                if answer.is_over:
                    break
                if frame.data and not (answer.strange or answer.progress or answer.is_whole):
                    answer.strange = _shown(frame.data)
        except Withheld as told:  # as an error, after what was said
            answer.ended(FinishReason.CONTENT_FILTER, told.words)
            break
        except NotAFrame as error:
            if answer.is_whole:
                break
            raise _not_understood(error, answer.provider) from None
        if piece is None:
            break
        if answer.progress > progress:
            left = _GRACE if answer.is_whole else silence
        elif answer.is_whole:
            left = min(left, _GRACE)
    if answer.is_over:
        await _drain(body)
    ignored = reader.ignored
    if ignored and not (answer.progress or answer.is_whole):
        raise _not_understood(ignored, answer.provider)
    for chunk in answer.end():
        yield chunk


def _shown(data: Any) -> str:
    try:
        return json.dumps(data)[:_SHOWN]
    except RecursionError:
        return "JSON of great depth"


def _not_understood(what: NotAFrame | str, provider: str) -> ModelError:
    if isinstance(what, NotAFrame) and what.event == "error":
        words = fit(what.text) or "it gave no reason"
        return ModelError("the model's provider failed", said=words, provider=provider)
    text = what if isinstance(what, str) else what.text
    words = "the model's provider sent something that is not JSON"
    return ModelError(words, said=fit(text), provider=provider)


async def _drain(body: AsyncIterator[bytes]) -> None:
    with suppress(TimeoutError, StopAsyncIteration, Interrupted):
        async with asyncio.timeout(_DRAIN):
            for _ in range(_DRAINED):
                await anext(body)
