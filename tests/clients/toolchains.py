"""The toolchain of a client's language in a test: whether it is here, and what its verbs print.

What each language needs is known in `tools.clients`, what a verb does in each client's Makefile.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.clients import CLIENTS, is_ci, make, missing

__all__ = ["CLIENTS", "Toolchain", "toolchain"]


@dataclass(frozen=True)
class Toolchain:
    """What builds and tests the client of one language."""

    language: str

    def make(self, target: str) -> str:
        """What a target of the client's Makefile prints; the test fails where the target does."""
        return _said(make(self.language, target, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))

    def run(self, command: list[str], folder: Path) -> str:
        """What a command prints in a folder; the test fails where the command does."""
        done = subprocess.run(
            command,
            check=False,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return _said(done)


def toolchain(language: str) -> Toolchain:
    """A language's toolchain; without one the test is skipped, and in CI it fails."""
    if words := missing(language):
        if is_ci():
            pytest.fail(words, pytrace=False)
        pytest.skip(words)
    return Toolchain(language)


def _said(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode != 0:
        command = " ".join(map(str, done.args))
        pytest.fail(f"{command}: status {done.returncode}\n{done.stdout}", pytrace=False)
    return done.stdout
