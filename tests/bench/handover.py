"""The hand-over to a worker thread, beside the standard library's pool: here, without gRPC."""

import threading
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from pullcord.executors.threads import ThreadPool

from tests.bench.figures import Figure, Series, percentile
from tests.bench.plan import Plan


async def measure(plan: Plan) -> list[Figure]:
    series = Series("a job to a worker thread and back, p50", "µs")
    pool = ThreadPool("bench", 4, 100)
    with ThreadPoolExecutor(4) as executor:
        for _ in range(plan.rounds):
            ours = [_through(pool) for _ in range(plan.scaled(2000))]
            theirs = [_through_executor(executor) for _ in range(plan.scaled(2000))]
            series.add(percentile(ours, 0.5) * 1e6, percentile(theirs, 0.5) * 1e6)
    pool.close()
    return [series.figure()]


def _through(pool: ThreadPool) -> float:
    done = threading.Event()
    started = perf_counter()
    pool.submit(_nothing, lambda result, error: done.set())
    done.wait()
    return perf_counter() - started


def _through_executor(executor: ThreadPoolExecutor) -> float:
    done = threading.Event()
    started = perf_counter()
    executor.submit(_nothing).add_done_callback(lambda future: done.set())
    done.wait()
    return perf_counter() - started


def _nothing() -> None:
    pass
