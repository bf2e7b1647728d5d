"""The store's file: made so that only its owner reads it, and held by one process at a time.

What is in it is not known here.
"""

import contextlib
import os
import sys
from pathlib import Path

from pullcord.run.errors import StoreUnavailable

if sys.platform != "win32":
    import fcntl


class StoreRefused(OSError):
    """This store cannot be served from; the message names the file, what is wrong, what to do."""


class StoreUnwritable(StoreRefused):
    """The file, or its folder, may not be written."""


class Held:
    """A file that belongs to this process until it is let go."""

    def __init__(self, path: Path) -> None:
        """Makes the file and its directory where they are missing. Raises StoreRefused."""
        self.path = path
        try:
            make_private(path.parent)
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnwritable(f"the store {path} cannot be made: {error.strerror}") from error
        try:
            _lock(self._lock)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.close(file)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{path}{suffix}").chmod(0o600)
        except BlockingIOError:
            os.close(self._lock)
            raise StoreRefused(
                f"the store {path} is in use by another server; stop that one, or name another"
                " file with --store"
            ) from None
        except OSError as error:
            os.close(self._lock)
            raise StoreUnwritable(
                f"the store {path} cannot be written: {error.strerror}"
            ) from error

    def let_go(self) -> None:
        """Another process may have it. May be called more than once."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def make_private(directory: Path) -> None:
    """Makes a directory that nobody else may look into, unless it is there already."""
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)  # whatever the umask took away


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError if another process holds it. The system lets go when we die."""
    if sys.platform == "win32":
        raise StoreUnavailable("SQLite stores need a POSIX system; serve with --store memory")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
