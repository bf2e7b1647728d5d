"""Reads decisions about waiting calls from words, for protocols that have nothing else."""

import re

from pullcord.run.record import Decision

_YES = re.compile(r"(yes|y|ok|okay|approved?)[.!]*", re.IGNORECASE)
_NO = re.compile(r"(no|n|declined?|den(y|ied)|rejected?)[.!]*", re.IGNORECASE)


def decided(tool_call_id: str, words: str) -> Decision | None:
    """A yes approves, a no declines; None: the words are neither."""
    words = words.strip()
    if _YES.fullmatch(words):
        return Decision(tool_call_id, approved=True)
    return Decision(tool_call_id) if _NO.fullmatch(words) else None
