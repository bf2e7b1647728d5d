"""The clients' folders, the commands that each needs, and the verbs of all their Makefiles at once.

`python -m tools.clients lint` makes a target in every client. One whose toolchain is not here is
skipped in words; with CI=true it is a failure. What a target does is each client's own Makefile's.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CLIENTS = Path(__file__).resolve().parent.parent / "clients"

NEEDED = {
    "python": ((), "make"),
    "typescript": (("node", "npm"), "Node 20 or newer, https://nodejs.org"),
    "console": (("node", "npm"), "Node 20 or newer, https://nodejs.org"),
    "go": (("go",), "Go 1.26 or newer, https://go.dev/dl"),
    "java": (("javac", "mvn"), "a JDK, 17 or newer, and Maven, https://maven.apache.org"),
    "rust": (("cargo",), "Rust 1.88 or newer, https://rustup.rs"),
}
"""The commands of each language, and what brings them. Python is here, or nothing would be."""


def missing(language: str) -> str:
    """What must be installed before a client can be built, in words; empty: nothing."""
    commands, bringer = NEEDED[language]
    absent = [command for command in ("make", *commands) if shutil.which(command) is None]
    return f"clients/{language} needs {', '.join(absent)}: install {bringer}" if absent else ""


def is_ci() -> bool:
    """Whether a missing toolchain is a failure."""
    return os.environ.get("CI") == "true"


def make(language: str, target: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Makes a target of a client's Makefile; its words go where `options` of subprocess say.

    One at a time for each client: two that build in one folder would tread on each other.
    """
    command = ["make", "--no-print-directory", "-C", str(CLIENTS / language), target]
    # What the make above us was told (its targets, its variables) is not meant for this one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    with (CLIENTS / language / "Makefile").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        return subprocess.run(command, check=False, text=True, env=environment, **options)


def main() -> None:
    """Makes the targets in every client, one after the other, and fails at the end."""
    failed = []
    for language in NEEDED:
        if words := missing(language):
            print(f"skipped: {words}", file=sys.stderr)
            failed += [f"clients/{language}"] if is_ci() else []
            continue
        for target in sys.argv[1:]:
            print(f"make -C clients/{language} {target}", flush=True)
            if make(language, target).returncode != 0:
                failed.append(f"clients/{language} {target}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
