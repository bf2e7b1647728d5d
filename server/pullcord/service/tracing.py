"""The caller's trace: what is started for a caller becomes part of it.

Only the hand-over is here, by whatever propagators the process has set. Which spans there are is
the business of the run's code; without an OpenTelemetry SDK nothing of this is seen.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, propagate, trace


@contextmanager
def trace_of(carrier: Mapping[str, str]) -> Iterator[None]:
    """A block in which everything that is started has the caller's span as its parent.

    A span that is current already stands: somebody instruments this server, and the caller's span
    is that one's parent.
    """
    if trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)
