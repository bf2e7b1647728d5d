"""The two faces of the client: the same verbs, with the same arguments, on both."""

import inspect
from typing import Any, get_type_hints

import grpc.aio
import pytest
from pullcord.client import AsyncRunClient, AsyncRunStream, RunClient, RunStream
from pullcord.run.record import RunFilter

from tests.client.scripted import RUN_ID, Script, whole_run

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
