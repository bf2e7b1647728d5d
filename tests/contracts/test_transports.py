"""One contract for every way to a server: the same scenarios, and the same events, outcomes,
refusals and ownership, whatever protocol asks."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunContext, RunServer, runnable
from pullcord.stores.memory import MemoryStore

from tests.contracts.transports import WAYS, Grpc, Refused, Way
from tests.identity.callers import token_of, write_tokens
from tests.steady import PATIENCE
from tests.transports.harness import make_settings, until

TEXT = "one\u2028two\x85 three é "


@runnable
def speaker(context: RunContext) -> Iterator[str]:
    """Says three words."""
    yield from (TEXT, TEXT, TEXT)


@runnable
async def waiter(context: RunContext) -> Any:
    """Says a word, and waits to be stopped."""
    yield "first"
    await asyncio.Event().wait()


@runnable
def failer(context: RunContext) -> Iterator[str]:
    """Says a word, and fails."""
    yield "begun"
    raise KeyError("no such thing")


class Server:
    def __init__(self, folder: Path) -> None:
        settings = make_settings(http="127.0.0.1:0", tokens=write_tokens(folder / "tokens"))
        self.server = RunServer([speaker, waiter, failer], settings=settings, store=MemoryStore)
        self.address = self.server.start()
        self.made: list[Way] = []

    def way(self, kind: type[Way], caller: str) -> Way:
        made = kind(self.address, self.server.http_url, token_of(caller) if caller else "")
        self.made.append(made)
        return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("contract"))
    yield server
    for way in server.made:
        way.close()
    server.server.stop()


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def kind(request: pytest.FixtureRequest) -> type[Way]:
    made: type[Way] = request.param
    return made


@pytest.fixture
def way(server: Server, kind: type[Way]) -> Way:
    """How ann reaches the server."""
    return server.way(kind, "ann")


@pytest.fixture
def run_id() -> str:
    return f"run-{uuid.uuid4()}"


@pytest.fixture
def start(server: Server, way: Way) -> Callable[..., None]:
    """Starts a run of ann's, over the way itself if it can."""
    return way.start if "start" in way.can else server.way(Grpc, "ann").start


def refusal(call: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def test_a_run_is_followed_to_its_end(
    way: Way, start: Callable[..., None], server: Server, run_id: str
) -> None:
    """The events, the text, whatever is in it, and the output are those that gRPC shows."""
    start("speaker", run_id)
    story = way.whole(run_id)
    assert (story.end, story.output, story.text) == ("completed", 3 * TEXT, 3 * TEXT)
    if "numbers" in way.can:
        assert story.kinds == ["run_started", "content_delta", "run_completed"]
        again = server.way(Grpc, "ann").whole(run_id)
        assert asdict(way.whole(run_id)) == asdict(again)


def test_a_stop_keeps_what_was_made(way: Way, start: Callable[..., None], run_id: str) -> None:
    """The receipt and the last event say who, why and what was kept."""
    start("waiter", run_id)
    stories = way.until_text(run_id)
    stop = way.cancel(run_id, "enough", wait=30)
    assert (stop.outcome, stop.reason, stop.actor, stop.output) == (
        "STOPPED",
        "enough",
        "ann",
        "first",
    )
    *_, story = stories
    assert (story.end, story.output, story.cause) == ("cancelled", "first", "USER")
    assert (story.reason, story.actor) == ("enough", "ann")
    if "state" in way.can:
        assert way.state(run_id) == "cancelled"


def test_a_stop_can_be_asked_for_again(way: Way, start: Callable[..., None], run_id: str) -> None:
    """Again: the first stop stands. After an end: nothing is changed."""
    start("waiter", run_id)
    way.cancel(run_id, "first", wait=30)
    again = way.cancel(run_id, "second")
    assert (again.outcome, again.reason) == ("STOPPED", "first")
    start("speaker", f"{run_id}-2")
    way.whole(f"{run_id}-2")
    assert way.cancel(f"{run_id}-2", "late").outcome == "ALREADY_FINISHED"


def test_a_stop_can_come_before_its_run(way: Way, start: Callable[..., None], run_id: str) -> None:
    """Early: it is recorded, and the run ends without doing anything."""
    if "early" not in way.can:
        pytest.skip("it has no word for it")
    assert way.cancel(run_id, "early", early=True).outcome == "RECORDED"
    start("waiter", run_id)
    story = way.whole(run_id)
    assert (story.end, story.reason, story.output) == ("cancelled", "early", "")


def test_a_follower_that_comes_back_misses_nothing(
    way: Way, start: Callable[..., None], run_id: str
) -> None:
    """After any event: exactly the rest."""
    start("speaker", run_id)
    whole = way.whole(run_id)
    last = whole.numbers[-1]
    for after in range(last):
        story = way.whole(run_id, after)
        assert story.end == "completed"
        assert story.text == (3 * TEXT if after <= 1 else TEXT * (4 - after))
    assert way.whole(run_id, last).kinds == []


def test_a_run_that_fails_says_so(way: Way, start: Callable[..., None], run_id: str) -> None:
    """The stream ends in peace; the failure is its last event."""
    start("failer", run_id)
    story = way.whole(run_id)
    assert (story.end, story.error, story.text) == ("failed", "KeyError", "begun")


def test_what_is_not_there_is_refused_by_name(way: Way) -> None:
    """The reasons are those of gRPC's ErrorInfo."""
    assert refusal(lambda: way.whole("nothing")).reason == "RUN_NOT_FOUND"
    assert refusal(lambda: way.cancel("nothing")).reason == "RUN_NOT_FOUND"
    if "start" in way.can:
        assert refusal(lambda: way.start("nobody", "")).reason == "RUNNABLE_NOT_FOUND"
    if "state" in way.can:
        assert refusal(lambda: way.state("nothing")).reason == "RUN_NOT_FOUND"


def test_wrong_fields_are_named(way: Way) -> None:
    """All of them, by the proto's names."""
    if "fields" not in way.can:
        pytest.skip("it has no word for it")
    refused = refusal(lambda: way.start("UPPER", "!", user_id="*"))
    assert refused.reason == "INVALID_ARGUMENT"
    assert {"spec.runnable", "spec.run_id", "spec.user_id"} <= set(refused.fields)
    assert refusal(lambda: way.cancel("x", "r" * 1025)).fields == ["reason"]


def test_a_run_is_its_owners(
    server: Server, kind: type[Way], start: Callable[..., None], run_id: str
) -> None:
    """Others are answered as if it had never been, and strangers are not answered at all."""
    start("waiter", run_id)
    bob, nobody, olga = (server.way(kind, who) for who in ("bob", "", "olga"))
    assert refusal(lambda: bob.whole(run_id)).reason == "RUN_NOT_FOUND"
    assert refusal(lambda: bob.cancel(run_id)).reason == "RUN_NOT_FOUND"
    assert refusal(lambda: nobody.whole(run_id)).reason == "UNAUTHENTICATED"
    assert refusal(lambda: nobody.cancel(run_id)).reason == "UNAUTHENTICATED"
    vic = server.way(kind, "vic")
    vic.until_text(run_id).close()  # type: ignore[attr-defined]  # it is a generator
    assert refusal(lambda: vic.cancel(run_id)).reason == "PERMISSION_DENIED"
    assert olga.cancel(run_id, "by an operator", wait=30).actor == "olga"


def test_followers_see_the_same(
    server: Server, way: Way, start: Callable[..., None], run_id: str
) -> None:
    """Whoever follows, over whatever, sees the run's end."""
    start("waiter", run_id)
    found: list[Any] = []
    others = [server.way(kind, "ann") for kind in WAYS]
    threads = [
        threading.Thread(target=lambda other=other: found.append(other.whole(run_id)))
        for other in others
    ]
    for thread in threads:
        thread.start()
    way.cancel(run_id, "enough", wait=30)
    for thread in threads:
        thread.join(PATIENCE)
    assert [story.end for story in found] == ["cancelled"] * len(WAYS)
    assert {story.reason for story in found} == {"enough"}


def test_who_leaves_a_run_may_end_it(
    server: Server, way: Way, start: Callable[..., None], run_id: str
) -> None:
    """The disconnect policy holds for every way."""
    start("waiter", run_id, on_disconnect="DISCONNECT_POLICY_CANCEL")
    stories = way.until_text(run_id)
    stories.close()  # type: ignore[attr-defined]  # it is a generator
    state = server.way(Grpc, "ann").state
    until(lambda: state(run_id) == "cancelled")
