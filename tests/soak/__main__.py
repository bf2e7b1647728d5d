"""`python -m tests.soak [--runs N] [--seed S]`: many runs, and the weights after each tenth."""

import argparse
import asyncio
import sys
import time

from tests.soak.soak import served

_ROUNDS = 10


def main() -> int:
    """Plays, prints, and fails where the second half weighs more than the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    with served(asked.seed) as soak:
        weights = asyncio.run(soak.play(asked.runs, _ROUNDS, deaths=2, pause=12))
    print(f"{'runs':>8} {'MiB':>8} {'threads':>8} {'files':>6} {'children':>8}")
    for w in weights:
        print(f"{w.runs:>8} {w.mebibytes:>8.1f} {w.threads:>8} {w.descriptors:>6} {w.children:>8}")
    print(f"ends: {soak.ends}; workers replaced: {soak.deaths}; {time.monotonic() - began:.0f} s")
    half, last = weights[_ROUNDS // 2 - 1], weights[-1]
    flat = (
        last.mebibytes <= half.mebibytes * 1.1
        and last.threads <= half.threads + 2
        and last.descriptors <= half.descriptors + 4
    )
    print("flat" if flat else "NOT flat: the second half added more than it should")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
