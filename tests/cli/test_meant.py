"""What is answered to commands, options and variables that do not exist."""

import pytest
from pullcord.cli.app import app
from pullcord.cli.meant import _COMMANDS, _OPTIONS
from pullcord.settings import Settings
from pullcord.variables import CLIENTS, misspelt
from typer.main import get_command
from typer.testing import CliRunner

from tests.cli.commands import call


def _refused(*args: str) -> str:
    """The words of the refusal, in one line."""
    done = CliRunner().invoke(app, args, env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 2
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("stop", "cancel"),
        ("list", "ps"),
        ("ls", "ps"),
        ("start", "run"),
        ("logs", "watch"),
        ("show", "get"),
        ("agents", "runnables"),
        ("resume", "continue"),
        ("console", "serve --http 127.0.0.1:8080"),
        ("help", "--help"),
    ],
)
def test_the_word_of_another_program(word: str, meant: str) -> None:
    """It is answered with the command that does it here."""
    assert f"No such command '{word}'. Did you mean 'pullcord {meant}'?" in _refused(word, "x")


def test_a_misspelt_command() -> None:
    """Spelling is still looked at, also below `store`."""
    assert "Did you mean 'watch'" in _refused("wacht")
    assert "Did you mean 'check'" in _refused("store", "chekc")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("serve", "--address", "x"), "--address. Did you mean --listen?"),
        (("serve", "--port", "8080"), "--port. Did you mean --listen?"),
        (("serve", "--host", "::"), "--host. Did you mean --listen?"),
        (("run", "agents/a", "--host", "x"), "--host. Did you mean --address?"),
        (("run", "agents/a", "--detach"), "--detach. Did you mean --background?"),
        (("cancel", "r", "--force"), "--force. Did you mean --now?"),
        (("ps", "--tenant", "x"), "It goes before the command: pullcord --tenant … ps"),
        (("--json", "ps"), "It goes behind the command: pullcord COMMAND --json …"),
        (("ps", "--runable", "x"), "--runnable"),
    ],
)
def test_an_unknown_option(args: tuple[str, ...], words: str) -> None:
    """It is answered with the one that the command has for it, or with its place."""
    assert words in _refused(*args)


def test_what_is_suggested_exists() -> None:
    """Each command, and each option of at least one command."""
    group = get_command(app)
    commands = getattr(group, "commands", {})
    options = {option for one in commands.values() for p in one.params for option in p.opts}
    assert {name.split()[0] for name in _COMMANDS} <= {*commands, "--help", "--version"}
    assert set(_OPTIONS) <= options
    words = [word for words in _COMMANDS.values() for word in words.split()]
    assert len(words) == len(set(words))
    assert not set(words) & set(commands)


def test_a_misspelt_variable_is_warned_about_by_every_command() -> None:
    """Clients warn of theirs; what a server reads is not theirs to judge."""
    done = call("ps", address="127.0.0.1:1", PULLCORD_ADRESS="x", PULLCORD_TOKENS="y")
    assert "PULLCORD_ADRESS is no setting, and is ignored; did you mean PULLCORD_ADDRESS?" in (
        done.stderr
    )
    assert "PULLCORD_TOKENS" not in done.stderr


def test_no_setting_is_taken_for_a_misspelt_one() -> None:
    """Neither a client's nor a server's."""
    known = {name.upper() for name in Settings.model_fields}
    assert misspelt([f"PULLCORD_{name}" for name in (*known, *CLIENTS)], known) == {}
    assert misspelt(["PULLCORD_RAY__ADDRESS", "PULLCORD_JWT__KEYS"]) == {}
    assert misspelt(["PULLCORD_TOKNE", "PULLCORD_URL", "HOME"], known) == {
        "PULLCORD_TOKNE": "PULLCORD_TOKEN",
        "PULLCORD_URL": "PULLCORD_ADDRESS",
    }
