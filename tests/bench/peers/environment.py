"""A virtual environment for each peer, made on demand in build/peers from the peer's lock file.

So nothing of a peer ever enters Pullcord's own environment or its lock files. What a peer is asked
is not known here.
"""

import asyncio
import hashlib
import sys
from pathlib import Path

HOME = Path("build/peers")
_LOCKS = Path(__file__).parent
_PATIENCE = 300.0
"""Seconds after which an installation is given up."""


class NotInstalled(Exception):
    """The peer cannot be had here; the words say why."""


async def python_of(name: str) -> Path:
    """The interpreter of the peer's environment, which is made anew when its lock has changed."""
    lock, home = _LOCKS / f"{name}.lock", HOME / name
    python, installed = home / "bin/python", home / ".installed"
    version = f"{sys.version} {hashlib.sha256(lock.read_bytes()).hexdigest()}"
    if installed.is_file() and installed.read_text() == version:
        return python
    try:
        async with asyncio.timeout(_PATIENCE):
            await _run(sys.executable, "-m", "venv", "--clear", str(home))
            # Where there is no network, one retry says so soon enough.
            options = ("--quiet", "--no-input", "--retries", "1", "--require-hashes")
            await _run(str(python), "-m", "pip", "install", *options, "--requirement", str(lock))
    except TimeoutError:
        raise NotInstalled(f"installing it took more than {_PATIENCE:g} s") from None
    installed.write_text(version)
    return python


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise NotInstalled(_reason(said.decode(errors="replace")))


def _reason(said: str) -> str:
    """The first error of an installer's output, which the others follow from."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["the installer said nothing"])[0]
