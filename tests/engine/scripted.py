"""An executor that does nothing by itself: a test plays the code of each run."""

import threading
from typing import Any

from pullcord.engine.engine import Engine
from pullcord.engine.live.port import LivePort
from pullcord.engine.options import EngineOptions
from pullcord.run.cancel import Cancellation
from pullcord.run.port import Began, Failure
from pullcord.stores.memory import MemoryStore
from pullcord.testing import ManualClock, RecordingObserver


class ScriptedExecution:
    """The code of one run, as a test plays it."""

    loop = None

    def __init__(self, port: LivePort, kill_after: float | None) -> None:
        self.port = port
        self.kill_after = kill_after
        self.stops: list[Cancellation] = []
        self.playing = threading.RLock()
        """Held by whoever plays the code, which is in one place at a time."""
        self.began = False
        self.dropped = self.killed = self.abandoned = self.released = False

    def begin(self) -> Began | None:
        """The executor asks to call the code; None: it must not."""
        answers: list[Began | None] = []
        self.port.began(answers.append)
        self.began = answers[0] is not None
        return answers[0]

    def end(self, error: BaseException | None = None) -> None:
        """The code returns, or raises."""
        self.release()
        self.port.ended(None if error is None else Failure.of(error))

    def die(self, how: str = "exit code 9") -> None:
        """The process that executes the code dies."""
        self.release()
        self.port.died(how)

    def release(self) -> None:
        """Once, as the port asks."""
        if not self.released:
            self.released = True
            self.port.released()

    def drop(self) -> bool:
        """It waits no longer."""
        self.dropped = True
        self.release()
        return True

    def stop(self, cancellation: Cancellation, grace_period: float | None) -> None:
        """Remembers."""
        self.stops.append(cancellation)
        self.port.delivered()

    def kill(self) -> None:
        """Remembers."""
        self.killed = True

    def abandon(self) -> str:
        """Remembers."""
        self.abandoned = True
        return "its stack"


class ScriptedExecutor:
    """Fills the engine's executor port."""

    def __init__(self, kill_after: float | None = None) -> None:
        self.kill_after = kill_after
        self.executions: dict[str, ScriptedExecution] = {}
        """By run id."""

    def start(self, port: Any, runnable: Any, runs: Any, **_: Any) -> ScriptedExecution:
        """The run waits until the test begins it."""
        execution = ScriptedExecution(port, self.kill_after)
        self.executions[port.run_id] = execution
        port.attach(execution)
        return execution

    def owns_loop(self, loop: Any) -> bool:
        """Nothing runs on a loop here."""
        return False

    def close(self) -> None:
        """Nothing to end."""


class Theatre:
    """An engine whose runs are played by the test, and its clock."""

    def __init__(self, kill_after: float | None = None, **options: Any) -> None:
        bounds = EngineOptions(**options)
        self.clock = ManualClock()
        self.observer = RecordingObserver()
        self.executor = ScriptedExecutor(kill_after)
        self.engine = Engine(
            options=bounds,
            clock=self.clock,
            store=MemoryStore(self.clock, bounds),
            observer=self.observer,
            executor=self.executor,
        )

    def code(self, run_id: str = "r") -> ScriptedExecution:
        """The code of a run."""
        return self.executor.executions[run_id]
