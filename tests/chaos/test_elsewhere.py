"""Workers elsewhere, and their server, are killed, frozen and cut off; what was promised holds."""

import pytest

from tests.chaos.elsewhere import Elsewhere


@pytest.mark.timeout(300)
async def test_what_was_promised_holds_for_workers_elsewhere() -> None:
    """Each run has one end, and its output is what its deltas say; no event is doubled, or missing
    without a gap; an accepted cancel cancels; nothing is executed twice, or after the end of its
    run; no process stays behind."""
    chaos = Elsewhere(seed=3, seconds=25)
    await chaos.play()
    assert chaos.violations == [], "\n\n".join(chaos.said)
    assert chaos.counts["ended completed"] > 0
    assert chaos.counts["ended cancelled"] > 0
