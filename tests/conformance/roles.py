"""Plays the table of who may do what with whose run by one driver, a role after the other.

The table is data, tests/identity/table.toml, of which the verbs that every client has are played.
"""

import base64
from collections.abc import Iterator
from typing import Any

from pullcord.client import RunClient
from pullcord.run.record import RunFilter
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.conformance.drivers import Driver
from tests.conformance.plain import fill
from tests.identity.callers import token_of
from tests.identity.table import DENIED, EMPTY, OK, ROLES, TABLE, UNKNOWN

_KINDS = {
    "RunNotPaused": OK,  # it came as far as the run
    "RunNotFound": UNKNOWN,
    "RunnableNotFound": UNKNOWN,
    "PermissionDenied": DENIED,
}
_VERBS = {
    "GetRun": "get",
    "WatchRun": "watch",
    "WaitRun": "wait",
    "ListRuns": "list",
    "CancelRuns": "cancel_many",
    "ContinueRun": "continue_run",
    "ListRunnables": "runnables",
    "CancelRun": "cancel",
    "StartRun": "start",
    "Run": "run",
}


def play_table(driver: Driver, address: str, id: str) -> Iterator[str]:
    """What was answered otherwise than the table says."""
    with RunClient(address, token=token_of("ann")) as ann:
        for role in ROLES:
            run_id, session_id = f"{id}-{role}", f"{id}-{role}-s"
            asked = {
                "runnable": "agents/script",
                "run_id": run_id,
                "session_id": session_id,
                "input_data": {"steps": [{"wait": f"{run_id}-never"}]},
            }
            given = {k: v for k, v in asked.items() if k != "runnable"}
            ann.start("agents/script", **given)  # type: ignore[arg-type]  # as it takes them
            metadata = {"authorization": f"Bearer {token_of(role)}"}
            driver.ask("connect", target=address, metadata=metadata, actor=role)
            for rpc, outcomes in TABLE.items():
                if (verb := _VERBS.get(rpc)) is None:
                    continue
                found = _outcome(driver, verb, asked)
                wanted = outcomes[ROLES.index(role)]
                if found != wanted:
                    yield f"{verb} by {role} is {found!r}, and should be {wanted!r}"
            ann.cancel(run_id)
    with RunClient(address, token=token_of("root")) as root:
        root.cancel_many(RunFilter(runnable="agents/script"))


def _outcome(driver: Driver, verb: str, asked: dict[str, Any]) -> str:
    run_id = asked["run_id"]
    match verb:
        case "start" | "run":
            spec = run_pb2.RunSpec()
            fill(spec, dict(asked))
            answer = driver.ask(verb, spec=spec)
        case "list":
            answer = driver.ask(verb, request=v1.ListRunsRequest(session_id=asked["session_id"]))
        case "cancel_many":
            request = v1.CancelRunsRequest(session_id=asked["session_id"], validate_only=True)
            answer = driver.ask(verb, request=request)
        case "cancel":
            answer = driver.ask(verb, request=v1.CancelRunRequest(run_id=run_id))
        case "continue_run":
            answer = driver.ask(verb, request=v1.ContinueRunRequest(run_id=run_id))
        case "runnables":
            answer = driver.ask(verb)
        case "wait":
            answer = driver.ask(verb, run_id=run_id, timeout=0.01)
        case _:
            answer = driver.ask(verb, run_id=run_id)
    if "stream" in answer:  # opening a stream may be what fails, or reading it
        stream = answer["stream"]
        answer = driver.ask("next", stream=stream)
        if "error" not in answer:
            driver.ask("drop", stream=stream)
    if "error" in answer:
        kind = answer["error"]["kind"]
        return _KINDS.get(kind, kind)
    if verb == "cancel_many":
        made = v1.CancelRunsResponse.FromString(base64.b64decode(answer["message"]))
        return OK if made.results else EMPTY
    return OK if answer.get("messages", True) else EMPTY
