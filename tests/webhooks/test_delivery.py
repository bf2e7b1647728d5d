"""Webhooks from a real server to a real receiver: signed, again until they arrive, and bounded."""

import base64
import logging
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pullcord import Decision, RunContext, runnable
from pullcord.run.events import ToolCall
from pullcord.settings import SettingsError
from pullcord.webhooks import addresses, delivering, sending

from tests.postgres import Database
from tests.transports.harness import Served, until
from tests.webhooks.receiver import KEY, Receiver

Notify = Callable[..., Served]


@runnable
def say(input: str) -> str:
    """Says what it is told."""
    return input


@runnable
async def asks(ctx: RunContext) -> str:
    """Asks whether a mail may go out."""
    [decision] = await ctx.ask("May it?", [ToolCall("m", "send_mail", '{"to": "<b>ann</b>"}')])
    return "sent" if decision.approved else "kept"


@runnable
async def parent(ctx: RunContext) -> str:
    """Has a child do its work."""
    await ctx.start(asks).wait()
    return "done"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "postgres":
        return _shared(request)
    return "memory" if request.param == "memory" else str(tmp_path / "runs.db")


def _shared(request: pytest.FixtureRequest) -> str:
    database: Database = request.getfixturevalue("shared")
    database.clear()
    return database.url


def test_the_end_of_a_run_is_notified_and_signed(
    notify: Notify, receiver: Receiver, store: Any
) -> None:
    """Once a run has ended its receiver has the run as GetRun has it, signed with its secret."""
    served = notify(say, store=store)
    served.start("agents/say", "hello", run_id="r", labels={"for": "ann"})
    served.wait("r")
    (got,) = receiver.wait(1)
    assert (got.type, got.path) == ("run.ended", "/hooks/here")
    assert got.headers["content-type"] == "application/json"
    assert got.is_signed()
    assert not got.is_signed(b"another key")
    run = got.run
    assert (run["runId"], run["state"], run["output"]) == ("r", "RUN_STATE_COMPLETED", "hello")
    assert (run["labels"], run["tenant"], run["owner"]) == ({"for": "ann"}, "default", "local")
    until(lambda: served.engine._store.notices.pending() == 0)


def test_a_pause_is_notified_and_then_the_end(
    notify: Notify, receiver: Receiver, store: Any
) -> None:
    """A run that waits for a decision says which calls it asks about."""
    served = notify(asks, store=store)
    served.start("agents/asks", run_id="r")
    (paused,) = receiver.of("run.paused")
    assert paused.run["state"] == "RUN_STATE_PAUSED"
    (call,) = paused.run["toolCalls"]
    assert (call["toolCallId"], call["state"]) == ("m", "TOOL_CALL_STATE_WAITING")
    served.engine.continue_run("r", [_approved("m")])
    (ended,) = receiver.of("run.ended")
    assert ended.run["output"] == "sent"
    assert ended.id != paused.id
    assert all(got.is_signed() for got in receiver.got)


def test_a_child_is_notified_of_where_it_waits_only(
    notify: Notify, receiver: Receiver, store: Any
) -> None:
    """A child's pause is notified, since the decision must come to it; its end is not."""
    served = notify(parent, asks, store=store)
    served.start("agents/parent", run_id="r")
    (paused,) = receiver.of("run.paused")
    child = paused.run["runId"]
    assert paused.run["parentRunId"] == "r"
    served.engine.continue_run(child, [_approved("m")])
    (ended,) = receiver.of("run.ended")
    assert ended.run["runId"] == "r"
    until(lambda: served.engine._store.notices.pending() == 0)
    assert len(receiver.got) == 2


def test_a_receiver_that_was_down_gets_it_later(
    notify: Notify, receiver: Receiver, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a receiver refuses or does not hear is sent again, under the same id."""
    monkeypatch.setattr(delivering, "_FIRST", 0.05)
    receiver.status = 500
    served = notify(say, store=store)
    served.start("agents/say", "hello", run_id="r")
    first, second, *_ = receiver.wait(2)
    receiver.status = 200
    until(lambda: served.engine._store.notices.pending() == 0)
    assert first.id == second.id == receiver.got[-1].id
    assert all(got.is_signed() for got in receiver.got)


def test_a_receiver_that_is_not_there_is_tried_again(
    notify: Notify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is refused is no end of it."""
    monkeypatch.setattr(delivering, "_FIRST", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = notify(say, webhook_url=f"http://127.0.0.1:{port}/")
    served.start("agents/say", "hello", run_id="r")
    served.wait("r")
    until(lambda: any(n.notice.tries for n in served.engine._store.notices._rows.values()))
    late = Receiver(port)
    try:
        assert late.of("run.ended")[0].run["runId"] == "r"
    finally:
        late.close()


def test_a_receiver_that_wants_none_is_left_alone(notify: Notify, receiver: Receiver) -> None:
    """410 ends it."""
    receiver.status = 410
    served = notify(say)
    served.start("agents/say", "hello", run_id="r")
    receiver.wait(1)
    until(lambda: served.engine._store.notices.pending() == 0)
    assert len(receiver.got) == 1


def test_after_a_day_it_is_given_up(
    notify: Notify,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then the log says so, as an error."""
    monkeypatch.setattr(delivering, "KEPT", 1.0)
    receiver.status = 500
    served = notify(say)
    served.start("agents/say", "hello", run_id="r")
    until(lambda: served.engine._store.notices.pending() == 0 and bool(receiver.got))
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert any("run.ended of run r was not delivered in a day" in words for words in errors)
    assert not any("hooks/here" in words for words in errors)


def test_a_redirect_is_not_followed(notify: Notify, receiver: Receiver) -> None:
    """It is no delivery, and nothing is asked of where it leads."""
    other = Receiver()
    try:
        receiver.status, receiver.answer_headers = 307, {"location": other.url}
        served = notify(say)
        served.start("agents/say", "hello", run_id="r")
        receiver.wait(1)
        until(lambda: any(n.notice.tries for n in served.engine._store.notices._rows.values()))
        assert other.got == []
    finally:
        other.close()


def test_a_slow_receiver_keeps_no_run_and_no_more_than_its_share(
    notify: Notify, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it does not answer, runs end as ever, and a few requests at most are under way."""
    monkeypatch.setattr(delivering, "_MOST", 2)
    receiver.before_answer.clear()
    served = notify(say)
    for n in range(6):
        served.start("agents/say", "hello", run_id=f"r{n}")
    for n in range(6):
        served.wait(f"r{n}")
    receiver.wait(2)
    served.start("agents/say", "hello", run_id="last")
    served.wait("last")
    assert len(receiver.got) == 2
    receiver.before_answer.set()
    until(
        lambda: {got.run["runId"] for got in receiver.got} == {*map("r{}".format, range(6)), "last"}
    )


def test_a_receiver_that_never_answers_is_given_its_time(
    notify: Notify, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the try is over, and there is another one."""
    monkeypatch.setattr(sending, "_WHOLE", 0.2)
    monkeypatch.setattr(delivering, "_FIRST", 0.05)
    receiver.before_answer.clear()
    served = notify(say)
    served.start("agents/say", "hello", run_id="r")
    first, second, *_ = receiver.wait(2)
    assert first.id == second.id
    receiver.before_answer.set()
    until(lambda: served.engine._store.notices.pending() == 0)


def test_a_large_run_is_sent_without_its_texts(notify: Notify, receiver: Receiver) -> None:
    """A body is bounded, and says that something is missing."""
    served = notify(say)
    served.start("agents/say", "x" * 300_000, run_id="r")
    (got,) = receiver.wait(1)
    assert len(got.body) < 256 * 1024
    assert got.said["data"]["truncated"] is True
    assert (got.run["runId"], got.run["state"]) == ("r", "RUN_STATE_COMPLETED")
    assert "output" not in got.run


def test_only_what_is_wanted_is_notified(notify: Notify, receiver: Receiver) -> None:
    """`webhook_events` names the events."""
    served = notify(asks, webhook_events=("run.paused",))
    served.start("agents/asks", run_id="r")
    receiver.of("run.paused")
    served.engine.continue_run("r", [_approved("m")])
    served.wait("r")
    until(lambda: served.engine._store.notices.pending() == 0)
    assert len(receiver.got) == 1


def test_a_pause_that_is_over_is_not_notified(
    notify: Notify, receiver: Receiver, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be delivered before somebody has decided is not delivered any more."""
    monkeypatch.setattr(delivering, "_FIRST", 0.05)
    receiver.status = 503
    served = notify(asks, store=store)
    served.start("agents/asks", run_id="r")
    receiver.of("run.paused")
    served.engine.continue_run("r", [_approved("m")])
    served.wait("r")
    receiver.of("run.ended")
    receiver.status = 200
    until(lambda: served.engine._store.notices.pending() == 0)
    assert receiver.got[-1].type == "run.ended"


def test_receivers_change_from_one_secret_to_another(notify: Notify, receiver: Receiver) -> None:
    """With two secrets there are two signatures, either of which a receiver may verify."""
    other = bytes(range(1, 33))
    both = [_secret(other), _secret(KEY)]
    served = notify(say, webhook_secret=" ".join(both))
    served.start("agents/say", "hello", run_id="r")
    (got,) = receiver.wait(1)
    assert got.is_signed()
    assert got.is_signed(other)


# --- addresses


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("239.1.2.3", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%lo", False),
        ("fec0::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:0a00:0001::1", False),
        ("64:ff9b::7f00:1", False),
        ("::127.0.0.1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    """None that leads to this machine or its networks, in whatever form."""
    assert addresses.is_public(address) is public


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"webhook_url": "https://127.0.0.1/"}, "WEBHOOK_URL: 127.0.0.1 is not public"),
        ({"webhook_url": "https://[::ffff:10.0.0.1]/"}, "is not public"),
        ({"webhook_url": "http://hooks.example.com/"}, "must be https"),
        ({"webhook_url": "https://ann:word@hooks.example.com/"}, "must not hold a user"),
        ({"webhook_url": "ftp://hooks.example.com/"}, "must be an address such as"),
        ({"webhook_url": "https://hooks.example.com:port/"}, "WEBHOOK_URL: Port"),
        ({"webhook_secret": ""}, "WEBHOOK_SECRET: must be whsec_"),
        ({"webhook_secret": "whsec_c2hvcnQ="}, "WEBHOOK_SECRET: must be whsec_"),
        ({"webhook_events": ("run.began",)}, "WEBHOOK_EVENTS: 'run.began' is no event"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    notify: Notify, given: dict[str, Any], words: str
) -> None:
    """At the start, by the name of the variable, and without the secret."""
    address = {"webhook_url": "https://hooks.example.com/", "webhook_private": False}
    with pytest.raises(SettingsError, match=words.replace(".", r"\.")) as refused:
        notify(say, **address | given)
    assert "c2hvcnQ" not in str(refused.value)


def test_a_name_that_leads_to_a_private_address_is_refused(
    notify: Notify, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked up when something is sent; nothing is connected to, and it is tried again."""
    url = f"https://localhost:{receiver.port}/"
    served = notify(say, webhook_url=url, webhook_private=False)
    served.start("agents/say", "hello", run_id="r")
    until(lambda: any("which is not public" in r.getMessage() for r in caplog.records))
    assert receiver.got == []
    assert served.engine._store.notices.pending() == 1


def _approved(call: str) -> Any:

    return Decision(call, approved=True)


def _secret(key: bytes) -> str:

    return "whsec_" + base64.b64encode(key).decode()


def test_the_guides_check_knows_a_genuine_webhook(notify: Notify, receiver: Receiver) -> None:
    """The function of docs/webhooks.md takes what the server sent, and nothing that was changed."""
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(code, "webhooks.md", "exec"), names)
    is_genuine = names["is_genuine"]
    served = notify(say)
    served.start("agents/say", "hello", run_id="r")
    (got,) = receiver.wait(1)
    assert is_genuine(_secret(KEY), got.headers, got.body)
    assert not is_genuine(_secret(KEY), got.headers, got.body + b" ")
    assert not is_genuine(_secret(KEY[::-1]), got.headers, got.body)
    assert not is_genuine(_secret(KEY), got.headers | {"webhook-id": "msg_1"}, got.body)
    assert not is_genuine(_secret(KEY), got.headers | {"webhook-timestamp": "1"}, got.body)
