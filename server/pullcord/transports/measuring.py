"""The time that each rpc takes and how it ends, in metrics by OpenTelemetry's API.

One value a call and none a message. A stream is measured until it is open: how long it then stays
open is its caller's business.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from opentelemetry import metrics

from pullcord.run.errors import PullcordError
from pullcord.wire.errors import code_of

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Rpcs:
    """Measures calls."""

    def __init__(self, meter: metrics.Meter | None = None) -> None:
        self._duration = (meter or metrics.get_meter("pullcord")).create_histogram(
            "pullcord.rpc.duration",
            "s",
            "From a call's arrival to its answer, or until its stream is open",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    @contextmanager
    def measured(self, rpc: str) -> Iterator[None]:
        """The block is a call of this rpc."""
        begun, code = perf_counter(), "OK"
        try:
            yield
        except PullcordError as error:
            code = code_of(error)
            raise
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except BaseException:
            code = "INTERNAL"
            raise
        finally:
            self._duration.record(perf_counter() - begun, {"rpc": rpc, "code": code})
