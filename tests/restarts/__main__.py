"""`make restarts`: the long form of the kill test, with what was asked of the server."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.restarts.chaos import play


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = play(Path(folder), given.kills, given.seed)
    known = ledger.runs.values()
    print(f"{given.kills} kills, seed {given.seed}; asked: {dict(ledger.asked)}")
    print(
        f"{sum(k.started for k in known)} starts, {sum(k.stopped for k in known)} cancels and"
        f" {sum(k.recorded for k in known)} early ones, {sum(k.ended is not None for k in known)}"
        " ends were acknowledged: none was forgotten"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
