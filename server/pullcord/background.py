"""Event loops that serve: the kind that a server uses, and one in a thread of its own.

What is served on them is not known here.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

if sys.platform == "win32":
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    import uvloop

    new_loop = uvloop.new_event_loop


class Background:
    """A loop in a thread that serves until it is stopped."""

    def __init__(
        self,
        serve: Callable[[asyncio.Event, Callable[[str], None]], Coroutine[Any, Any, None]],
    ) -> None:
        self._serve = serve
        self._ready = threading.Event()
        self._address = ""
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="pullcord-server", daemon=True)

    def start(self) -> str:
        """Returns the address once it is served. Raises what keeps it from that."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self._address

    def stop(self) -> None:
        """Asks it to stop serving, and does not wait."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it has stopped by itself
                self._loop.call_soon_threadsafe(self._stop.set)

    def join(self) -> None:
        """Returns once its thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self._serve(self._stop, self._on_ready)

    def _on_ready(self, address: str) -> None:
        self._address = address
        self._ready.set()
