"""What a process takes of the machine, as the system tells: memory and time. It decides nothing."""

import os
import time
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def is_known() -> bool:
    """Whether the system tells how much memory a process holds."""
    return Path("/proc/self/statm").exists()


def resident(pid: int) -> int:
    """Bytes of a process that are in memory now; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used; 0 where the system does not tell."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the clock of another process, as Linux has it
    except OSError:
        return 0.0


def in_words(size: int) -> str:
    """Such as `1.5 GiB`."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"
