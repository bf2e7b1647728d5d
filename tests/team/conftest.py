"""An engine on a clock that stands still: what waits for time waits for ever, unless it is stopped.

Closed at the end, and found to have left nothing at work.
"""

from collections.abc import Iterator

import pytest
from pullcord.engine.engine import Engine
from pullcord.testing import make_engine, nothing_left


@pytest.fixture
def engine() -> Iterator[Engine]:
    with nothing_left():
        engine = make_engine()
        yield engine
        assert engine.wait_idle(30)
        engine.close()
