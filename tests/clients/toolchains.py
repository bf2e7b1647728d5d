"""The toolchains of the clients' languages: whether they are here, and their Makefiles' verbs.

What a verb does is the Makefile's of each client; of a language only its commands are known here.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parents[2] / "clients"

_NEEDED = {
    "go": (("go",), "Go 1.24 or newer, https://go.dev/dl"),
    "java": (("javac", "mvn"), "a JDK, 17 or newer, and Maven, https://maven.apache.org"),
    "rust": (("cargo",), "Rust 1.85 or newer, https://rustup.rs"),
    "typescript": (("node", "npm"), "Node 20 or newer, https://nodejs.org"),
}
"""The commands of each language, and what brings them."""


@dataclass(frozen=True)
class Toolchain:
    """What builds and tests the client of one language."""

    folder: Path
    """The client's."""

    def make(self, target: str) -> str:
        """What a target of the client's Makefile prints; its output is shown where it fails."""
        command = ["make", "--no-print-directory", "-C", str(self.folder), target]
        return self.run(command, self.folder)

    def run(self, command: list[str], folder: Path) -> str:
        """What a command prints that must succeed in a folder."""
        done = subprocess.run(
            command,
            check=False,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            pytest.fail(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}", False)
        return done.stdout


def toolchain(language: str) -> Toolchain:
    """A language's toolchain; without one the test is skipped, and in CI it fails."""
    commands, bringer = _NEEDED[language]
    missing = [command for command in ("make", *commands) if shutil.which(command) is None]
    if missing:
        words = f"clients/{language} needs {', '.join(missing)}: install {bringer}"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    return Toolchain(CLIENTS / language)
