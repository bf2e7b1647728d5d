"""Who speaks in a run that has several speakers, such as the nodes of a graph or agents that hand
over to each other. Their text is one output, in which a blank line parts them.

Children are no speakers here: what they say is theirs.
"""

BLANK_LINE = "\n\n"
"""Between what one speaker says and what the next one does."""


class Speakers:
    """The speakers of one run and of each of its children."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._speaking: set[tuple[str, str]] = set()
        """The answers that have begun to speak: their calls of a model, and their speakers."""

    @property
    def last(self) -> str:
        """Who spoke last in the run itself; empty: nobody who is known."""
        return self._last.get("", "")

    def go_on(self, speaker: str) -> None:
        """The run goes on after a pause in another process, where this one spoke last."""
        if speaker:
            self._last[""] = speaker

    def asked(self, call: str) -> None:
        """A model is asked: what comes of this call is another answer."""
        self._speaking = {answer for answer in self._speaking if answer[0] != call}

    def before(self, speaker: str, run_id: str, call: str) -> str:
        """What parts a piece of this answer from what was said before. Answers may come at the same
        time, so only the first piece of each is parted."""
        if not speaker or (call, speaker) in self._speaking:
            return ""
        self._speaking.add((call, speaker))
        last, self._last[run_id] = self._last.get(run_id, speaker), speaker
        return "" if last == speaker else BLANK_LINE
