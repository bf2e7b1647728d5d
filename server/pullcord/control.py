"""The composition root of `pullcord serve`: a control process that imports no author's module.

It serves like a RunServer, but the code of its runs is in worker processes, which also report what
there is to serve. How workers live and die is in `executors.workers`.
"""

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pullcord import lines
from pullcord.doors import counting, disclosure_of, make_quotas
from pullcord.engine.catalog import Catalog
from pullcord.engine.clock import ThreadClock
from pullcord.engine_parts import Parts
from pullcord.executors.workers.command import CommandLauncher
from pullcord.executors.workers.launcher import Launcher
from pullcord.executors.workers.local import LocalLauncher
from pullcord.executors.workers.on_ray.launcher import RayLauncher
from pullcord.executors.workers.options import WorkerOptions
from pullcord.executors.workers.pool import WorkerExecutor
from pullcord.link.values import Offer
from pullcord.reloading import watch_files
from pullcord.server import FLUSH, RunServer
from pullcord.settings import Settings, SettingsError
from pullcord.stores.opening import outlived
from pullcord.telemetry import LinkTelemetry, Telemetry
from pullcord.variables import PREFIX

_log = logging.getLogger("pullcord.control")


class ImportFailed(Exception):
    """The author's module cannot be served; the words are those of the worker that tried."""


def _check_lease(settings: Settings) -> None:
    """A worker must have ended before other replicas end the runs of this one as LOST."""
    most = outlived(settings.store)
    if settings.worker_lease >= most:
        raise SettingsError(
            f"{PREFIX}WORKER_LEASE: must be less than {most:g} s with this store: then other"
            " replicas may end the runs of one that has died, whose workers must have ended by then"
        )


def _launcher(target: str, settings: Settings) -> Launcher:
    """Who starts the workers."""
    if not settings.worker_command and settings.launcher != "ray":
        return LocalLauncher()
    _check_lease(settings)
    links = (settings.worker_listen, settings.worker_lease, LinkTelemetry())
    if settings.worker_command:
        return CommandLauncher(settings.worker_command, *links)
    return RayLauncher(target, settings.ray, *links)


class ControlServer(RunServer):
    """Serves a target, such as `app:server`, whose code runs in worker processes."""

    def __init__(
        self, target: str, settings: Settings, *, workers: int = 1, reload: bool = False
    ) -> None:
        """`reload`: fresh workers take over whenever a Python file beneath this folder changes."""
        self._reload = reload
        self._is_healthy = True
        self._front = None
        self.on_startup = self.on_shutdown = ()  # each worker calls those of its module
        self.settings = settings
        self._given: list[str] = []
        self.catalog = Catalog()  # workers report what there is
        self._authenticator = self._policy = None  # by the settings only
        self._quotas = make_quotas(settings)
        self.mtls_address = self.http_url = ""
        observer = counting(Telemetry(tenants=settings.metrics_tenants), self._quotas)
        options = WorkerOptions(
            target=target,
            workers=workers,
            spares=settings.spares,
            pool_workers=settings.pool_workers,
            max_pool_workers=settings.max_pool_workers,
            max_processes=settings.max_processes,
            isolate_all=settings.isolation == "process",
            threads=settings.engine.workers,
            loops=settings.engine.max_run_loops,
            queue=settings.engine.worker_queue,
            max_silence=settings.max_silence,
            max_memory=settings.max_worker_memory,
            engine=json.dumps(dataclasses.asdict(settings.engine)),
            log_level=settings.log_level,
            log_json=settings.log_json,
            disclosure=disclosure_of(settings),
        )
        self._pool = WorkerExecutor(options, _launcher(target, settings), observer, self)
        self._parts = Parts(settings.engine, ThreadClock(), observer, self._pool)
        self._background = None
        self._begun = False
        self._first: asyncio.Future[None] | None = None

    async def _serve_until(
        self,
        stop: asyncio.Event,
        listen: str,
        on_ready: Callable[[str], None],
        flush: float = FLUSH,
    ) -> None:
        self._first = asyncio.get_running_loop().create_future()
        self._pool.open(self.engine)
        stopping = asyncio.ensure_future(stop.wait())
        watching = asyncio.ensure_future(self._watch_files())
        try:
            either: list[asyncio.Future[Any]] = [self._first, stopping]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._first.done():
                self._first.result()
                with lines.standard_streams():  # nothing that is printed here waits for a reader
                    await super()._serve_until(stop, listen, on_ready, flush)
        finally:
            stopping.cancel()
            watching.cancel()
            self._pool.close()
            await self._pool.closed()

    async def _watch_files(self) -> None:
        if self._reload:
            await watch_files(Path.cwd(), self._pool.reload)

    def worker_pids(self) -> set[int]:
        """Process ids of the workers that are alive."""
        return {connection.process.pid for connection in self._pool.connections()}

    # --- what workers report

    def offered(self, offers: list[Offer]) -> None:
        """A worker reported what the author's module serves."""
        self.catalog.replace(offers)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def unready(self, words: str) -> None:
        """The author's module cannot be served."""
        if self._first is not None and not self._first.done():
            self._first.set_exception(ImportFailed(words))
        else:
            _log.error("a worker could not begin; those that have go on", extra={"stack": words})

    def healthy(self, is_so: bool) -> None:
        """Whether runs can be executed now; health says so."""
        if is_so is not self._is_healthy and self._front is not None:
            self._is_healthy = is_so
            self._front.set_serving(is_so, "workers")

    def output(self, name: str, pid: int, data: bytes) -> None:
        """A worker wrote to its stdout or stderr."""
        writer = lines.stdout() if name == "stdout" else lines.stderr()
        writer.write(data, (name, pid))
