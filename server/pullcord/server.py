"""The composition root of a server: settings, engine and transport put together, and its life.

Here is where a server starts, drains on a signal, and ends. Each part's own work is elsewhere.
"""

import asyncio
import dataclasses
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from pullcord.adapters.offering import runnables
from pullcord.background import Background, new_loop
from pullcord.doors import (
    Entrance,
    check_exposure,
    check_free,
    counting,
    disclosure_of,
    make_quotas,
)
from pullcord.engine.catalog import Catalog
from pullcord.engine.clock import Clock, ThreadClock
from pullcord.engine.engine import Engine
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import Observer, RunStore
from pullcord.engine_parts import Parts
from pullcord.executors.local import LocalExecutor
from pullcord.extras import install
from pullcord.hooks import Hook, call_hooks
from pullcord.identity.authenticator import Authenticator
from pullcord.run.cancel import CancelMode
from pullcord.service.access import Policy
from pullcord.settings import Settings, SettingsError, overridden, read_settings, said_by_options
from pullcord.telemetry import Telemetry
from pullcord.transports.front import Front
from pullcord.transports.grpc.server import GrpcOptions, GrpcServer, most_connections
from pullcord.transports.grpc.tls import server_credentials
from pullcord.webdoor import listen_web, make_web
from pullcord.webhooks.making import make_links, make_webhooks

_MESSAGE = 16 * 1024 * 1024
"""Bytes of a request that are always read: what is over a bound of ours is refused in our words."""
FLUSH = 5.0
"""Seconds that streams get, once all runs have ended, to send what they have."""
_ENDING = 10.0
"""Seconds that runs which were interrupted, or abandoned, get to be ended and kept."""
_LOOK, _SILENT = 1.0, 5.0
"""Seconds between two looks whether the store answers, and after which it does not."""
_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that computes lets another one have the interpreter. Python's own
5 ms would be added to every cancel while runs compute."""
_COLLECT_AFTER = 10_000
"""Objects made between two looks for garbage. After Python's own 700, a burst of starts spends a
fifth of its time looking through live runs, and everything else waits meanwhile."""

_log = logging.getLogger("pullcord.server")


class RunServer:
    """Serves agents, teams, workflows and plain functions.

    `serve()` serves until a signal; `with server as address:` (or `start` and `stop`) serves
    beside the program's own work. One server serves once.
    """

    def __init__(
        self,
        agents: Iterable[Any] = (),
        teams: Iterable[Any] = (),
        workflows: Iterable[Any] = (),
        *,
        settings: Settings | None = None,
        http: str | None = None,
        observer: Observer | None = None,
        clock: Clock | None = None,
        store: str | Callable[[Clock, EngineOptions], RunStore] | None = None,
        authenticator: Authenticator | None = None,
        policy: Policy | None = None,
        on_startup: Iterable[Hook] = (),
        on_shutdown: Iterable[Hook] = (),
    ) -> None:
        """Serves runnables, plain functions, and objects of other frameworks: of pydantic-ai,
        LangGraph, agno and the OpenAI Agents SDK. Which kind each is, it says by itself.

        The hooks are called in each process that executes runs, before the first and after the
        last of them. `http` is an address, host:port, at which the same runs are served over HTTP.
        `store` keeps the runs: `memory`, a file, or what makes one; None: what the
        settings say, or memory. It is opened when the server serves. `authenticator` verifies
        callers, and `policy` says who may start what; without them, the settings do.

        Raises ValueError where two runnables have one name, SettingsError for wrong settings."""
        given = {
            "settings": settings,
            "http": http,
            "observer": observer,
            "store": store,
            "authenticator": authenticator,
            "policy": policy,
        }
        self._given = [name for name, value in given.items() if value]
        self.settings = overridden(
            settings or read_settings(), {"http": http} | dict(said_by_options())
        )
        self._authenticator, self._policy = authenticator, policy
        self._quotas = make_quotas(self.settings)
        self.mtls_address = ""
        """The address for callers with client certificates, once it is served."""
        self.http_url = ""
        """The HTTP address, once it is served."""
        offered = {"agents": agents, "teams": teams, "workflows": workflows}
        self.catalog = Catalog(
            one for where, given in offered.items() for one in runnables(given, where)
        )
        options = self.settings.engine
        clock = clock or ThreadClock()
        observer = counting(
            observer or Telemetry(tenants=self.settings.metrics_tenants), self._quotas
        )
        executor = LocalExecutor(
            options,
            clock,
            observer.loop_stalled,
            disclosure=disclosure_of(self.settings, authenticator),
            isolate_all=self.settings.isolation == "process",
        )
        self._parts = Parts(options, clock, observer, executor, store)
        self._front: Front | None = None
        self.on_startup, self.on_shutdown = tuple(on_startup), tuple(on_shutdown)
        self._background: Background | None = None
        self._begun = False

    # --- in the foreground

    @property
    def engine(self) -> Engine:
        """The engine; before anything was opened, one that keeps runs in memory."""
        return self._parts.engine

    @property
    def kept_in(self) -> str:
        """The store's name: `memory`, or its file."""
        return self._parts.kept_in

    def serve(
        self,
        listen: str | None = None,
        on_ready: Callable[[str], None] | None = None,
        *,
        store: str | None = None,
        outlives: bool = False,
    ) -> None:
        """Serves until SIGTERM or SIGINT, then drains. `on_ready` is called with the address; if it
        is unset, the log has it.

        `store` keeps the runs, whatever else says where; `outlives`: if nothing else says it, a
        file of this address does.

        The first signal drains: no new runs, everything else is served, and what has not ended
        within the drain time is cancelled. A second signal cancels at once, a third IMMEDIATE.

        Raises:
            OSError: the address cannot be listened on, or the store cannot be opened.
            RuntimeError: it has served already; make another one.
        """
        listen = listen or self.settings.listen
        if not self.settings.reuse_port:  # before the store: two servers of one address share one
            check_free("LISTEN", listen)
            check_free("HTTP", self.settings.http)
            check_free("MTLS_LISTEN", self.settings.mtls_listen)
        # Processes that share an address cannot share a file.
        self._begin(store, listen if outlives and not self.settings.reuse_port else None)
        # The process is the server's own: what has been imported is there to stay.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(self._serve(listen, on_ready or self._log_ready))

    def _log_ready(self, address: str) -> None:
        _log.info("serving on %s; runs are kept in %s", address, self.kept_in)

    async def _serve(self, listen: str, on_ready: Callable[[str], None]) -> None:
        stop = asyncio.Event()
        signals = 0

        def on_signal() -> None:
            nonlocal signals
            signals += 1
            stop.set()
            if signals > 1:
                mode = CancelMode.GRACEFUL if signals == 2 else CancelMode.IMMEDIATE
                threading.Thread(
                    target=self.engine.shut_down_runs, args=(mode,), daemon=True
                ).start()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await self._serve_until(stop, listen, on_ready)

    async def _serve_until(
        self,
        stop: asyncio.Event,
        listen: str,
        on_ready: Callable[[str], None],
        flush: float = FLUSH,
    ) -> None:
        sys.setswitchinterval(_SWITCH_INTERVAL)
        entrance = self._entrance()
        front = Front(self.engine, self.catalog, entrance.doors, self.settings.heartbeat)
        self._front = front
        server = GrpcServer(front, self._grpc_options())
        links = make_links(self.settings)
        web = make_web(front, self.settings, links)
        webhooks = make_webhooks(self.settings, links)
        watching: asyncio.Future[None] | None = None
        try:
            address = self._listen(server, entrance, listen)
            if web is not None:
                self.http_url = listen_web(web, self.settings, entrance)
            await _in_thread(call_hooks, self.on_startup)
            if webhooks is not None:
                await _in_thread(webhooks.open, self.engine)
            waited = await _in_thread(self.engine.recover, self.catalog.find, self.catalog.names)
            front.open()
            await server.start()
            if web is not None:
                await web.start()
            if webhooks is not None:
                webhooks.begin()
            on_ready(address)
            if waited:
                _log.info("runs that an earlier process had not begun: %d", waited)
            watching = asyncio.ensure_future(self._watch_store(front))
            await stop.wait()
            await self._drain(front)
        finally:
            if watching is not None:
                watching.cancel()
            front.verbs.end_lists()
            ends = [server.stop(flush), *([web.stop(flush)] if web is not None else [])]
            await asyncio.gather(*ends)
            await front.close()
            if webhooks is not None:
                await _in_thread(webhooks.end, flush)
            await _in_thread(self.engine.close)
            await _in_thread(entrance.close)
            await _in_thread(call_hooks, self.on_shutdown)

    async def _watch_store(self, front: Front) -> None:
        """Says by health while the store does not answer. Ends with the server."""
        answers = True
        while self.engine.blocking:
            await asyncio.sleep(_LOOK)
            look = asyncio.ensure_future(_in_thread(self.engine.store_answers))
            while not look.done():  # one that hangs is not asked again
                await asyncio.wait([look], timeout=_SILENT)
                if (now := look.done() and look.result()) is not answers:
                    answers = now
                    _log.log(
                        logging.INFO if now else logging.ERROR,
                        "the store answers again" if now else "the store does not answer",
                    )
                    front.set_serving(now, "store")

    async def _drain(self, front: Front) -> None:
        """Returns when every run has ended, so that every watcher can still get its last event."""
        engine, options = self.engine, self.engine.options
        engine.drain()
        front.drain()
        if (live := engine.occupied) > 0:
            runs = "1 run is" if live == 1 else f"{live} runs are"
            _log.info(
                "draining: %s at work, for at most %g s; another signal cancels",
                runs,
                self.settings.drain_time,
            )
        if await _in_thread(engine.wait_idle, self.settings.drain_time):
            return
        # The second stop hastens what the first does not: a cancel that stands, with a long grace.
        for mode, wait in (
            (CancelMode.GRACEFUL, options.grace_period),
            (CancelMode.IMMEDIATE, options.abandon_after + _ENDING),
        ):
            await _in_thread(engine.shut_down_runs, mode)
            if await _in_thread(engine.wait_idle, wait):
                return

    # --- in the background

    def start(self, listen: str = "127.0.0.1:0") -> str:
        """Serves from a thread of its own; returns the address.

        Raises:
            OSError: the address cannot be listened on, or the store cannot be opened.
            RuntimeError: it has served already; make another one.
        """
        self._begin()
        self._background = Background(lambda stop, ready: self._serve_until(stop, listen, ready))
        return self._background.start()

    def drain(self) -> None:
        """Does the same as the first signal: drains in the background and then stops serving."""
        if self._background is not None:
            self._background.stop()

    def stop(self) -> None:
        """Ends all runs, cause SHUTDOWN, and the server; returns when it has."""
        self.engine.drain()
        self.engine.shut_down_runs(CancelMode.IMMEDIATE)
        if self._background is not None:
            self._background.stop()
            self._background.join()
            self._background = None
        else:
            self.engine.close()

    def __enter__(self) -> str:
        """Serves on a free port; the address."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stops."""
        self.stop()

    # --- in a worker process

    def begin_in_worker(self) -> None:
        """Serves nothing: the control process does, and this one executes.

        Raises ValueError where the module configures what the control process would never see.
        """
        if self._given:
            raise ValueError(
                f"RunServer({self._given[0]}=…) has no effect here: the process that serves does "
                "not import this module. Set PULLCORD_ variables instead, or serve --in-process."
            )
        call_hooks(self.on_startup)

    # --- inside

    def _begin(self, store: str | None = None, default_of: str | None = None) -> None:
        if self._begun:
            raise RuntimeError("a RunServer serves once; make another one")
        self._begun = True
        settings = self.settings
        self._parts.open(store, settings.store, default_of, settings.store_listen_url)

    def _grpc_options(self) -> GrpcOptions:
        settings = self.settings
        if settings.a2a_grpc and find_spec("a2a") is None:
            raise SettingsError(f"PULLCORD_A2A_GRPC: needs the extra 'a2a': {install('a2a')}")
        return GrpcOptions(
            # Text, and data, which takes up to several times the room that it takes as JSON.
            max_message_bytes=max(_MESSAGE, 8 * settings.engine.max_input_bytes)
            + settings.engine.max_parts_bytes,
            heartbeat=settings.heartbeat,
            keepalive=settings.keepalive,
            keepalive_timeout=settings.keepalive_timeout,
            reuse_port=settings.reuse_port,
            max_streams=settings.max_streams,
            max_idle=settings.max_idle,
            handshake=settings.handshake,
            max_connections=settings.max_connections or most_connections(),
            max_header_bytes=settings.max_header_bytes,
            max_unread=settings.max_unread,
            a2a=bool(settings.a2a_grpc),
            a2a_agent=settings.a2a_agent,
        )

    def _entrance(self) -> Entrance:
        return Entrance(self.settings, self._quotas, self._authenticator, self._policy)

    def _listen(self, server: GrpcServer, entrance: Entrance, listen: str) -> str:
        """Opens the addresses; returns the first one, with its port."""
        settings, tls = self.settings, entrance.tls
        knows_callers = entrance.doors.authenticator is not None
        check_exposure(listen, settings, knows_callers=knows_callers)
        address = server.listen(listen, None if tls is None else server_credentials(tls))
        if tls is not None and settings.mtls_listen:
            mutual = dataclasses.replace(tls, client_ca=settings.client_ca)
            second = server.listen(settings.mtls_listen, server_credentials(mutual))
            self.mtls_address = second
            _log.info("serving on %s, with client certificates", second)
        return address


async def _in_thread(call: Callable[..., Any], *args: Any) -> Any:
    """The engine's blocking calls, away from the RPC loop."""
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)
