"""The verbs of all clients at once: what is missing is skipped in words, and in CI is a failure."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import clients

ROOT = Path(__file__).parents[2]


def _main(*targets: str, ci: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tools.clients", *targets],
        check=False,
        cwd=ROOT,
        env={"PATH": "", "CI": ci},
        capture_output=True,
        text=True,
    )


def test_a_missing_toolchain_is_skipped_in_words() -> None:
    """Each client is named whose toolchain is not here, with what brings it."""
    done = _main("lint", ci="")
    assert done.returncode == 0
    assert "skipped: clients/go needs make, go: install Go " in done.stderr


def test_a_missing_toolchain_fails_ci() -> None:
    """Where CI=true nothing may be left out."""
    done = _main("lint", ci="true")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("failed: clients/python, clients/typescript")


@pytest.mark.parametrize(("target", "fails"), [("check-generated", False), ("no-such", True)])
def test_a_target_is_made(target: str, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's own Makefile does the work, and its failure is ours."""
    monkeypatch.setattr(clients, "NEEDED", {"python": clients.NEEDED["python"]})
    monkeypatch.setattr(sys, "argv", ["clients", target])
    if fails:
        with pytest.raises(SystemExit, match="failed: clients/python no-such"):
            clients.main()
    else:
        clients.main()


def test_every_client_is_known() -> None:
    """No folder of clients/ is forgotten."""
    folders = {path.parent.name for path in clients.CLIENTS.glob("*/Makefile")}
    assert folders == set(clients.NEEDED)
