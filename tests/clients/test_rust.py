"""The Rust client builds, passes its own tests and checks, and does what its README says."""

import re
import shutil
from pathlib import Path

import pytest
from pullcord.demo import server as demo_server

from tests.clients.toolchains import CLIENTS, toolchain

pytestmark = pytest.mark.timeout(900)

FOLDER = CLIENTS / "rust"
MANIFEST = """\
[package]
name = "stranger"
version = "0.0.0"
edition = "2024"

[dependencies]
pullcord = {{ path = "{folder}" }}
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}
"""


@pytest.mark.parametrize("verb", ["lint", "test", "check-generated", "build"])
def test_verb(verb: str) -> None:
    """The client's own checks and tests pass, and its code is what the protos say."""
    toolchain("rust").make(verb)


def test_readme(tmp_path: Path) -> None:
    """The README's first program runs in an empty project, and stops the story that it streams."""
    rust = toolchain("rust")
    code = re.search(r"```rust.*?\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text(MANIFEST.format(folder=FOLDER.as_posix()))
    # The client's pinned versions and what it has built of them: nothing is fetched or built twice.
    shutil.copy(FOLDER / "Cargo.lock", tmp_path)
    target = ["--target-dir", str(FOLDER / "target")]
    with demo_server() as address:
        program = code[1].replace("127.0.0.1:50051", address)
        assert program != code[1]
        (tmp_path / "src" / "main.rs").write_text(program)
        said = rust.run(["cargo", "run", "--quiet", *target], tmp_path)
    assert "a lighthouse that hums" in said
    assert said.endswith("\n[stopped]\n")
    assert len(said) > 300
