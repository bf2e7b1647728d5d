"""An OTLP collector at a socket, which keeps what it is sent."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc


class Collector(
    trace_grpc.TraceServiceServicer,  # type: ignore[misc]  # its stubs have no types
    metrics_grpc.MetricsServiceServicer,  # type: ignore[misc]  # likewise
):
    """Spans in the order in which they came, and names of metrics."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: set[str] = set()
        self.endpoint: dict[str, str] = {}
        """What has an exporter send to it: environment variables."""
        self.answers = threading.Event()
        """Cleared: what is sent is not answered."""
        self.answers.set()

    def Export(self, request: Any, context: Any) -> Any:
        self.answers.wait()
        if isinstance(request, trace_service_pb2.ExportTraceServiceRequest):
            for group in request.resource_spans:
                for scope in group.scope_spans:
                    self.spans.extend(scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name for metric in scope.metrics}
        return metrics_service_pb2.ExportMetricsServiceResponse()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens within the block."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_grpc.add_TraceServiceServicer_to_server(collector, server)
    metrics_grpc.add_MetricsServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    collector.endpoint = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_INSECURE": "true",
    }
    yield collector
    collector.answers.set()
    server.stop(0).wait()
