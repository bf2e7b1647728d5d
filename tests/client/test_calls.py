"""What both faces of the client ask, and as whom."""

import pytest
from pullcord.client.calls import call_metadata, channel_options, default_actor, new_spec
from pullcord.wire.actor import actor_of


def test_a_run_has_an_id_of_its_own_before_it_is_asked_for() -> None:
    """The client mints the run_id, unless the caller gives one."""
    assert new_spec("agents/a", "", {}).run_id != new_spec("agents/a", "", {}).run_id
    assert new_spec("agents/a", "", {"run_id": "mine"}).run_id == "mine"


def test_an_unknown_option_is_refused() -> None:
    """A misspelt option is no silent default."""
    with pytest.raises(TypeError, match="sesion_id"):
        new_spec("agents/a", "", {"sesion_id": "s"})  # type: ignore[typeddict-unknown-key]


def test_the_callers_channel_options_win() -> None:
    """The client's own channel options can each be replaced."""
    options = dict(channel_options([("grpc.keepalive_time_ms", 1)]))
    assert options["grpc.keepalive_time_ms"] == 1
    assert options["grpc.keepalive_timeout_ms"] == 10_000


def test_every_call_says_who_asks() -> None:
    """The actor is user@host of the process, unless the caller says otherwise."""
    assert actor_of(call_metadata([], None)) == default_actor()
    assert actor_of(call_metadata([("k", "v")], "Zoë")) == "Zoë"
    assert "@" in default_actor()


def test_a_user_without_a_name_is_known_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose user has no name the actor is made of its number."""

    def nobody() -> str:
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert default_actor().startswith("uid-")
