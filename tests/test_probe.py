"""`python -m pullcord.probe`, the health check of containers."""

import socket

import pytest
from pullcord import RunServer, runnable
from pullcord.probe import is_serving, main

from tests.steady import PATIENCE, steady


@runnable
def nothing() -> None:
    """Does nothing."""


@steady
def test_a_server_that_serves() -> None:
    """A server that serves is healthy: exit code 0."""
    with RunServer(agents=[nothing]) as address:
        assert is_serving(address, PATIENCE)
        assert main([address]) == 0
    assert main([address]) == 1


def test_a_server_that_drains() -> None:
    """A server that drains is not healthy: it takes no new runs."""
    server = RunServer(agents=[nothing])
    with server as address:
        assert is_serving(address, PATIENCE)
        server.drain()
        while is_serving(address):
            pass


def test_nobody_there() -> None:
    """Where nobody listens, the exit code is 1, and the answer comes at once."""
    assert main(["127.0.0.1:1"]) == 1


def test_somebody_who_speaks_no_grpc() -> None:
    """A server that never answers is not serving; the check gives up in its time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not is_serving(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)


def test_a_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment has no part in a health check."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with RunServer(agents=[nothing]) as address:
        assert is_serving(address, PATIENCE)
