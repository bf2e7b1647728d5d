"""`make chaos`: a chaos test for as long as one likes (ARGS="--seconds 600 --seed 7"): replicas and
their PostgreSQL, or with `--elsewhere` workers on other machines and their server.
"""

import argparse
import asyncio
import contextlib
import os
import time

from tests.chaos.chaos import Chaos
from tests.chaos.elsewhere import Elsewhere
from tests.chaos.replica import WEAK
from tests.postgres import Postgres


def main() -> None:
    """Plays it once, and says what was seen."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--said", action="store_true", help="print what the replicas said")
    parser.add_argument("--elsewhere", action="store_true", help="workers on other machines")
    parser.add_argument("--weak", action="store_true", help="replicas that must be found out")
    given = parser.parse_args()
    if given.weak:
        os.environ[WEAK] = "1"
    with contextlib.ExitStack() as stack:
        chaos: Chaos | Elsewhere
        if given.elsewhere:
            chaos = Elsewhere(given.seed, given.seconds)
        else:
            postgres = stack.enter_context(contextlib.closing(Postgres(durable=True)))
            chaos = Chaos(postgres, given.seed, given.seconds)
        try:
            asyncio.run(chaos.play())
        finally:
            if given.said:
                print("\n\n".join(chaos.said))
            print(f"seed {given.seed}")
            for what, number in sorted(chaos.counts.items()):
                print(f"  {what:40} {number}")
            for violation in chaos.violations:
                print(f"VIOLATION {violation}")
    raise SystemExit(bool(chaos.violations))


if __name__ == "__main__":
    main()
