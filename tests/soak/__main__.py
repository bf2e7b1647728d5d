"""`python -m tests.soak`: many runs, and the weights after each tenth of them."""

import argparse
import asyncio
import sys
import time

from tests.soak.soak import Weight, served

_ROUNDS = 10


def main() -> int:
    """Plays, prints, and fails where the second half weighs more than the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--deaths", type=int, default=2, help="of workers, a tenth; 0: one worker, which is judged"
    )
    asked = parser.parse_args()
    began = time.monotonic()
    print(f"{'':8} {'control process':>33} {'its worker':>35}")
    weighed = f"{'MiB':>8} {'threads':>8} {'files':>6}"
    print(f"{'runs':>8} {weighed} {'children':>8} {'pid':>10} {weighed} {'seconds':>8}", flush=True)

    def show(w: Weight) -> None:
        control = f"{w.mebibytes:>8.1f} {w.threads:>8} {w.descriptors:>6} {w.children:>8}"
        worker = f"{w.worker_mebibytes:>8.1f} {w.worker_threads:>8} {w.worker_descriptors:>6}"
        seconds = f"{time.monotonic() - began:>8.0f}"
        print(f"{w.runs:>8} {control} {w.worker_pid:>10} {worker} {seconds}", flush=True)

    with served(asked.seed) as soak:
        played = soak.play(asked.runs, _ROUNDS, deaths=asked.deaths, pause=12, on_round=show)
        weights = asyncio.run(played)
    print(f"ends: {soak.ends}; workers replaced: {soak.deaths}; {time.monotonic() - began:.0f} s")
    half, last = weights[_ROUNDS // 2 - 1], weights[-1]
    flat = (
        last.mebibytes <= half.mebibytes * 1.1
        and last.threads <= half.threads + 2
        and last.descriptors <= half.descriptors + 4
    )
    if last.worker_pid == half.worker_pid:
        flat = flat and (
            last.worker_mebibytes <= half.worker_mebibytes * 1.1
            and last.worker_threads <= half.worker_threads + 2
            and last.worker_descriptors <= half.worker_descriptors + 4
        )
    print("flat" if flat else "NOT flat: the second half added more than it should")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
