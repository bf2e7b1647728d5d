"""Log lines for operators by structlog, and metrics and spans by OpenTelemetry's API.

Without an OpenTelemetry SDK metrics and spans cost nothing and go nowhere; `exporting` sets one up.
Nothing here decides anything, and nothing here waits for a reader of the log.
"""

import logging
import os
import weakref
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any

import structlog
from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

from pullcord import lines
from pullcord.engine.engine import Engine
from pullcord.engine.observer import Path
from pullcord.run.events import StepCompleted, StepStarted
from pullcord.run.model_call import ModelCall
from pullcord.run.place import at_work
from pullcord.run.record import Run
from pullcord.run.scope import Scope
from pullcord.run.state import RunState
from pullcord.spans import RunSpans

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Buckets from 1 ms to a minute. Those of the SDK would have every cancel in the first."""
_LONG_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""For whole runs, from 10 ms to an hour."""


class Telemetry:
    """An engine's Observer that logs, counts and traces."""

    def __init__(
        self,
        meter: metrics.Meter | None = None,
        tracer: trace.Tracer | None = None,
        *,
        tenants: int = 0,
    ) -> None:
        """The first so many `tenants` are named where runs are counted, and all others `other`; 0:
        nobody's tenant is."""
        meter = meter or metrics.get_meter("pullcord")
        self._log = _logger()
        self._spans = RunSpans(tracer or trace.get_tracer("pullcord"))
        self._tenants: set[str] = set()
        self._most_tenants = tenants
        self._started = meter.create_counter(
            "pullcord.runs.started", description="Runs that were admitted"
        )
        self._ended = meter.create_counter(
            "pullcord.runs.ended", description="Runs that have ended, by state and cause"
        )
        self._duration = meter.create_histogram(
            "pullcord.run.duration",
            "s",
            "From a run's admission to its end",
            explicit_bucket_boundaries_advisory=_LONG_SECONDS,
        )
        self._queue = meter.create_histogram(
            "pullcord.run.queue.duration",
            "s",
            "From a run's admission to the beginning of its code, of runs whose code began",
            explicit_bucket_boundaries_advisory=_LONG_SECONDS,
        )
        self._first = meter.create_histogram(
            "pullcord.run.first.output.duration",
            "s",
            "From a run's admission to the first text that it made, of runs that made any",
            explicit_bucket_boundaries_advisory=_LONG_SECONDS,
        )
        self._model = meter.create_histogram(
            "pullcord.model.duration",
            "s",
            "How long calls of models took, by how they ended",
            explicit_bucket_boundaries_advisory=_LONG_SECONDS,
        )
        self._tokens = meter.create_counter(
            "pullcord.tokens", "{token}", "Tokens of ended runs, without those of their children"
        )
        self._cost = meter.create_counter(
            "pullcord.cost", "USD", "Cost of ended runs, as far as it is known"
        )
        self._tool_calls = meter.create_counter(
            "pullcord.tool.calls", description="Tool calls of ended runs, by how far they got"
        )
        self._refused = meter.create_counter(
            "pullcord.runs.refused", description="Runs that were not admitted, by reason"
        )
        self._abandoned = meter.create_counter(
            "pullcord.runs.abandoned", description="Runs whose code did not stop in time"
        )
        self._stalls = meter.create_counter(
            "pullcord.loop.stalls", description="Times that a run blocked its event loop"
        )
        self._stop = meter.create_histogram(
            "pullcord.cancel.duration",
            "s",
            "From a cancel's acceptance to the run's end",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    def run_entered(self, run: Run, path: Path, trace: Mapping[str, str]) -> Mapping[str, str]:
        """A run can be found; `path` leads from its parent to it. Returns what carries its
        trace."""
        return self._spans.begin(run, path, trace)

    def within(self, scope: Scope, run_id: str) -> AbstractContextManager[object]:
        """Code that is started in the block belongs to this run's trace."""
        return self._spans.within(scope, run_id)

    def run_withdrawn(self, scope: Scope, run_id: str) -> None:
        """A run that had entered was refused after all."""
        self._spans.withdraw(scope, run_id)

    def run_handed_over(self, run: Run) -> None:
        """A run goes on in another process."""
        self._spans.hand_over(run)
        self._log.debug("run handed over", run_id=run.run_id, runnable=run.runnable)

    def step_began(self, scope: Scope, run_id: str, path: Path, step: StepStarted) -> None:
        """A step of a run begins."""
        self._spans.begin_step(scope, run_id, path, step)

    def step_ended(self, scope: Scope, run_id: str, path: Path, step: StepCompleted) -> None:
        """A step of a run has ended."""
        self._spans.end_step(scope, run_id, path, step)

    def model_called(self, scope: Scope, run_id: str, call: ModelCall) -> None:
        """A call of a model has ended."""
        ended = "failed" if call.error_type else "completed" if call.finish_reason else "stopped"
        self._model.record(call.seconds, {"model": call.model, "state": ended})
        self._spans.add_model_call(scope, run_id, call)

    def run_started(self, run: Run) -> None:
        """A run was admitted."""
        self._started.add(1, self._kind(run))
        self._log.debug("run started", run_id=run.run_id, runnable=run.runnable)

    def run_spoke(self, run: Run, first_text_time: float) -> None:
        """When a run that has ended made its first text."""
        self._first.record(first_text_time - run.create_time, {"runnable": run.runnable})

    def run_ended(self, run: Run) -> None:
        """A run has its terminal event."""
        stop = run.cancellation
        cause = stop.cause.value if stop and run.state is RunState.CANCELLED else ""
        kind = {"runnable": run.runnable, "state": run.state.value, "cause": cause}
        seconds = run.end_time - run.create_time
        self._ended.add(1, self._kind(run) | kind)
        self._duration.record(seconds, {"runnable": run.runnable, "state": run.state.value})
        if run.start_time:
            self._queue.record(run.start_time - run.create_time, {"runnable": run.runnable})
        line = {"run_id": run.run_id, **_said(kind), "seconds": round(seconds, 3)}
        if stop is not None and cause:
            self._stop.record(run.end_time - stop.accept_time, {"cause": cause})
            line |= {"actor": stop.actor}
        if run.error is not None:
            line |= {"error_type": run.error.type}
        line |= self._spend(run)
        line |= _said(_belongs(run))
        if trace_id := self._spans.end(run):
            line |= {"trace_id": trace_id}
        log = self._log.error if run.state is RunState.FAILED else self._log.info
        log("run ended", **line)
        # Words of callers may hold anything. Those of exceptions are not logged at all: they may be
        # a provider's, or hold inputs and secrets.
        if stop is not None and stop.reason:
            self._log.debug("why a run ended", run_id=run.run_id, reason=stop.reason)

    def run_lost(self, run: Run) -> None:
        """A run of a process that is gone was ended here. How long it took is not known."""
        assert run.cancellation is not None
        cause = run.cancellation.cause.value  # that of its stop, if it was being stopped
        kind = {"runnable": run.runnable, "state": run.state.value, "cause": cause}
        self._ended.add(1, self._kind(run) | kind)
        line = {"run_id": run.run_id, **kind, **self._spend(run)}
        line |= _said(_belongs(run))
        log = self._log.error if run.state is RunState.FAILED else self._log.info
        log("run ended: the server process that executed it is gone", **line)

    def _spend(self, run: Run) -> dict[str, Any]:
        """Counts what a run has used; what a log line says of it."""
        used, kind = run.usage, self._kind(run)
        for name, count in (
            ("input", used.input_tokens - used.cached_tokens),
            ("cached", used.cached_tokens),
            ("output", used.output_tokens - used.reasoning_tokens),
            ("reasoning", used.reasoning_tokens),
        ):
            if count > 0 and not run.parent_run_id:
                self._tokens.add(count, kind | {"type": name})
        if used.cost and not run.parent_run_id:
            self._cost.add(used.cost, kind)
        for call in run.tool_calls:
            if not call.run_id:
                self._tool_calls.add(1, {"runnable": run.runnable, "state": call.state.value})
        told: dict[str, Any] = {}
        if used.total_tokens:
            told["tokens"] = used.total_tokens
        if used.cost:
            told["cost"] = round(used.cost, 6)
        return told

    def _kind(self, run: Run) -> dict[str, str]:
        """The attributes by which a run is counted."""
        kind = {"runnable": run.runnable}
        if self._most_tenants and run.tenant:
            if len(self._tenants) < self._most_tenants:
                self._tenants.add(run.tenant)
            kind["tenant"] = run.tenant if run.tenant in self._tenants else "other"
        return kind

    def run_refused(self, reason: str) -> None:
        """A run was not admitted."""
        self._refused.add(1, {"reason": reason})
        self._log.info("run refused", reason=reason)

    def run_abandoned(self, run: Run, stack: str) -> None:
        """A run did not stop in time; it holds capacity until it does."""
        self._abandoned.add(1, {"runnable": run.runnable})
        self._log.warning(
            "run abandoned: its code does not stop",
            run_id=run.run_id,
            runnable=run.runnable,
            stack=stack,
        )

    def loop_stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """A run blocks the event loop that it shares with others."""
        self._stalls.add(1)
        # An import in the middle of a run is nobody's blocking call, and happens once.
        by = "an import" if "importlib._bootstrap" in stack else "a run"
        self._log.warning(
            f"event loop blocked by {by}", run_id=run_id, seconds=round(seconds, 3), stack=stack
        )


class LinkTelemetry:
    """Logs and counts what becomes of the links of workers that are elsewhere."""

    def __init__(self, meter: metrics.Meter | None = None) -> None:
        meter = meter or metrics.get_meter("pullcord")
        self._log = _logger()
        self._returned = meter.create_counter(
            "pullcord.workers.returned", description="Workers that came back after a cut link"
        )
        self._lost = meter.create_counter(
            "pullcord.workers.lost",
            description="Workers whose lease ended while their link was cut",
        )

    def link_returned(self, pid: int, seconds: float) -> None:
        """A worker has continued its session, after so many seconds in which nothing came."""
        self._returned.add(1)
        self._log.info("worker is back: its link was cut", worker=pid, seconds=round(seconds, 3))

    def lease_lost(self, pid: int) -> None:
        """A worker was without a link until its lease was over."""
        self._lost.add(1)
        self._log.error("worker lost: its link was cut until its lease was over", worker=pid)


def _belongs(run: Run) -> dict[str, str]:
    return {"session_id": run.session_id, "tenant": run.tenant, "parent": run.parent_run_id}


def _said(fields: Mapping[str, str]) -> dict[str, str]:
    """Those of a line that say something."""
    return {name: value for name, value in fields.items() if value}


def observe_engine(engine: Engine, meter: metrics.Meter | None = None) -> None:
    """Gauges of the runs and watchers of an engine, read at each collection."""
    meter = meter or metrics.get_meter("pullcord")
    still = weakref.ref(engine)  # a meter keeps its gauges for ever

    def live(options: CallbackOptions) -> list[Observation]:
        if (now := still()) is None:
            return []
        return [
            Observation(count, {"runnable": name, "state": state.value})
            for (name, state), count in now.count_live().items()
        ]

    def gauge(
        read: Callable[[Engine], float],
    ) -> list[Callable[[CallbackOptions], list[Observation]]]:
        return [lambda options: [Observation(read(now))] if (now := still()) is not None else []]

    meter.create_observable_gauge(
        "pullcord.runs.live", [live], description="Runs that have not ended"
    )
    meter.create_observable_gauge(
        "pullcord.capacity.used",
        gauge(lambda now: now.occupied / now.options.max_live_runs),
        description="Share of max_live_runs that is taken, by abandoned runs too; 1: all refused",
    )
    meter.create_observable_gauge(
        "pullcord.watchers",
        gauge(lambda now: now.count_watchers()),
        description="Streams that follow a live run",
    )
    meter.create_observable_gauge(
        "pullcord.watch.lag",
        gauge(lambda now: now.watch_lag()),
        "{event}",
        "Events of a live run that its slowest watcher has not been sent; the most of all runs",
    )


def _logger() -> structlog.stdlib.BoundLogger:
    """A logger that hands lines to the standard library's, so an embedding program decides."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger("pullcord"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            _readable_without_handlers,
            structlog.stdlib.render_to_log_kwargs,
        ],
    )
    return logger


_TELL_ADDRESSES = ("httpx", "httpx2", "httpcore", "httpcore2")
"""Loggers that write each request's address at info, with what is secret in its query."""


def _readable_without_handlers(
    logger: logging.Logger, name: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Writes the fields into the words where no logging is configured: Python then prints warnings
    to stderr without anything else."""
    if logger.hasHandlers():
        return fields
    event, blocks = fields.pop("event"), _blocks(fields)
    words = " ".join(f"{key}={value!r}" for key, value in fields.items())
    return {"event": "\n".join([_printable(f"{event} {words}"), *blocks])}


def configure_logging(level: str, as_json: bool, writer: lines.LineWriter | None = None) -> None:
    """Sends log lines to stderr, for people or, as JSON, for machines. No caller waits for it.

    `writer` takes them instead of stderr's.
    """
    writer = writer or lines.stderr()
    handler = _LineHandler(writer)
    handler.setFormatter(_json_formatter() if as_json else _text_formatter())
    writer.on_dropped = handler.dropped
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _TELL_ADDRESSES:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))


class _LineHandler(logging.Handler):
    """Hands each record, formatted, to a LineWriter.

    It has no lock: the standard library's would stay locked forever if a run's thread were
    interrupted between taking it and `try`.
    """

    def __init__(self, writer: lines.LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        passed = bool(self.filter(record))
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        if (work := at_work.get()) is not None and not hasattr(record, "run_id"):
            record.run_id = work.run_id  # a run's code logs about that run
        try:
            line = self._line(record)
        except Exception as error:  # of an argument's __str__, for example
            words = f"a log line could not be written: {type(error).__name__} at"
            line = self._line(_record(f"{words} {record.pathname}:{record.lineno}"))
        self._writer.write(line)

    def dropped(self, missing: int, name: str) -> bytes:
        """The line that stands where lines are missing."""
        return self._line(_record(lines.dropped_in_words(missing, name).decode().strip()))

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"


def _record(words: str) -> logging.LogRecord:
    return logging.LogRecord("pullcord", logging.WARNING, __file__, 0, words, None, None)


def _json_formatter() -> logging.Formatter:
    """Each line is a JSON object in ASCII, so that a terminal obeys nothing in it."""

    def render(logger: Any, name: str, fields: MutableMapping[str, Any]) -> str:
        text = structlog.processors.JSONRenderer()(logger, name, fields)
        assert isinstance(text, str)
        return text.replace("\x7f", "\\u007f")  # the one control character that JSON permits

    return _formatter(render)


def _text_formatter() -> logging.Formatter:
    """Each line begins with a time; the lines of a stack that follow it are indented.

    Whatever is no printable character is written as an escape: newlines, terminal sequences, bidi
    characters, wherever they come from.
    """
    console = structlog.dev.ConsoleRenderer(colors=os.isatty(2))

    def render(logger: Any, name: str, fields: MutableMapping[str, Any]) -> str:
        blocks = _blocks(fields)
        clean = {_printable(key): _without_controls(value) for key, value in fields.items()}
        return "\n".join([console(logger, name, clean), *blocks])

    return _formatter(render)


def _blocks(fields: MutableMapping[str, Any]) -> list[str]:
    """Takes what has lines of its own out of the fields: those lines, indented."""
    blocks = [str(fields.pop(key)) for key in ("stack", "exception") if key in fields]
    rows = [row for block in blocks if block for row in block.rstrip("\n").split("\n")]
    return [f"    {_printable(row)}" for row in rows]


def _formatter(render: structlog.typing.Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso"),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _cut,
            render,
        ],
    )


_LONGEST = 64 * 1024
"""Characters of one field of a log line."""


def _cut(logger: Any, name: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in fields.items():
        if isinstance(value, str) and len(value) > _LONGEST:
            fields[key] = f"{value[:_LONGEST]}… ({len(value) - _LONGEST} characters more)"
    return fields


def _without_controls(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _printable(value if isinstance(value, str) else repr(value))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
