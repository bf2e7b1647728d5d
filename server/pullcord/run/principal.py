"""A verified caller: who it is, in which tenant, and what it has been granted.

Values, and how grants are read from words. Who a caller is, is found out elsewhere; what may be
done to which run is decided in one place, `service.access`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from fnmatch import fnmatchcase

from pullcord.run.scope import LOCAL, Reach, Scope

MAX_SUBJECT_LENGTH = 256
_TENANT = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SUBJECT = re.compile(r"[!-~]{1,256}")


class Verb(StrEnum):
    """The actions that a caller may be granted."""

    START = "start"
    """Start runs, and see what can be started."""
    WATCH = "watch"
    """Get, wait for and follow runs."""
    LIST = "list"
    CANCEL = "cancel"
    CONTINUE = "continue"
    """Decide for paused runs."""
    ERASE = "erase"
    """Delete for good what is kept of ended runs."""


class Width(IntEnum):
    """Whose runs a grant reaches."""

    NONE = 0
    OWN = 1
    TENANT = 2
    ALL = 3


Widths = Mapping[Verb, Width]

_OF_RUNS = (Verb.WATCH, Verb.LIST, Verb.CANCEL, Verb.CONTINUE)
_OWN: Widths = dict.fromkeys((Verb.START, *_OF_RUNS), Width.OWN)
ROLES: Mapping[str, Widths] = {
    "user": _OWN,
    "viewer": {Verb.WATCH: Width.TENANT, Verb.LIST: Width.TENANT},
    "operator": {**_OWN, **dict.fromkeys(_OF_RUNS, Width.TENANT)},
    "admin": {**_OWN, **dict.fromkeys((*_OF_RUNS, Verb.ERASE), Width.ALL)},
}
"""Words for grants that go together: a user has its own runs, a viewer sees its tenant's, an
operator sees, stops and continues its tenant's, and an admin everybody's. Nobody but an
admin erases without a grant of its own."""
ACT_AS = "act_as"
"""The grant to call on behalf of others of the same tenant, as another server does."""


class UnknownGrant(ValueError):
    """A word that grants nothing; the message says which words there are."""

    def __init__(self, word: str) -> None:
        super().__init__(
            f"{word!r} is no grant; write {', '.join(ROLES)}, {ACT_AS}, or "
            "runs:VERB, runs:VERB:tenant, runs:VERB:all or runs:start:RUNNABLE, "
            f"where VERB is one of {', '.join(Verb)}"
        )


@dataclass(frozen=True, slots=True)
class Grants:
    """The permissions of a caller."""

    widths: Widths = field(default_factory=dict)
    runnables: frozenset[str] | None = None
    """Patterns of what may be started, such as `agents/*`; None: anything."""
    act_as: bool = False

    def width(self, verb: Verb) -> Width:
        """Whose runs the verb reaches."""
        return self.widths.get(verb, Width.NONE)

    def starts(self, runnable: str) -> bool:
        """Whether this may be started, as far as the grants say."""
        if not self.width(Verb.START):
            return False
        return self.runnables is None or any(fnmatchcase(runnable, p) for p in self.runnables)

    @classmethod
    def of(cls, words: Iterable[str]) -> "Grants":
        """Reads words such as `user` or `runs:cancel:tenant`; the widest of them stands.

        Raises:
            UnknownGrant: naming the first word that is none.
        """
        widths: dict[Verb, Width] = {}
        runnables: set[str] = set()
        starts_anything = acts = False
        for word in words:
            acts |= word == ACT_AS
            granted, pattern = _read(word)
            if pattern:
                runnables.add(pattern)
            elif Verb.START in granted:
                starts_anything = True
            for verb, width in granted.items():
                widths[verb] = max(width, widths.get(verb, Width.NONE))
        only = None if starts_anything or not runnables else frozenset(runnables)
        return cls(widths, only, acts)


def _read(word: str) -> tuple[Widths, str]:
    """The widths that a word grants, and what it lets be started if that is not everything."""
    if word == ACT_AS:
        return {}, ""
    if word in ROLES:
        return ROLES[word], ""
    runs, _, rest = word.partition(":")
    name, _, how = rest.partition(":")
    if runs == "runs" and name in (*Verb,):
        verb = Verb(name)
        if verb is Verb.START:
            return {verb: Width.OWN}, how
        width = {"": Width.OWN, "own": Width.OWN, "tenant": Width.TENANT, "all": Width.ALL}
        if how in width:
            return {verb: width[how]}, ""
    raise UnknownGrant(word)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller that was verified."""

    tenant: str
    subject: str
    """Unique in its tenant; the owner of what it starts."""
    grants: Grants
    kind: str
    """Its verification: `token`, `jwt`, `certificate`, a function's own word, or `local`."""
    name: str = ""
    """A shorter name that it may use for itself as a user_id; empty: none."""
    expires_at: float | None = None
    """Seconds since the epoch after which its credential is worth nothing; None: no such time."""
    only_run: str = ""
    """The one run that it may do anything with; empty: any that its grants reach."""
    on_behalf_of: str = ""
    """The subject of the service that called for it; empty: it called itself."""

    @property
    def scope(self) -> Scope:
        """Whose its runs are."""
        return Scope(self.tenant, self.subject)

    @property
    def is_local(self) -> bool:
        """Whether nobody was verified, because nobody has to be here."""
        return self.kind == "local"

    def reach(self, verb: Verb) -> Reach | None:
        """Whose runs the verb reaches; None: nobody's."""
        match self.grants.width(verb):
            case Width.NONE:
                return None
            case Width.OWN:
                return Reach(self.tenant, self.subject)
            case Width.TENANT:
                return Reach(self.tenant)
            case Width.ALL:
                return Reach()


def is_subject(text: str) -> bool:
    """Whether this can be a caller's subject."""
    return _SUBJECT.fullmatch(text) is not None


def principal(
    tenant: str,
    subject: str,
    grants: Iterable[str] = ("user",),
    *,
    kind: str = "function",
    name: str = "",
    expires_at: float | None = None,
) -> Principal:
    """A verified caller, as an authenticator makes it.

    Raises:
        ValueError: the tenant or the subject cannot be one, or a grant is unknown.
    """
    if _TENANT.fullmatch(tenant) is None:
        raise ValueError(
            f"{tenant[:160]!r} is no tenant; write 1 to 128 of letters, digits and -_.:"
        )
    if not is_subject(subject):
        raise ValueError(
            f"{subject[:160]!r} is no subject; write 1 to {MAX_SUBJECT_LENGTH} printable ASCII"
            " characters without spaces"
        )
    return Principal(tenant, subject, Grants.of(grants), kind, name, expires_at)


NOBODY_VERIFIED = Principal(*LOCAL, Grants.of(("admin", ACT_AS)), "local")
"""The caller of a server that verifies nobody: it owns every run there, and may do everything."""
