"""The engine of in-process programs: one a process, made when first needed. No server, no port.

This is a composition root, like `server`, for programs that call `agent.run(...)` themselves.
"""

import atexit
import functools
import threading

from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import SilentObserver
from pullcord.executors.local import LocalExecutor
from pullcord.stores.memory import MemoryStore

_lock = threading.Lock()


def local_engine() -> Engine:
    """The one engine of this process; closed when the process exits."""
    with _lock:  # or two threads at once would make two
        return _make()


@functools.cache
def _make() -> Engine:
    options = EngineOptions(max_finished_runs=1000)
    clock = ThreadClock()
    observer = SilentObserver()
    engine = Engine(
        options=options,
        clock=clock,
        store=MemoryStore(clock, options),
        observer=observer,
        executor=LocalExecutor(options, clock, observer.loop_stalled),
    )
    atexit.register(engine.close)
    return engine
