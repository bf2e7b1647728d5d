"""Streams and credentials: what becomes of a run when a watcher may not follow it any more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pullcord import RunContext, runnable
from pullcord.client import Pace
from pullcord.identity.authenticator import Credentials
from pullcord.run.errors import CredentialExpired, Unauthenticated
from pullcord.run.events import ContentDelta, RunCompleted
from pullcord.run.principal import Principal, principal
from pullcord.v1 import run_service_pb2 as v1

from tests.identity.callers import Guarded, bearer, guarded
from tests.steady import PATIENCE
from tests.transports.harness import Signal, make_spec, refusal, until


class Revocable:
    """An authenticator that knows everybody by the word they say, until it is told otherwise."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.demoted: set[str] = set()

    async def authenticate(self, credentials: Credentials) -> Principal:
        word = "".join(credentials.authorization).removeprefix("Bearer ")
        if not word or word in self.revoked:
            raise Unauthenticated("revoked")
        name, _, grants = word.partition("+")
        if word in self.demoted:
            grants = "user"
        return principal("acme", name.partition("~")[0], (grants or "user").split(","))


class Story:
    """A run that waits between its two halves."""

    def __init__(self) -> None:
        self.go_on = Signal()

        @runnable(id="story")
        async def story(ctx: RunContext) -> None:
            ctx.write("one ")
            await self.go_on.come()
            ctx.write("two")

        self.runnable: Any = story


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def knows() -> Revocable:
    return Revocable()


@pytest.fixture
def served(tmp_path: Path, story: Story, knows: Revocable) -> Iterator[Guarded]:
    with guarded(
        tmp_path, story.runnable, authenticator=knows, tokens=None, heartbeat=0.05, lease=PATIENCE
    ) as served:
        yield served
        story.go_on.set()


def says(word: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {word}"),)


def follow(served: Guarded, word: str, run_id: str) -> Any:
    request = v1.RunRequest(spec=make_spec("story", run_id=run_id))
    return served.stub().Run(request, metadata=says(word))


def test_a_credential_that_expires_ends_the_stream_and_not_the_run(
    served: Guarded, story: Story, knows: Revocable
) -> None:
    """Also with the policy CANCEL, which is Run's: it lives on for a lease, and loses nothing."""
    stream = follow(served, "ann", "r")
    assert next(stream).event.HasField("run_started")
    knows.revoked.add("ann")
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stream:
            pass
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (
        b"CREDENTIAL_EXPIRED" in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    )
    fresh = served.stub()
    run = fresh.GetRun(v1.GetRunRequest(run_id="r"), metadata=says("ann~2")).run
    assert not run.HasField("cancellation")
    again = fresh.WatchRun(v1.WatchRunRequest(run_id="r", after_sequence=1), metadata=says("ann~2"))
    story.go_on.set()
    assert [response.event for response in again][-1].run_completed.output == "one two"


def test_the_client_comes_back_with_a_fresh_token_and_misses_nothing(
    tmp_path: Path, story: Story, knows: Revocable, served: Guarded
) -> None:
    from pullcord.client import RunClient

    said = iter(["ann", "ann~2", "ann~3"])
    word = ["ann"]

    def token() -> str:
        if word[0] in knows.revoked:
            word[0] = f"{word[0]}~"
            story.go_on.set()
        return word[0]

    del said
    with RunClient(served.address, token=token, pace=Pace(first_delay=0.01)) as client:
        seen, ends = [], []
        for event in client.run("agents/story", run_id="r"):
            if isinstance(event.payload, ContentDelta):
                seen.append(event.payload.text)
                knows.revoked.add("ann")
            ends.append(event.payload)
        assert ("".join(seen), type(ends[-1])) == ("one two", RunCompleted)


def test_a_client_whose_token_is_not_renewed_hears_why(served: Guarded, knows: Revocable) -> None:
    with served.client("x", pace=Pace(reconnect_for=0.0)) as client:
        client._token = "ann"
        stream = client.run("agents/story", run_id="r")
        next(stream)
        knows.revoked.add("ann")
        with pytest.raises((CredentialExpired, Unauthenticated)):
            for _ in stream:
                pass


def test_a_watcher_that_may_not_stop_a_run_is_a_guest(served: Guarded, story: Story) -> None:
    """Its coming and leaving mean nothing: only who may stop a run keeps it or ends it so."""
    guest = served.stub().WatchRun
    anns = follow(served, "ann", "r")
    next(anns)
    looks = guest(v1.WatchRunRequest(run_id="r"), metadata=says("vic+viewer"))
    next(looks)
    presence = served.server.engine._directory.here(principal("acme", "ann").scope, "r").presence
    assert presence.watchers == 1
    looks.cancel()
    anns.cancel()
    run = (
        served.stub()
        .WaitRun(v1.WaitRunRequest(run_id="r", timeout={"seconds": 30}), metadata=says("ann"))
        .run
    )
    assert run.cancellation.cause == 4, "DISCONNECT: the only one who counted has left"


def test_tokens_are_read_again_when_their_file_changes(tmp_path: Path, story: Story) -> None:
    """A token that is taken out ends its streams, too."""
    with guarded(tmp_path, story.runnable, heartbeat=0.05) as served:
        request = v1.RunRequest(spec=make_spec("story", run_id="r", on_disconnect=3))
        stream = served.stub().Run(request, metadata=bearer("ann"))
        next(stream)
        lines = served.tokens.read_text().splitlines(keepends=True)
        served.tokens.write_text("".join(line for line in lines if " ann " not in line))
        with pytest.raises(grpc.RpcError) as caught:
            for _ in stream:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        served.tokens.write_text("nonsense\n")
        stub = served.stub()

        def still_known() -> bool:
            stub.ListRuns(v1.ListRunsRequest(), metadata=bearer("bob"))
            return True

        until(still_known)
        story.go_on.set()


def test_who_may_no_longer_see_a_run_follows_it_no_longer(
    served: Guarded, story: Story, knows: Revocable
) -> None:
    """A grant that is taken back ends the streams that were opened by it."""
    served.stub().StartRun(
        v1.StartRunRequest(spec=make_spec("story", run_id="r")), metadata=says("ann")
    )
    watch = v1.WatchRunRequest(run_id="r", owner="ann")
    stream = served.stub().WatchRun(watch, metadata=says("olga+operator"))
    next(stream)
    knows.demoted.add("olga+operator")
    assert refusal(lambda: list(stream)).reason == "CREDENTIAL_EXPIRED"
    again = served.stub().WatchRun(watch, metadata=says("olga+operator"))
    assert refusal(lambda: next(again)).reason == "RUN_NOT_FOUND"
    story.go_on.set()
