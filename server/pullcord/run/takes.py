"""The inputs that a runnable takes beside a text and data, and the refusal of others.

A frozen value that a runnable has as its attribute `takes`. Whether parts are sound in themselves
is said by `message`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pullcord.run.errors import Violation
from pullcord.run.message import TEXTUAL, Message, Part, matches


@dataclass(frozen=True, slots=True)
class Takes:
    """The inputs that a runnable takes beside `input` and `input_data`; others are refused."""

    parts: bool = False
    """Whether it takes parts at all; then also those that are text."""
    messages: bool = False
    data_types: tuple[str, ...] = ()
    """Media types of files as data, such as `image/png`, `image/*` or `*/*`."""
    uri_types: tuple[str, ...] = ()
    """Media types of files by their address."""

    def violations(
        self, parts: Sequence[Part], messages: Sequence[Message], runnable: str
    ) -> list[Violation]:
        """Every field that `runnable` does not take."""
        if parts and not self.parts:
            return [Violation("parts", f"{runnable} takes none")]
        if messages and not self.messages:
            return [Violation("messages", f"{runnable} takes none")]
        found = self._refused(parts, "", runnable)
        for index, message in enumerate(messages):
            found += self._refused(message.parts, f"messages[{index}].", runnable)
        return found

    def _refused(self, parts: Iterable[Part], where: str, runnable: str) -> list[Violation]:
        found = []
        for index, part in enumerate(parts):
            path = f"{where}parts[{index}]"
            if part.data is not None and not matches(part.kind, self.data_types):
                words = f"{runnable} takes {_listed(self.data_types)} as data, not {part.kind}"
                found.append(Violation(f"{path}.data", words))
            if part.uri is not None and not matches(part.kind, self.uri_types):
                words = f"{runnable} takes {_listed(self.uri_types)} by a URI, not {part.kind}"
                found.append(Violation(f"{path}.uri", words))
        return found


NOTHING = Takes()
EVERYTHING = Takes(True, True, ("*/*",), ("*/*",))


def _listed(types: Sequence[str]) -> str:
    # Not all the names that files of text may bear.
    shown = [one for one in types if one not in TEXTUAL[1:]]
    return ", ".join(shown) if shown else "no files"
