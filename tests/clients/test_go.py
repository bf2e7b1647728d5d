"""The Go client builds, passes its own tests and checks, and does what its README says."""

import re
from pathlib import Path

import pytest
from pullcord.demo import server as demo_server

from tests.clients.toolchains import CLIENTS, toolchain

pytestmark = pytest.mark.timeout(900)

FOLDER = CLIENTS / "go"
MODULE = "github.com/pullcord/pullcord/clients/go"


@pytest.mark.parametrize("target", ["lint", "test", "check-generated", "build"])
def test_target(target: str) -> None:
    """The client's own checks and tests pass, and its code is what the protos say."""
    toolchain("go").make(target)


def test_readme(tmp_path: Path) -> None:
    """The README's program runs in an empty module, and stops the story that it streams."""
    go = toolchain("go")
    code = re.search(r"```go\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert code is not None
    go.run(["go", "mod", "init", "stranger"], tmp_path)
    go.run(["go", "mod", "edit", f"-replace={MODULE}={FOLDER}"], tmp_path)
    with demo_server() as address:
        program = code[1].replace("127.0.0.1:50051", address)
        assert program != code[1]
        (tmp_path / "main.go").write_text(program)
        go.run(["go", "mod", "tidy"], tmp_path)
        go.run(["go", "vet", "."], tmp_path)
        said = go.run(["go", "run", "."], tmp_path)
    end = re.search(r"(.*)\n\[that will do: (\d+) bytes are kept\]\n$", said, re.DOTALL)
    assert end is not None, said
    assert "a lighthouse that hums" in end[1]
    assert len(end[1].encode()) == int(end[2])


def test_stop_button() -> None:
    """The example stops its story after two seconds where nobody can press a key."""
    go = toolchain("go")
    with demo_server() as address:
        said = go.run(["go", "run", "./examples/stop-button", address], FOLDER)
    assert "a lighthouse that hums" in said
    assert re.search(r"Stopped\. \d+ characters of the story are kept\.", said)
    assert "CANCEL_OUTCOME_STOPPED" in said
    assert "CANCEL_CAUSE_USER, by the reader" in said
    assert "two seconds were up" in said
