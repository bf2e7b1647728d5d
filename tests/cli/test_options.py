"""How the values of options are read."""

import pytest
import typer
from pullcord.cli.options import connection, duration, labels_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("1.5m", 90.0),
        ("500ms", 0.5),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1m30s", 90.0),
        ("7", 7.0),
        (".5", 0.5),
        (" 3S ", 3.0),
        (5.0, 5.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is a number with a unit, several of them, or plain seconds."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "soon", "-1s", "1 2", "1x", "5s3", "nan", "1e3"])
def test_no_durations(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(typer.BadParameter):
        duration(text)


def test_labels() -> None:
    """A label is key=value; the value may be empty or hold more equals signs."""
    assert labels_of(["a=b", "c=", "d=e=f"]) == {"a": "b", "c": "", "d": "e=f"}
    for wrong in ("a", "=b"):
        with pytest.raises(typer.BadParameter):
            labels_of([wrong])


def test_an_address_with_tls() -> None:
    """tls:// before an address asks for an encrypted line."""
    assert connection("host:1")["credentials"] is None
    encrypted = connection("tls://host:1")
    assert encrypted["target"] == "host:1"
    assert encrypted["credentials"] is not None


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1", "127.0.0.1:50051"),
        ("tls://runs.example.com", "runs.example.com:50051"),
        ("[::1]", "[::1]:50051"),
        ("localhost:1234", "localhost:1234"),
        ("unix:/run/pullcord.sock", "unix:/run/pullcord.sock"),
        ("dns:///runs.example.com", "dns:///runs.example.com"),
    ],
)
def test_an_address_without_a_port_means_the_usual_port(address: str, target: str) -> None:
    """gRPC alone would dial 443."""
    assert connection(address)["target"] == target
