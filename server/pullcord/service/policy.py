"""A policy as data: each line has a runnable's pattern, and callers that may start it.

A runnable that no line is about may be started by everybody whose grants let them. Grants are
looked at before, and elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pullcord.run.principal import Principal


class PolicyError(ValueError):
    """The policy cannot be used; the message names the line."""


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """A policy. The first line about a runnable decides."""

    lines: Sequence[tuple[str, Sequence[str]]]
    """A runnable's pattern, such as `agents/*`, and callers, as tenant/subject patterns."""

    def __call__(self, principal: Principal, runnable: str) -> bool:
        """Whether the caller may start this."""
        name = f"{principal.tenant}/{principal.subject}"
        for pattern, callers in self.lines:
            if fnmatchcase(runnable, pattern):
                return any(fnmatchcase(name, caller) for caller in callers)
        return True


def read_policy(text: str) -> PolicyTable:
    """The policy of a file: `agents/payroll acme/ann acme/bob`, `teams/* acme/*`, a line each.

    Raises:
        PolicyError: a line names no caller, or a caller that is not tenant/subject.
    """
    lines: list[tuple[str, Sequence[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2 or not all("/" in caller for caller in words[1:]):
            raise PolicyError(
                f"line {number} must be `runnable tenant/subject …`, such as agents/* acme/*"
            )
        lines.append((words[0], words[1:]))
    return PolicyTable(lines)
