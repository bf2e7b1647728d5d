"""One contract for every way to a server: the same scenarios, and the same events, outcomes,
refusals and ownership, whatever protocol asks."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunContext, RunServer, runnable
from pullcord.stores.memory import MemoryStore

from tests.contracts.transports.over_grpc import Grpc
from tests.contracts.transports.way import Refused, Story, Way
from tests.contracts.transports.ways import (
    WAYS,
    WAYS_BY_ATTENDING,
    WAYS_BY_EVENT,
    WAYS_BY_LEAVING,
)
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
        self.runnables: dict[str, str] = {}

    def way(self, kind: type[Way], caller: str) -> Way:
        token = token_of(caller) if caller else ""
        made = kind(self.address, self.server.http_url, token, self.runnables)
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


def refusal(call: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def same(way: Way, story: Story, of_grpc: Story) -> None:
    """Two followers were told the same, as far as their protocols have words."""
    silent = {"stopping": "cancel_requested", "usage": "usage_updated"}
    left_out = {silent[lack] for lack in way.lacks}
    expected = {**asdict(of_grpc), "numbers": ()}
    expected["kinds"] = [kind for kind in of_grpc.kinds if kind not in left_out]
    assert {**asdict(story), "numbers": ()} == expected


def test_a_run_is_followed_to_its_end(way: Way, server: Server, run_id: str) -> None:
    """The events, the text, whatever is in it, and the output are those that gRPC shows."""
    way.start("speaker", run_id)
    story = way.whole(run_id)
    assert (story.end, story.output, story.text) == ("completed", 3 * TEXT, 3 * TEXT)
    assert story.kinds == ["run_started", "content_delta", "run_completed"]
    same(way, way.whole(run_id), server.way(Grpc, "ann").whole(run_id))


def test_a_stop_keeps_what_was_made(way: Way, server: Server, run_id: str) -> None:
    """The receipt and the last event say who, why and what was kept."""
    way.start("waiter", run_id)
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
    assert way.state(run_id) == "cancelled"
    same(way, way.whole(run_id), server.way(Grpc, "ann").whole(run_id))


def test_a_stop_can_be_asked_for_again(way: Way, run_id: str) -> None:
    """Again: the first stop stands. After an end: nothing is changed."""
    way.start("waiter", run_id)
    way.cancel(run_id, "first", wait=30)
    again = way.cancel(run_id, "second")
    assert (again.outcome, again.reason) == ("STOPPED", "first")
    way.start("speaker", f"{run_id}-2")
    way.whole(f"{run_id}-2")
    assert way.cancel(f"{run_id}-2", "late").outcome == "ALREADY_FINISHED"


def test_a_stop_can_come_before_its_run(way: Way, run_id: str) -> None:
    """Early: it is recorded, and the run ends without doing anything."""
    way.runnables[run_id] = "waiter"
    assert way.cancel(run_id, "early", early=True).outcome == "RECORDED"
    assert way.cancel(run_id, "again", early=True).outcome == "RECORDED"
    way.start("waiter", run_id)
    story = way.whole(run_id)
    assert (story.end, story.reason, story.output) == ("cancelled", "early", "")


def test_a_follower_that_comes_back_misses_nothing(way: Way, run_id: str) -> None:
    """After anything that it has a number for: exactly the rest."""
    way.start("speaker", run_id)
    way.whole(run_id)
    had = [(story.numbers[-1], story.text) for story in way.follow(run_id)]
    assert [number for number, _ in had] == sorted({number for number, _ in had})
    for after, text in [(0, ""), *had[:-1]]:
        story = way.whole(run_id, after)
        assert (story.end, text + story.text) == ("completed", 3 * TEXT)
        assert story.numbers[0] > after
    last, _ = had[-1]
    assert way.whole(run_id, last).kinds == []


@pytest.mark.parametrize("kind", WAYS_BY_EVENT, indirect=True, ids=lambda way: way.name)
def test_merged_text_is_split_for_a_follower_that_comes_back(way: Way, run_id: str) -> None:
    """The numbers of events that were merged count, too."""
    way.start("speaker", run_id)
    last = way.whole(run_id).numbers[-1]
    for after in range(1, last):
        assert way.whole(run_id, after).text == TEXT * (4 - after)


def test_a_run_that_fails_says_so(way: Way, server: Server, run_id: str) -> None:
    """The stream ends in peace; the failure is its last event."""
    way.start("failer", run_id)
    story = way.whole(run_id)
    assert (story.end, story.error, story.text) == ("failed", "KeyError", "begun")
    assert story.output == "begun"
    same(way, way.whole(run_id), server.way(Grpc, "ann").whole(run_id))


def test_what_is_not_there_is_refused_by_name(way: Way) -> None:
    """The reasons are those of gRPC's ErrorInfo."""
    assert refusal(lambda: way.whole("nothing")).reason == "RUN_NOT_FOUND"
    assert refusal(lambda: way.cancel("nothing")).reason == "RUN_NOT_FOUND"
    assert refusal(lambda: way.start("nobody", "")).reason == "RUNNABLE_NOT_FOUND"
    assert refusal(lambda: way.state("nothing")).reason == "RUN_NOT_FOUND"


def test_wrong_fields_are_named(way: Way, run_id: str) -> None:
    """All of them, by the names that the way has for them."""
    in_path = "spec.runnable" not in way.names
    refused = refusal(lambda: way.start("speaker" if in_path else "UPPER", "!", user_id="*"))
    assert refused.reason == "INVALID_ARGUMENT"
    assert set(refused.fields) == set(way.names.values()) - {"reason"}
    way.start("speaker", run_id)
    assert refusal(lambda: way.cancel(run_id, "r" * 1025)).fields == ["reason"]


def test_a_run_that_exists_is_not_started_twice(way: Way, run_id: str) -> None:
    """The same request again is the same run; another one is refused."""
    way.start("speaker", run_id)
    way.start("speaker", run_id)
    assert way.whole(run_id).text == 3 * TEXT
    assert refusal(lambda: way.start("failer", run_id)).reason == "RUN_EXISTS"


def test_a_run_is_its_owners(server: Server, kind: type[Way], way: Way, run_id: str) -> None:
    """Others are answered as if it had never been, and strangers are not answered at all."""
    way.start("waiter", run_id)
    bob, nobody, olga = (server.way(kind, who) for who in ("bob", "", "olga"))
    never = f"run-{uuid.uuid4()}"
    for ask in (bob.whole, bob.state, bob.cancel):
        foreign, unknown = refusal(partial(ask, run_id)), refusal(partial(ask, never))
        assert foreign.reason == "RUN_NOT_FOUND"
        assert run_id in foreign.words
        assert foreign.words.replace(run_id, never) == unknown.words
        assert (foreign.reason, foreign.status) == (unknown.reason, unknown.status)
    assert refusal(lambda: nobody.whole(run_id)).reason == "UNAUTHENTICATED"
    assert refusal(lambda: nobody.cancel(run_id)).reason == "UNAUTHENTICATED"
    vic = server.way(kind, "vic")
    vic.until_text(run_id).close()  # type: ignore[attr-defined]  # it is a generator
    assert refusal(lambda: vic.cancel(run_id)).reason == "PERMISSION_DENIED"
    assert olga.cancel(run_id, "by an operator", wait=30).actor == "olga"


def test_followers_see_the_same(server: Server, way: Way, run_id: str) -> None:
    """Whoever follows, over whatever, sees the run's end."""
    way.start("waiter", run_id)
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


@pytest.mark.parametrize("kind", WAYS_BY_ATTENDING, indirect=True, ids=lambda way: way.name)
def test_who_starts_a_run_is_told_all_of_it(way: Way, server: Server, run_id: str) -> None:
    """What its starter sees is what gRPC shows to those who come later."""
    for name, end in (("speaker", "completed"), ("failer", "failed")):
        id = f"{run_id}-{name}"
        *_, story = way.attend(name, id)
        assert story.end == end
        same(way, story, server.way(Grpc, "ann").whole(way.ids.get(id, id)))


@pytest.mark.parametrize("kind", WAYS_BY_ATTENDING, indirect=True, ids=lambda way: way.name)
def test_who_starts_a_run_is_told_that_another_stopped_it(
    way: Way, server: Server, run_id: str
) -> None:
    """By whom, why, and what was made; whatever the other one calls by."""
    stories = way.seen_text(way.attend("waiter", run_id))
    id, seen = way.ids.get(run_id, run_id), server.way(Grpc, "ann")
    assert seen.cancel(id, "enough", wait=30).outcome == "STOPPED"
    *_, story = stories
    assert (story.end, story.output, story.cause) == ("cancelled", "first", "USER")
    assert (story.reason, story.actor) == ("enough", "ann")
    same(way, story, seen.whole(id))


@pytest.mark.parametrize("kind", WAYS_BY_ATTENDING, indirect=True, ids=lambda way: way.name)
def test_a_start_is_refused_by_name(way: Way, server: Server, kind: type[Way], run_id: str) -> None:
    """Of what is not served, and of strangers."""
    refused = refusal(lambda: next(way.attend("nobody", run_id)))
    assert refused.reason == "RUNNABLE_NOT_FOUND"
    stranger = server.way(kind, "")
    assert refusal(lambda: next(stranger.attend("waiter", run_id))).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("kind", WAYS_BY_LEAVING, indirect=True, ids=lambda way: way.name)
def test_who_leaves_a_run_may_end_it(server: Server, way: Way, run_id: str) -> None:
    """A run that ends with its follower, started as each way has it."""
    stories = way.seen_text(way.attend("waiter", run_id))
    stories.close()  # type: ignore[attr-defined]  # it is a generator
    seen = server.way(Grpc, "ann")
    until(lambda: seen.state(run_id) == "cancelled")
    assert seen.whole(run_id).cause == "DISCONNECT"
