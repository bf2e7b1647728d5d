"""How a caller says who it is."""

from hypothesis import given
from pullcord.wire.actor import ACTOR_KEY, actor_metadata, actor_of

from tests.wire.strategies import texts


@given(texts)
def test_an_actor_comes_back_as_it_was(actor: str) -> None:
    """Any printable name travels in ASCII metadata."""
    key, value = actor_metadata(actor)
    assert value.isascii()
    assert value.isprintable()
    assert actor_of([("x", b""), (key, value)]) == "".join(filter(str.isprintable, actor))


def test_a_usual_actor_is_readable_on_the_wire() -> None:
    """user@host needs no encoding."""
    assert actor_metadata("ann@host-1") == (ACTOR_KEY, "ann@host-1")


def test_who_says_nothing_is_nobody() -> None:
    """Without the entry the actor is empty."""
    assert actor_of([("user-agent", "x")]) == ""
