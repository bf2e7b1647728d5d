"""The console's source passes its checks, and its build is the one that is checked in."""

import pytest

from tests.clients.toolchains import toolchain


@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", ["lint", "check-generated"])
def test_verb(verb: str) -> None:
    """The console's own checks pass; a fresh build gives what server/pullcord/console has."""
    toolchain("console").make(verb)
