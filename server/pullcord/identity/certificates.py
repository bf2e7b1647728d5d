"""Client certificates: who is behind the ids in one, by a file of rules, or each id by itself.

TLS has verified the certificate before; its common name is never read. Behind a gateway the
certificate is the gateway's, so it gives that and no caller a name.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pullcord.identity.changes import Changes
from pullcord.run.errors import Unauthenticated
from pullcord.run.principal import Principal, principal

_log = logging.getLogger("pullcord.identity")
DEFAULT_TENANT = "default"


class RulesError(ValueError):
    """The file of rules cannot be used; the message names the line."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The caller behind the ids that match a pattern."""

    pattern: str
    tenant: str
    subject: str
    """`-`: the id itself."""
    grants: tuple[str, ...]

    def caller(self, id: str) -> Principal:
        """The caller of this id."""
        subject = id if self.subject == "-" else self.subject
        return principal(self.tenant, subject, self.grants, kind="certificate")


ANY = (Rule("*", DEFAULT_TENANT, "-", ("user",)),)
"""Without a file: every certificate of the CA is a user of its own."""


class Certificates:
    """A CertificateVerifier by the rules of a file, the first that matches. Used on one loop."""

    def __init__(
        self, path: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises RulesError, OSError."""
        self._path = path
        self._changes = Changes([] if path is None else [path], clock)
        self._rules = ANY if path is None else read_rules(path.read_text())

    def identify(self, ids: Sequence[str]) -> Principal:
        """The caller of these ids. Raises Unauthenticated."""
        if self._changes.seen():
            self._read_again()
        for id in ids:
            for rule in self._rules:
                if fnmatchcase(id, rule.pattern):
                    try:
                        return rule.caller(id)
                    except ValueError as error:
                        raise Unauthenticated(f"a certificate's id: {error}") from None
        raise Unauthenticated("no rule knows the certificate's ids")

    def _read_again(self) -> None:
        assert self._path is not None
        try:
            self._rules = read_rules(self._path.read_text())
        except (OSError, ValueError) as error:
            _log.error("%s is not read again, the last rules stand: %s", self._path, error)
        else:
            _log.info("%s was read again: %d rules", self._path, len(self._rules))


def read_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a file, a line each: `id-pattern tenant subject grants`; subject - is the id.

    Raises:
        RulesError: a line is none.
    """
    rules: list[Rule] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 4:
            raise RulesError(
                f"line {number} must be `id-pattern tenant subject grants`,"
                " such as spiffe://acme/* acme - user"
            )
        grants = tuple(grant for word in words[3:] for grant in word.split(",") if grant)
        rule = Rule(words[0], words[1], words[2], grants)
        try:
            rule.caller("id")
        except ValueError as error:
            raise RulesError(f"line {number}: {error}") from None
        rules.append(rule)
    return tuple(rules)
