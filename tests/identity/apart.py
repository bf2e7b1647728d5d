"""A guarded server in a process of its own, so that its memory can be weighed.

`python -m tests.identity.apart SETTINGS` says its address, and ends when its stdin does.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pullcord import RunContext, runnable

from tests.identity.callers import guarded


class Apart:
    """The server's process."""

    def __init__(self, address: str, pid: int) -> None:
        self.address = address
        self._of = Path(f"/proc/{pid}")

    def rest(self) -> None:
        """From now on `most` is the most since now."""
        (self._of / "clear_refs").write_text("5")

    def most(self) -> int:
        """The most memory that it had since it was told to `rest`, in MiB."""
        words = (self._of / "status").read_text().split("VmHWM:")[1].split()
        return int(words[0]) >> 10


@contextlib.contextmanager
def apart(**settings: Any) -> Iterator[Apart]:
    command = [sys.executable, "-m", "tests.identity.apart", json.dumps(settings)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Apart(process.stdout.readline().decode().strip(), process.pid)
        finally:
            process.kill()


@runnable
async def big(ctx: RunContext) -> None:
    for _ in range(20):
        ctx.write("x" * 50_000)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        guarded(Path(folder), big, **json.loads(sys.argv[1])) as served,
    ):
        print(served.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
