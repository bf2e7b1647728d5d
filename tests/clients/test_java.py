"""The Java client builds, passes its own tests and checks, and does what its README says."""

import re
from pathlib import Path

import pytest
from pullcord.demo import server as demo_server

from tests.clients.toolchains import CLIENTS, toolchain

pytestmark = pytest.mark.timeout(900)

FOLDER = CLIENTS / "java"
MAVEN = ["mvn", "--batch-mode", "--no-transfer-progress", "--quiet"]


@pytest.mark.parametrize("verb", ["lint", "test", "check-generated", "build"])
def test_verb(verb: str) -> None:
    """The client's own checks and tests pass, and its code is what the protos say."""
    toolchain("java").make(verb)


def _block(language: str) -> str:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    block = re.search(rf"```{language}\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    return block[1]


def test_readme(tmp_path: Path) -> None:
    """The README's first program runs in an empty project, and stops the story that it streams."""
    java = toolchain("java")
    java.run([*MAVEN, "-f", str(FOLDER), "-DskipTests", "install"], tmp_path)
    (tmp_path / "pom.xml").write_text(_block("xml"), encoding="utf-8")
    resolve, start = _block("sh").splitlines()
    java.run([*MAVEN, *resolve.split()[1:]], tmp_path)
    with demo_server() as address:
        program = _block("java").replace("127.0.0.1:50051", address)
        assert program != _block("java")
        (tmp_path / "Story.java").write_text(program, encoding="utf-8")
        said = java.run(start.replace("'", "").split(), tmp_path)
    assert "a lighthouse that hums" in said
    assert said.endswith("\n[stopped]\n")
    assert len(said) > 100


def test_the_stop_button() -> None:
    """The example tells for two seconds where nobody can press Enter, and shows the receipt."""
    java = toolchain("java")
    java.make("build")
    with demo_server() as address:
        said = java.run(["java", f"@{FOLDER}/target/stop-button.args", address], FOLDER)
    story, _, rest = said.rpartition("\n\n")
    receipt = dict(line.split(maxsplit=1) for line in rest.splitlines())
    assert receipt["kept"] == f"{len(story)} characters"
    assert receipt["outcome"] == "STOPPED"
    assert receipt["cause"] == "USER"
    assert receipt["reason"] == "two seconds were over"
    assert {"accepted", "delivered", "stopped"} < receipt.keys()
