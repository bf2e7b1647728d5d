"""Sends metrics and spans out of a serving process: to a scraper of a port, or by OTLP.

For `pullcord serve` only: a program that serves by itself has an SDK of its own, or none. Needs the
extra `otel`.
"""

from collections.abc import Callable
from typing import Any

from pullcord.extras import missing
from pullcord.settings import Settings, SettingsError


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
    if settings.metrics:
        reader, close = _scraped(settings.metrics)
        readers.append(reader)
        ends.append(close)
    if settings.otlp:
        span_exporter, reader = _otlp()
        readers.append(reader)
        tracing = TracerProvider(resource=resource)
        tracing.add_span_processor(BatchSpanProcessor(span_exporter))
        trace.set_tracer_provider(tracing)
        ends.append(tracing.shutdown)
    measuring = MeterProvider(readers, resource=resource)
    metrics.set_meter_provider(measuring)
    ends.append(measuring.shutdown)

    def end() -> None:
        for each in ends:
            each()

    return end


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

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return PrometheusMetricReader(registry=registry), close


def _otlp() -> tuple[Any, Any]:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    except ImportError as error:
        raise _lacking("OTLP", error) from None
    return OTLPSpanExporter(), PeriodicExportingMetricReader(OTLPMetricExporter())
