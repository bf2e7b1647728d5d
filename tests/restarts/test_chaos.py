"""The short form of the kill test; `make restarts` is the long one."""

from pathlib import Path

import pytest

from tests.restarts.chaos import play


@pytest.mark.timeout(300)
def test_promise_12_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """A server is killed three times under load: every start, end and accepted cancel stands."""
    ledger = play(tmp_path, kills=3, seed=11)
    assert sum(known.started for known in ledger.runs.values()) > 10
