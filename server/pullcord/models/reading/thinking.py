"""Thinking that a server leaves in the text: `<think>…</think>` at the beginning of an answer.

Servers without a reasoning parser do so for DeepSeek, Qwen and their like. Only the beginning of an
answer is looked at: text that mentions a tag later is text. What becomes of the pieces is not known
here.
"""

import re
from collections.abc import Iterator
from typing import Literal

from pullcord.models.reading.values import Kind

ThinkTags = Literal["split", "begun", "text"]
"""What the tags mean: thinking where an answer begins with one; thinking from the first character,
because the server's template has opened the tag; nothing, they are text."""

_TAGS = {"<think>": "</think>", "<thought>": "</thought>", "[THINK]": "[/THINK]"}
_MAX_BLANKS = 64
_LONGEST = max(map(len, _TAGS))
_BLANKS = re.compile(r"\s*")


class ThinkSplitter:
    """Tells the thinking of one answer apart from its text, in pieces as they come."""

    def __init__(self, tags: ThinkTags) -> None:
        self._held = ""
        self._end = "</think>" if tags == "begun" else ""
        """The tag that ends the thinking; empty: it has not begun, or has ended."""
        self._is_open = tags == "split"
        """Whether the answer may still begin with a tag."""
        self._skips = tags == "begun"
        """Whether blanks that come next belong to a tag."""

    def feed(self, text: str) -> Iterator[tuple[Kind, str]]:
        """The pieces that can be passed on now; what may be a part of a tag is held back."""
        text, self._held = self._held + text, ""
        if self._is_open:
            text = self._opened(text)
        if self._end:
            thought, tag, text = text.partition(self._end)
            if not tag:
                thought, self._held = _without_part(thought, self._end)
            yield from self._piece(Kind.REASONING, thought)
            if tag:
                self._end, self._skips = "", True
        if not self._end:
            yield from self._piece(Kind.TEXT, text)

    def flush(self) -> Iterator[tuple[Kind, str]]:
        """Text that was held back, and is no tag after all."""
        text, self._held, self._is_open = self._held, "", False
        yield from self._piece(Kind.REASONING if self._end else Kind.TEXT, text)

    def close(self) -> None:
        """From here on all is text: the server separates thinking by itself."""
        self._is_open = False

    def _opened(self, text: str) -> str:
        """The text behind the tag with which it begins; all of it, if it begins with none."""
        blanks = _BLANKS.match(text)
        start = blanks.end() if blanks else 0
        begun = text[start : start + _LONGEST]
        tag = next((tag for tag in _TAGS if begun.startswith(tag)), None)
        if tag is None and start <= _MAX_BLANKS and any(tag.startswith(begun) for tag in _TAGS):
            self._held = text
            return ""
        self._is_open = False
        if tag is None:
            return text
        self._end, self._skips = _TAGS[tag], True
        return text[start + len(tag) :]

    def _piece(self, kind: Kind, text: str) -> Iterator[tuple[Kind, str]]:
        if self._skips:
            text = text.lstrip()
        if text:
            self._skips = False
            yield kind, text


def _without_part(text: str, tag: str) -> tuple[str, str]:
    """The text without the longest beginning of the tag at its end, and that beginning."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:size]):
            return text[:-size], text[-size:]
    return text, ""
