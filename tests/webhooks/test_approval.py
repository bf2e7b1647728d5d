"""Approval links: a person opens one, decides once, and can do nothing else with it."""

import http.client
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Browser
from pullcord import RunContext, runnable
from pullcord.client import RunClient
from pullcord.engine.clock import ThreadClock
from pullcord.identity.approval_links import ApprovalLinks, LinkRefused
from pullcord.run.errors import Unauthenticated
from pullcord.run.events import RunContinued, ToolCall, ToolCallState
from pullcord.run.record import Run
from pullcord.run.state import RunState

from tests.chromium import Window, browsing
from tests.identity.callers import token_of, write_tokens
from tests.postgres import Database
from tests.restarts.serving import Served as Restarted
from tests.transports.harness import Served
from tests.webhooks.receiver import SECRET, Receiver

PUBLIC = "http://runs.example.com"
Notify = Callable[..., Served]
HOSTILE = '{"to": "<script>alert(1)</script>\u202e\u0000"}'


@runnable
async def asks(ctx: RunContext) -> str:
    """Asks whether a mail may go out, as often as it is told."""
    made = []
    for _ in range(int(ctx.input or 1)):
        [decision] = await ctx.ask("May <it>?", [ToolCall("m", "send_mail", HOSTILE)])
        made.append("sent" if decision.approved else f"kept: {decision.note}")
    return ", ".join(made)


class Person:
    """Somebody with a link, and nothing else: no cookie, no token."""

    def __init__(self, url: str) -> None:
        self._at = urlsplit(url).netloc

    def ask(
        self, link: str, method: str = "GET", body: str = "", **headers: str
    ) -> tuple[int, str]:
        self.headers: dict[str, str] = {}
        connection = http.client.HTTPConnection(self._at, timeout=60)
        try:
            headers = {"host": urlsplit(link).netloc, **headers}
            if body:
                headers["content-type"] = "application/x-www-form-urlencoded"
            connection.request(method, urlsplit(link).path, body or None, headers)
            answer = connection.getresponse()
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def decide(self, link: str, decision: str = "approve", **more: str) -> tuple[int, str]:
        return self.ask(link, "POST", urlencode({"decision": decision, **more}), origin=PUBLIC)


def served_web(notify: Notify, *agents: Any, **settings: Any) -> tuple[Served, Person]:
    settings = {"http": "127.0.0.1:0", "http_public_url": PUBLIC, **settings}
    served = notify(*agents, **settings)
    return served, Person(served.server.http_url)


def link_in(receiver: Receiver, count: int = 1) -> str:
    """The link of the last pause, once there were so many."""
    return str(receiver.of("run.paused", count)[-1].said["data"]["approval_url"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def test_a_link_decides_once(notify: Notify, receiver: Receiver) -> None:
    """Opening it decides nothing; its form does, and afterwards it says that it was decided."""
    served, person = served_web(notify, asks)
    served.start("agents/asks", run_id="r")
    link = link_in(receiver)
    assert receiver.got[-1].said["data"]["question"] == "May <it>?"
    assert link.startswith(f"{PUBLIC}/v1/approvals/")
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}  # from a mail
    for method, headers in (("GET", followed), ("GET", {}), ("HEAD", {})):
        status, _ = person.ask(link, method, **headers)
        assert status == 200
        assert served.engine.get("r").state is RunState.PAUSED
    status, page = person.decide(link)
    assert (status, "Approved" in page) == (200, True)
    assert served.wait("r").output == "sent"
    status, page = person.decide(link)
    assert (status, "This was decided already" in page) == (409, True)
    assert "This was decided already" in person.ask(link)[1]
    continued = [e for e in served.watch("r").rest() if e.HasField("run_continued")]
    assert [e.run_continued.actor for e in continued] == ["approval link"]


def test_a_declined_call_is_not_executed(notify: Notify, receiver: Receiver) -> None:
    """The run gets the note."""
    served, person = served_web(notify, asks)
    served.start("agents/asks", run_id="r")
    assert person.decide(link_in(receiver), "decline", note="not today")[0] == 200
    assert served.wait("r").output == "kept: not today"


def test_what_is_asked_is_shown_and_nothing_of_it_is_markup(
    notify: Notify, receiver: Receiver
) -> None:
    """Words of others are text, hidden characters are seen, and the page runs no script."""
    served, person = served_web(notify, asks)
    served.start("agents/asks", run_id="r")
    _, page = person.ask(link_in(receiver))
    assert "May &lt;it&gt;?" in page
    assert "send_mail" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e\\u0000" in page
    assert "<script" not in page
    policy = person.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert person.headers["cache-control"] == "no-store"
    assert person.headers["referrer-policy"] == "same-origin"


def test_a_link_is_for_one_question(notify: Notify, receiver: Receiver) -> None:
    """A later question of the run has a link of its own, also if its calls have the same ids."""
    served, person = served_web(notify, asks)
    served.start("agents/asks", "2", run_id="r")
    first = link_in(receiver)
    assert person.decide(first)[0] == 200
    second = link_in(receiver, 2)
    assert person.decide(first)[0] == 409
    assert served.engine.get("r").state is RunState.PAUSED
    assert person.decide(second, "decline", note="enough")[0] == 200
    assert served.wait("r").output == "sent, kept: enough"


def test_what_was_not_signed_is_no_link(notify: Notify, receiver: Receiver) -> None:
    """It is answered alike, whatever was changed, and decides nothing."""
    served, person = served_web(notify, asks)
    served.start("agents/asks", run_id="r")
    before, _, token = link_in(receiver).rpartition("/")
    for changed in (token[:-2], f"x{token}", f"{token}%C3%A9", f".{token}", "t", "t.", "." * 3000):
        link = f"{before}/{changed}"
        for status, page in (person.ask(link), person.decide(link)):
            assert (status, "this link was not made by this server" in page) == (404, True)
    assert served.engine.get("r").state is RunState.PAUSED


def test_a_form_that_says_nothing_decides_nothing(notify: Notify, receiver: Receiver) -> None:
    """Nor does one that is too long, or that a page of another site sends."""
    served, person = served_web(notify, asks)
    served.start("agents/asks", run_id="r")
    link = link_in(receiver)
    assert person.decide(link, "perhaps")[0] == 400
    assert person.ask(link, "POST")[0] == 400
    assert person.decide(link, note="x" * 100_000)[0] == 400
    assert person.ask(link, "POST", "decision=approve", origin="https://evil.example")[0] == 403
    assert person.ask(link, "POST", "decision=approve", host="evil.example")[0] == 421
    assert served.engine.get("r").state is RunState.PAUSED


def test_a_link_opens_nothing_else(notify: Notify, receiver: Receiver, tmp_path: Path) -> None:
    """With callers that must be known, the link decides without a token, for a run of a tenant
    whose owner may not decide; and is no credential for anything else."""
    tokens = write_tokens(tmp_path / "tokens")
    served, person = served_web(notify, asks, tokens=tokens, own_approval=False)
    token = token_of("ann")
    with RunClient(served.address, token=token) as ann:
        ann.start("agents/asks", run_id="r")
        link = link_in(receiver)
        paused = receiver.of("run.paused")[0].run
        assert (paused["tenant"], paused["owner"]) == ("acme", "ann")
        _, secret = link.rsplit("/", 1)
        get = "/pullcord.v1.RunService/GetRun"
        bearer = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        assert person.ask(PUBLIC + get, "POST", **bearer)[0] == 401
        with RunClient(served.address, token=secret) as other, pytest.raises(Unauthenticated):
            other.get("r")
        assert person.decide(link)[0] == 200
        assert ann.wait("r").output == "sent"
        (continued,) = [e.payload for e in ann.watch("r") if isinstance(e.payload, RunContinued)]
        assert continued.actor == "approval link"


def test_a_run_that_was_stopped_is_not_decided(notify: Notify, receiver: Receiver) -> None:
    """Its page says how it has ended."""
    served, person = served_web(notify, asks)
    served.start("agents/asks", run_id="r")
    link = link_in(receiver)
    served.cancel("r")
    served.wait("r")
    status, page = person.decide(link)
    assert (status, "has ended: cancelled" in page) == (409, True)


def test_a_link_outlives_the_server(receiver: Receiver, tmp_path: Path) -> None:
    """After kill -9 and a restart a link that was sent before decides, if the pause survives."""
    served = Restarted(
        tmp_path,
        PULLCORD_WEBHOOK_URL=receiver.url,
        PULLCORD_WEBHOOK_SECRET=SECRET,
        PULLCORD_WEBHOOK_PRIVATE="true",
        PULLCORD_HTTP="127.0.0.1:0",
        PULLCORD_HTTP_PUBLIC_URL=PUBLIC,
    )
    try:
        with served.client() as client:
            client.start("agents/buyer", "a bus", run_id="r")
            link = link_in(receiver)
            served.kill()
        with served.client() as client:
            assert served.command is not None
            said = served.command.until("Runs are kept")
            where = re.search(r"http://[0-9.:]+", said)
            assert where is not None
            assert Person(where[0]).decide(link)[0] == 200
            assert "bought a bus" in client.wait("r").output
    finally:
        served.close()


def test_any_replica_takes_a_link(notify: Notify, receiver: Receiver, shared: Database) -> None:
    """Those that share the secret make the same links, whichever executes the run."""
    shared.clear()
    first, _ = served_web(notify, asks, store=shared.url)
    _, other = served_web(notify, asks, store=shared.url)
    first.start("agents/asks", run_id="r")
    link = link_in(receiver)
    assert "May &lt;it&gt;?" in other.ask(link)[1]
    assert other.decide(link)[0] == 200
    assert first.wait("r").output == "sent"


def test_without_a_public_address_there_is_no_link(notify: Notify, receiver: Receiver) -> None:
    """Nor a page to decide on."""
    served = notify(asks, http="127.0.0.1:0")
    served.start("agents/asks", run_id="r")
    (paused,) = receiver.of("run.paused")
    assert "approval_url" not in paused.said["data"]
    status, _ = Person(served.server.http_url).ask(f"{served.server.http_url}/v1/approvals/x.y")
    assert status == 404


def test_a_link_ends_with_its_time() -> None:
    """Its time begins with the question."""
    asked = ThreadClock().time()
    call = ToolCall("m", "send_mail", state=ToolCallState.WAITING, start_time=asked)
    run = Run("r", "agents/a", RunState.PAUSED, tool_calls=(call,), tenant="t", owner="o")
    now = asked
    links = ApprovalLinks("https://x", [b"k" * 32], 60.0, lambda: now)
    link, expires_at = links.make(run)
    token = link.rpartition("/")[2]
    assert links.read(token).is_open(run)
    assert asked + 60.0 <= expires_at <= asked + 62.0
    now = expires_at
    with pytest.raises(LinkRefused):
        links.read(token)
    with pytest.raises(LinkRefused):
        ApprovalLinks("https://x", [b"o" * 32], 60.0, lambda: asked).read(token)


def test_a_browser_decides(notify: Notify, receiver: Receiver, browser: Browser) -> None:
    """The page obeys its own policy, and its form is taken as the browser sends it."""
    served, _ = served_web(notify, asks)
    served.start("agents/asks", run_id="r")
    link = served.server.http_url + urlsplit(link_in(receiver)).path
    window = Window(browser)
    page = window.page(link)
    assert page.locator("h1").inner_text() == "A run waits for a decision"
    page.get_by_label("A note").fill("from a browser")
    page.get_by_role("button", name="Decline").click()
    page.get_by_role("heading", name="Declined").wait_for()
    window.close()
    assert served.wait("r").output == "kept: from a browser"
