"""The metadata by which a caller says who it is and for whom it calls.

Metadata is ASCII, names are not, so other characters travel percent-encoded. Whether an actor is
who it says is not decided here.
"""

from collections.abc import Iterable
from urllib.parse import quote, unquote

from pullcord.run.principal import is_subject
from pullcord.run.scope import Scope

ACTOR_KEY = "pullcord-actor"
MAX_ACTOR_LENGTH = 256
PRINCIPAL_KEY = "pullcord-principal"
"""For whom a service calls that may act for others: tenant/subject."""

_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


def actor_metadata(actor: str) -> tuple[str, str]:
    """The metadata entry that says who asks."""
    return ACTOR_KEY, quote(actor[:MAX_ACTOR_LENGTH], safe=_PLAIN, errors="replace")


def with_actor(
    metadata: Iterable[tuple[str, str | bytes]], actor: str
) -> tuple[tuple[str, str | bytes], ...]:
    """The same metadata, from somebody else."""
    return (*(entry for entry in metadata if entry[0] != ACTOR_KEY), actor_metadata(actor))


def actor_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The actor in printable characters; empty if the caller did not say."""
    for key, value in metadata:
        if key == ACTOR_KEY and isinstance(value, str):
            said = unquote(value, errors="replace")
            return "".join(filter(str.isprintable, said))[:MAX_ACTOR_LENGTH]
    return ""


def principal_metadata(scope: Scope) -> tuple[str, str]:
    """The metadata entry that says for whom a service calls."""
    return PRINCIPAL_KEY, f"{scope.tenant}/{quote(scope.owner, safe=_PLAIN)}"


def principal_of(metadata: Iterable[tuple[str, str | bytes]]) -> Scope | None:
    """For whom the call is made; None: it is not said, or not in a form that can be meant."""
    named = [value for key, value in metadata if key == PRINCIPAL_KEY and isinstance(value, str)]
    if len(named) != 1:
        return None
    tenant, _, owner = named[0].partition("/")
    owner = unquote(owner, errors="replace")
    return Scope(tenant, owner) if tenant and is_subject(owner) else None
