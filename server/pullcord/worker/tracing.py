"""The caller's trace, continued in a worker. Without an OpenTelemetry SDK it has no effect."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, propagate


@contextmanager
def continued(carrier: Mapping[str, str]) -> Iterator[None]:
    """Code that is started in the block has the span of this carrier as its parent."""
    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)
