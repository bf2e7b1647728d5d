"""Sends metrics and spans out of a serving process: to a scraper of a port, or by OTLP.

For `pullcord serve` only: a program that serves by itself has an SDK of its own, or none. Needs the
extra `otel`.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from pullcord.extras import missing
from pullcord.settings import Settings, SettingsError

_LAST = 1.5
"""Seconds that the last metrics and spans have to be sent when the process ends."""

_HALF_SENT = 10.0
"""Seconds that a scraper may be silent in the middle of its request, which takes a thread."""

_log = logging.getLogger("pullcord.exporting")


def begin_exporting(settings: Settings) -> Callable[[], None]:
    """Begins what the settings ask for, for the whole process; returns what ends it.

    OTLP is configured by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT and so on).

    Raises:
        SettingsError: the port cannot be listened on, or packages are missing.
    """
    if not (settings.metrics or settings.otlp):
        return lambda: None
    try:
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise _lacking("METRICS" if settings.metrics else "OTLP", error) from None
    resource = Resource.create({"service.name": "pullcord"})
    readers: list[Any] = []
    ends: list[Callable[[], Any]] = []
    exporters: list[Any] = []
    if settings.metrics:
        reader, close = _scraped(settings.metrics)
        readers.append(reader)
        ends.append(close)
    if settings.otlp:
        span_exporter, metric_exporter, reader = _otlp()
        exporters += [span_exporter, metric_exporter]
        readers.append(reader)
        tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracing.add_span_processor(BatchSpanProcessor(span_exporter))
        trace.set_tracer_provider(tracing)
        ends.append(tracing.shutdown)
    measuring = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    metrics.set_meter_provider(measuring)
    ends.append(measuring.shutdown)

    return lambda: _end(ends, exporters)


def _end(ends: Sequence[Callable[[], Any]], exporters: Sequence[Any]) -> None:
    """Sends what is left, all at the same time; a collector that does not answer holds up nobody
    for long."""
    threads = [threading.Thread(target=each, daemon=True) for each in ends]
    for thread in threads:
        thread.start()
    until = time.monotonic() + _LAST
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        _log.warning("the last metrics or spans were not sent: the collector did not take them")
        for exporter in exporters:
            exporter.shutdown()  # ends the call, or the wait for the next try
        for thread in threads:
            thread.join(0.5)


def _lacking(setting: str, error: ImportError) -> SettingsError:
    return SettingsError(f"PULLCORD_{setting}: {missing('exporting', 'otel', error)}")


def _scraped(address: str) -> tuple[Any, Callable[[], None]]:
    """A reader that Prometheus scrapes at this address, and what closes the port."""
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise _lacking("METRICS", error) from None
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise SettingsError(f"PULLCORD_METRICS: {address}: {error.strerror or error}") from None
    patient: Any = server.RequestHandlerClass
    server.RequestHandlerClass = type("Handler", (patient,), {"timeout": _HALF_SENT})
    server.handle_error = _hung_up  # type: ignore[method-assign]

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return PrometheusMetricReader(registry=registry), close


def _hung_up(request: Any, client_address: Any) -> None:
    """A scraper that broke off is no error of this server's."""


def _otlp() -> tuple[Any, Any, Any]:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    except ImportError as error:
        raise _lacking("OTLP", error) from None
    exporter = OTLPMetricExporter()
    return OTLPSpanExporter(), exporter, PeriodicExportingMetricReader(exporter)
