"""One scripted server for all tests of a module; each test writes its own script."""

from collections.abc import Iterator

import pytest

from tests.client.scripted import Script, serving


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Script, str]]:
    script = Script()
    with serving(script) as address:
        yield script, address


@pytest.fixture
def script(served: tuple[Script, str]) -> Script:
    served[0].reset([])
    return served[0]


@pytest.fixture
def address(served: tuple[Script, str]) -> str:
    return served[1]
