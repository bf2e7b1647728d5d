"""Three replicas and their PostgreSQL are killed, frozen and cut off; what was promised holds."""

import contextlib
import os

import pytest

from tests.chaos.chaos import Chaos
from tests.postgres import Postgres, programs


class Rolling(Chaos):
    """Nothing fails: a new release is brought out."""

    async def faults(self) -> None:
        await self.rolling_restart()


@pytest.mark.timeout(170)
async def test_a_rolling_restart_loses_no_run() -> None:
    """Replicas that are restarted one after the other under load lose no run that ends within the
    drain time, and every watcher sees the end without a doubled or missing event."""
    if programs() is None and os.environ.get("CI") != "true":
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with contextlib.closing(Postgres(durable=True)) as postgres:
        rolling = Rolling(postgres, seed=5, seconds=600)
        await rolling.play()
    assert rolling.violations == [], "\n\n".join(rolling.said)
    assert rolling.counts["lost"] == 0
    assert rolling.counts["completed"] > 0


@pytest.mark.timeout(170)
async def test_promise_12_what_was_promised_holds_whatever_dies() -> None:
    """Each run has one end, which is its last event and the only one that was shown; an accepted
    cancel cancels; no event is doubled or missing without a gap; no run is executed twice; one that
    waits for a decision is not lost, and goes on by one decision, once."""
    if programs() is None and os.environ.get("CI") != "true":
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with contextlib.closing(Postgres(durable=True)) as postgres:
        chaos = Chaos(postgres, seed=3, seconds=25)
        await chaos.play()
    assert chaos.violations == [], "\n\n".join(chaos.said)
    assert chaos.counts["completed"] > 0
    assert chaos.counts["cancelled"] > 0
    assert chaos.counts["decided"] > 0
    assert chaos.counts["waited"] > 0
