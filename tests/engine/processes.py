"""Engines on one file, one after the other, as the processes of a server that starts again."""

import contextlib
from pathlib import Path
from typing import Any

from pullcord.engine.clock import Clock
from pullcord.engine.engine import Engine
from pullcord.engine.options import EngineOptions
from pullcord.executors.local import LocalExecutor
from pullcord.run.events import RunPaused
from pullcord.run.record import RunSpec
from pullcord.run.runnable import Runnable
from pullcord.stores.sqlite import SqliteStore
from pullcord.testing import RecordingObserver


class Process:
    """An engine on a file, as one process has it."""

    def __init__(self, folder: Path, clock: Clock, scripts: dict[str, Any], **bounds: Any):
        options = EngineOptions(**bounds)
        self.observer = RecordingObserver()
        self.store = SqliteStore(clock, options, folder / "runs.db")
        self.engine = Engine(
            options=options,
            clock=clock,
            store=self.store,
            observer=self.observer,
            executor=LocalExecutor(options, clock, self.observer.loop_stalled),
        )
        self.scripts = scripts
        self.admitted = self.engine.recover(self._find)

    def _find(self, name: str) -> Runnable:
        return self.scripts[name]

    def start(self, run_id: str = "r", runnable: str = "agents/pays", **spec: Any) -> None:
        spec_ = RunSpec(runnable, run_id=run_id, **spec)
        self.engine.start(self.scripts[runnable], spec_)

    def paused(self, run_id: str = "r") -> RunPaused:
        """What the run asks, once it does."""
        with contextlib.closing(self.engine.watch(run_id)) as watcher:
            return next(e.payload for e in watcher if isinstance(e.payload, RunPaused))

    def rests(self, run_id: str = "r") -> None:
        """Returns once the run is paused, and its store knows that."""
        self.paused(run_id)
        assert self.engine.wait_idle(20)
