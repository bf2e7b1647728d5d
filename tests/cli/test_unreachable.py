"""What the command line says of a server that it cannot reach, or that does not know its caller."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pullcord import runnable
from pullcord.cli.app import app
from pullcord.cli.unreachable import unreachable
from typer.testing import CliRunner

from tests.identity.callers import Authority, Guarded, guarded, token_of


@runnable
def say(input: str) -> str:
    """Says what it is told."""
    return input


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def encrypted(folder: Path) -> Iterator[Guarded]:
    certificate, key = Authority(folder).issue("server")
    with guarded(folder, say, tls_certificate=certificate, tls_key=key) as served:
        yield served


def _call(*args: str, **env: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*args, "runnables"], env=env)
    return done.exit_code, done.stderr


def test_a_server_with_tls(encrypted: Guarded, folder: Path) -> None:
    """What is missing for an encrypted connection is named: tls://, the CA, and then the token."""
    address = encrypted.address
    code, said = _call(PULLCORD_ADDRESS=address)
    assert code == 4
    assert f"the server at {address} cannot be reached" in said
    assert "with tls:// before the host" in said
    code, said = _call(PULLCORD_ADDRESS=f"tls://{address}")
    assert code == 4
    assert "its certificate is not trusted" in said
    assert "`pullcord --ca FILE …` (or PULLCORD_CA)" in said
    trusting = {"PULLCORD_ADDRESS": f"tls://{address}", "PULLCORD_CA": str(folder / "ca.pem")}
    code, said = _call(**trusting)
    assert code == 5
    assert "`pullcord --token-file FILE …` (or PULLCORD_TOKEN)" in said
    assert "authorization" not in said
    assert _call(**trusting, PULLCORD_TOKEN=token_of("ann")) == (0, "")


def test_a_server_without_tls(address: str) -> None:
    """An encrypted connection to a server that has none is told to do without."""
    code, said = _call(PULLCORD_ADDRESS=f"tls://{address}")
    assert code == 4
    assert "without tls://" in said


def test_nobody_listens() -> None:
    """The question to look into comes first, then the address, and nothing of gRPC's own words."""
    code, said = _call(PULLCORD_ADDRESS="127.0.0.1:1")
    assert code == 4
    assert said.startswith("pullcord: the server cannot be reached: is `pullcord serve` running")
    assert said.endswith("right? (127.0.0.1:1: Connection refused)\n")


def test_what_is_not_known_stays() -> None:
    """Other words of a connection are kept."""
    assert unreachable("the stream broke").endswith("right? (the stream broke)")
