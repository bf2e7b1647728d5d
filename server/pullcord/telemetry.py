"""What operators read and count: log lines by structlog, metrics by OpenTelemetry's API.

Without an OpenTelemetry SDK the metrics cost nothing and go nowhere. Nothing here decides anything.
"""

import logging
import sys
from dataclasses import asdict

import structlog
from opentelemetry import metrics

from pullcord.run.record import Run
from pullcord.run.state import RunState


class Telemetry:
    """An engine's Observer that logs and counts."""

    def __init__(self, meter: metrics.Meter | None = None) -> None:
        meter = meter or metrics.get_meter("pullcord")
        self._log = _logger()
        self._live = meter.create_up_down_counter(
            "pullcord.runs.live", description="Runs that have not ended"
        )
        self._ended = meter.create_counter(
            "pullcord.runs.ended", description="Runs that have ended, by state and cause"
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
            "pullcord.cancel.duration", "s", "From a cancel's acceptance to the run's end"
        )

    def run_started(self, run: Run) -> None:
        """A run was admitted."""
        self._live.add(1, {"runnable": run.runnable})
        self._log.debug("run started", run_id=run.run_id, runnable=run.runnable)

    def run_ended(self, run: Run) -> None:
        """A run has its terminal event."""
        self._live.add(-1, {"runnable": run.runnable})
        stop = run.cancellation
        cause = stop.cause.value if stop and run.state is RunState.CANCELLED else ""
        kind = {"runnable": run.runnable, "state": run.state.value, "cause": cause}
        self._ended.add(1, kind)
        line = {"run_id": run.run_id, **kind, "seconds": round(run.end_time - run.create_time, 3)}
        if stop is not None and cause:
            self._stop.record(run.end_time - stop.accept_time, {"cause": cause})
            line |= {"actor": stop.actor, "reason": stop.reason}
        if run.error is not None:
            line |= {"error": asdict(run.error)}
        self._log.info("run ended", **line)

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
        self._log.warning(
            "event loop blocked by a run", run_id=run_id, seconds=round(seconds, 3), stack=stack
        )


def _logger() -> structlog.stdlib.BoundLogger:
    """A logger that hands lines to the standard library's, so an embedding program decides."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger("pullcord"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    )
    return logger


def configure_logging(level: str, as_json: bool) -> None:
    """Sends log lines to stderr, for people or, as JSON, for machines."""
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso"),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
