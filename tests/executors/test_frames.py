"""Looking where threads are must never stop the process."""

import subprocess
import sys
import threading

from pullcord.executors.frames import frame_of, frames

PROGRAM = """
import gc, threading, time
from pullcord.executors.frames import frames

class Leaves:
    def __init__(self):
        self.cycle = self
    def __del__(self):
        time.sleep(0)  # lets another thread run

def live_and_die():
    for _ in range(2000):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()

others = [threading.Thread(target=live_and_die) for _ in range(4)]
for other in others:
    other.start()
gc.set_threshold(1)
while any(other.is_alive() for other in others):
    Leaves()
    frames()
print("looked")
"""


def test_a_finalizer_cannot_stop_the_process() -> None:
    """Looking at frames, while finalizers run and threads come and go, comes to an end."""
    looked = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True
    )
    assert looked.stdout == "looked\n"


def test_a_thread_that_is_not_at_work_has_no_frame() -> None:
    """A thread has a frame while it is at work, and none before and after."""
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    assert frame_of(thread.ident) is None
    thread.start()
    assert thread.ident in frames()
    go.set()
    thread.join()
    assert frame_of(thread.ident) is None
