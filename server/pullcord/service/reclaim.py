"""Gives memory back to the system after much of it was let go. It decides nothing about when."""

import ctypes
import gc
import sys


def reclaim() -> None:
    """Frees what is only held by cycles, and returns free pages. Takes long: not for a loop.

    Else an ended run that was let go may be freed only when much else has been made, and its small
    pieces would keep their pages even then.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)
