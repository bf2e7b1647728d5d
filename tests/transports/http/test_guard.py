"""Pages of others, names that are not ours, and requests that are too much."""

from collections.abc import Callable

import pytest

from tests.transports.harness import Served
from tests.transports.http.agents import speaker
from tests.transports.http.web import SERVICE, Browser

Both = Callable[..., tuple[Served, Browser]]


@pytest.fixture
def browser(serve_http: Both) -> Browser:
    _, browser = serve_http(speaker, http_origin="https://app.example", http_host="pull.example")
    browser.start("speaker", "r1")
    list(browser.events("r1"))
    return browser


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"origin": "https://evil.example"}, "FOREIGN_ORIGIN"),
        ({"origin": "null"}, "FOREIGN_ORIGIN"),
        ({"origin": "http://127.0.0.1:1"}, "FOREIGN_ORIGIN"),
        ({"sec_fetch_site": "cross-site"}, "FOREIGN_ORIGIN"),
        ({"sec_fetch_site": "same-site"}, "FOREIGN_ORIGIN"),
        ({"host": "evil.example"}, "FOREIGN_HOST"),
        ({"host": "evil.example:80", "origin": "http://evil.example:80"}, "FOREIGN_HOST"),
        ({"host": "127.0.0.1.evil.example"}, "FOREIGN_HOST"),
        ({"host": ""}, "FOREIGN_HOST"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/runs/r1/cancel", f"{SERVICE}GetRun", "/v1/runs/r1/events"])
def test_a_foreign_page_is_refused(
    browser: Browser, path: str, headers: dict[str, str], reason: str
) -> None:
    """Neither another origin nor a rebound name reaches a route."""
    method = "GET" if path.endswith("events") else "POST"
    reply = browser.ask(method, path, b"{}", content_type="application/json", **headers)
    assert reply.reason == reason


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:80", "origin": "http://localhost:80"},
        {"host": "pull.example", "origin": "https://pull.example"},
        {"host": "[::1]:8080"},
        {"sec_fetch_site": "same-origin"},
    ],
)
def test_an_own_page_is_served(browser: Browser, headers: dict[str, str]) -> None:
    """Browsers by the server's own names, and curl, reach it."""
    assert browser.post(f"{SERVICE}GetRun", {"runId": "r1"}, **headers).status == 200


def test_cross_origin_answers_are_for_allowed_origins_only(browser: Browser) -> None:
    """CORS is closed by default: a preflight of another origin is refused."""
    asks = {"access_control_request_method": "POST"}
    allowed = browser.ask("OPTIONS", f"{SERVICE}GetRun", origin="https://app.example", **asks)
    assert allowed.status == 204
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "connect-protocol-version" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    refused = browser.ask("OPTIONS", f"{SERVICE}GetRun", origin="https://evil.example", **asks)
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers


def test_a_request_that_is_too_large_is_refused_before_it_is_whole(browser: Browser) -> None:
    """A body is bounded by what it says and by what comes; headers are bounded, too."""
    head = f"POST {SERVICE}GetRun HTTP/1.1\r\nhost: {browser.host}\r\n"
    with browser.raw(f"{head}content-length: 999999999\r\n\r\n".encode()) as line:
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")
    chunked = f"{head}transfer-encoding: chunked\r\n\r\n4000000\r\n".encode()
    with browser.raw(chunked) as line:
        try:
            for _ in range(64):
                line.sendall(bytes(1024 * 1024))
        except OSError:
            pass
        else:
            assert line.recv(100).startswith(b"HTTP/1.1 413 ")
    with browser.raw(f"{head}x: {'y' * 100_000}\r\n\r\n".encode()) as line:
        assert line.recv(100).startswith(b"HTTP/1.1 400 ")
