"""The parts of a server's engine, and the engine that is made of them once the server serves.

The store is opened here, and the engine observed. Who serves what at which address is not known
here.
"""

from collections.abc import Callable

from pullcord.engine.clock import Clock
from pullcord.engine.engine import Engine
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import Executor, Observer, RunStore
from pullcord.store_telemetry import measured, observe_backlog
from pullcord.stores.memory import MemoryStore
from pullcord.stores.opening import MEMORY, open_default, open_store
from pullcord.telemetry import observe_engine


class Parts:
    """What a server's engine is made of. It is made when the server serves: a worker process,
    which imports the same module, must not open the store."""

    def __init__(
        self,
        options: EngineOptions,
        clock: Clock,
        observer: Observer,
        executor: Executor,
        store: str | Callable[[Clock, EngineOptions], RunStore] | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._observer = observer
        self._executor = executor
        self._store = store
        self._engine: Engine | None = None
        self.kept_in = MEMORY
        """The store's name."""

    @property
    def engine(self) -> Engine:
        """The engine; it keeps runs in memory if nothing was opened."""
        if self._engine is None:
            self._make(MemoryStore(self._clock, self._options))
        assert self._engine is not None
        return self._engine

    def open(
        self, named: str | None, setting: str, default_of: str | None, listens: str = ""
    ) -> None:
        """Opens the store: the one that was named, or else given, or else set, or else the default
        one of a listen address, or else in memory. Raises StoreRefused."""
        if self._engine is not None:
            return  # it was asked for before
        clock, options = self._clock, self._options
        name = named or self._store or setting
        if callable(name):
            self.kept_in = "a store of its own"
            self._make(name(clock, options))
            return
        if name or default_of is None:
            opened = open_store(name or MEMORY, clock, options, listens)
        else:
            opened = open_default(default_of, clock, options)
        self.kept_in = opened.name
        self._make(opened.store)

    def _make(self, store: RunStore) -> None:
        if store.durable:
            store = measured(store)
        self._engine = Engine(
            options=self._options,
            clock=self._clock,
            store=store,
            observer=self._observer,
            executor=self._executor,
        )
        observe_engine(self._engine)
        if store.durable:
            observe_backlog(self._engine)
