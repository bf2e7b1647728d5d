"""The two faces of the client: the same verbs, with the same arguments, on both."""

import inspect
import traceback
from collections.abc import Callable
from typing import Any, get_type_hints

import grpc.aio
import pytest
from pullcord.client import AsyncRunClient, AsyncRunStream, Pace, RunClient, RunStream
from pullcord.run import errors
from pullcord.run.record import RunFilter

from tests.client.scripted import RUN_ID, Break, Script, whole_run

VERBS = {
    *("run", "watch", "start", "wait", "get", "list", "runnables"),
    *("continue_run", "cancel", "cancel_many", "erase", "of", "on_behalf_of", "open", "close"),
    *("watch_runs", "create_run_token"),
}


def verbs_of(face: type) -> dict[str, Any]:
    return {name: getattr(face, name) for name in dir(face) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("blocking", "awaiting", "verbs"),
    [
        (RunClient, AsyncRunClient, VERBS),
        (
            RunStream,
            AsyncRunStream,
            {"cancel", "close", "result", "outcome", "after_sequence", "reconnecting"},
        ),
    ],
)
def test_both_faces_have_the_same_verbs(blocking: type, awaiting: type, verbs: set[str]) -> None:
    """Every verb of one face is on the other, with the same arguments and the same words."""
    one, other = verbs_of(blocking), verbs_of(awaiting)
    assert set(one) == verbs
    assert set(other) - {"aclose"} == verbs
    for name in verbs - {"result", "outcome", "after_sequence", "reconnecting"}:
        mine, theirs = inspect.signature(one[name]), inspect.signature(other[name])
        assert str(mine.parameters) == str(theirs.parameters), name
        assert one[name].__doc__, name
        if name != "close":
            assert one[name].__doc__ == other[name].__doc__, name


@pytest.mark.parametrize("face", [RunClient, AsyncRunClient])
def test_the_options_of_a_cancel_have_types(face: type) -> None:
    """A type checker knows each option of a cancel by its name."""
    options = get_type_hints(face.cancel)["options"].__args__[0]
    assert set(get_type_hints(options)) == {
        *("mode", "grace_period", "wait"),
        *("before_start", "cause", "actor"),
    }


@pytest.mark.parametrize("verb", ["cancel", "cancel_many", "start"])
def test_a_misspelt_option_is_refused(address: str, script: Script, verb: str) -> None:
    """An option that does not exist raises TypeError before anything is sent."""
    with RunClient(address) as client:
        argument: Any = RunFilter(session_id="s") if verb == "cancel_many" else RUN_ID
        with pytest.raises(TypeError, match="resaon"):
            getattr(client, verb)(argument, resaon="enough")
    assert script.names() == []


async def test_a_channel_of_the_callers_stays_open(address: str, script: Script) -> None:
    """A client that is given a channel uses it and leaves its end to the owner."""
    script.reset(whole_run())
    async with grpc.aio.insecure_channel(address) as channel:
        for _ in range(2):
            async with AsyncRunClient(channel=channel) as client:
                assert (await client.get(RUN_ID)).run_id == RUN_ID


async def test_a_stop_on_behalf_of_somebody_names_them(address: str, script: Script) -> None:
    """With `actor` a cancel is asked on that one's behalf; other calls stay the client's own."""
    script.reset(whole_run())
    async with AsyncRunClient(address, actor="me") as client:
        await client.cancel(RUN_ID, actor="ann")
        assert script.actors == {"ann"}
        await client.get(RUN_ID)
        assert script.actors == {"ann", "me"}


ASKS: dict[str, Callable[[Any], Any]] = {
    "get": lambda client: client.get(RUN_ID),
    "wait": lambda client: client.wait(RUN_ID),
    "run": lambda client: client.run("agents/a"),
}


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("ask", ASKS)
def test_a_refusal_is_shown_by_one_traceback(address: str, script: Script, ask: str) -> None:
    """What a program that does not catch it prints is our error alone, and not gRPC's before it."""
    script.refusal = errors.RunNotFound(RUN_ID)
    with RunClient(address) as client, pytest.raises(errors.RunNotFound) as caught:
        next(ASKS[ask](client))
    assert _shown(caught.value).count("Traceback") == 1


@pytest.mark.parametrize("ask", ASKS)
async def test_so_is_an_awaited_one(address: str, script: Script, ask: str) -> None:
    """With asyncio, too."""
    script.refusal = errors.RunNotFound(RUN_ID)
    async with AsyncRunClient(address) as client:
        with pytest.raises(errors.RunNotFound) as caught:
            await (anext(client.run("agents/a")) if ask == "run" else ASKS[ask](client))
    assert _shown(caught.value).count("Traceback") == 1


def test_so_is_a_lost_connection(address: str, script: Script) -> None:
    """A stream that is given up shows ConnectionLost alone."""
    script.reset(whole_run(), *[Break()] * 9)
    pace = Pace(reconnect_for=0)
    with RunClient(address, pace=pace) as client, pytest.raises(errors.ConnectionLost) as caught:
        next(client.watch(RUN_ID))
    assert _shown(caught.value).count("Traceback") == 1
