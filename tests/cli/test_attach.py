"""`pullcord run --attach`: what becomes a part, and what is refused in words."""

from pathlib import Path

import pytest
from pullcord.cli.app import app
from typer.testing import CliRunner

from tests.cli.commands import call


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG\r\n")
    return path


def test_files_and_addresses_go_with_the_text(address: str, photo: Path) -> None:
    """The media type follows from the name, or is given behind a colon."""
    link = "https://example.com/dog.jpg"
    attached = ["--attach", str(photo), "--attach", f"{photo}:image/x-own", "--attach", link]
    done = call("run", "agents/seen", "look", *attached, address=address)
    assert done.stdout == (
        f"look cat.png|image/png|6 cat.png|image/x-own|6 dog.jpg|image/jpeg|{link}\n"
    )


def test_an_attachment_from_stdin(address: str) -> None:
    """Its media type must be said."""
    done = call(
        "run", "agents/seen", "look", "--attach", "-:text/csv", address=address, input="a,b\n"
    )
    assert done.stdout == "look |text/csv|4\n"


def test_a_file_whose_name_looks_like_a_media_type(address: str, tmp_path: Path) -> None:
    """The file that is there is meant."""
    (tmp_path / "odd:text").mkdir()
    odd = tmp_path / "odd:text" / "plain"
    odd.write_bytes(b"x")
    done = call("run", "agents/seen", "--attach", str(odd), address=address)
    assert "its media type cannot be guessed" in done.stderr
    done = call("run", "agents/seen", "--attach", f"{odd}:text/plain", address=address)
    assert done.stdout == " plain|text/plain|1\n"


@pytest.mark.parametrize(
    ("attached", "words"),
    [
        ("nowhere.png", "--attach nowhere.png: No such file or directory"),
        ("/etc", "--attach /etc: its media type cannot be guessed; write /etc:image/png"),
        ("/etc:text/plain", "--attach /etc:text/plain: Is a directory"),
        ("empty.png", "--attach empty.png: it is empty"),
        ("odd", "--attach odd: its media type cannot be guessed; write odd:image/png"),
        ("-", "--attach -: its media type cannot be guessed; write -:image/png"),
        ("sparse.png", "it is too large: all attachments together may have 32 MiB"),
        ("five.png", "--attach five.png: must be at most 4194304 bytes"),
        ("thirty.png", "--attach: the attachments have 30.0 MiB, which is more than this server"),
        ("text.csv", "--attach text.csv: must be UTF-8, as it is text/csv"),
    ],
)
def test_what_cannot_be_attached_is_said_in_words(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attached: str, words: str
) -> None:
    """With the name of the file, before or after the server was asked."""
    monkeypatch.chdir(tmp_path)
    Path("empty.png").touch()
    Path("odd").write_bytes(b"x")
    Path("text.csv").write_bytes(b"\xff")
    for name, size in (("five.png", 5), ("thirty.png", 30), ("sparse.png", 40)):
        with Path(name).open("wb") as file:
            file.truncate(size * 2**20)
    args = ["run", "agents/seen", "--attach", attached]
    done = CliRunner().invoke(app, args, env={"PULLCORD_ADDRESS": address})
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_what_is_not_taken_names_the_field(address: str, photo: Path) -> None:
    """A runnable that takes no parts is not run."""
    done = call("run", "agents/say", "--attach", str(photo), address=address)
    assert done.returncode == 2
    assert "--attach: agents/say takes none" in done.stderr


def test_stdin_is_for_one(address: str) -> None:
    """The input, or an attachment."""
    done = call("run", "agents/seen", "-", "--attach", "-:text/csv", address=address, input="x")
    assert done.returncode == 2
    assert "standard input can be one of" in done.stderr


@pytest.mark.parametrize(("data", "input"), [('{"a": [1, null]}', ""), ("-", '{"a": [1, null]}')])
def test_data_reaches_the_run(address: str, data: str, input: str) -> None:
    """--data is a JSON object, or - for that of standard input; it is the run's input_data."""
    args = ["run", "agents/given", "--data", data]
    done = CliRunner().invoke(app, args, input=input, env={"PULLCORD_ADDRESS": address})
    assert (done.exit_code, done.stdout) == (0, '{"a": [1, null]}\n')


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{a: 1}", "--data: it is no JSON: "),
        ('{"a": NaN}', "--data: it is no JSON: NaN is no number"),
        ("[1]", "--data: it must be a JSON object"),
        ("", "--data: it is no JSON: "),
        ("-", "--data: it is no JSON: "),
    ],
)
def test_data_that_is_no_object(address: str, data: str, words: str) -> None:
    """It is refused in words that name the option."""
    args = ["run", "agents/given", "--data", data]
    done = CliRunner().invoke(app, args, env={"PULLCORD_ADDRESS": address})
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pullcord: {words}")


def test_data_is_not_standard_input_twice(address: str) -> None:
    """Standard input is either the input or the data."""
    args = ["run", "agents/given", "-", "--data", "-"]
    done = CliRunner().invoke(app, args, env={"PULLCORD_ADDRESS": address})
    assert done.exit_code == 2
    assert "standard input can be one of" in done.stderr
