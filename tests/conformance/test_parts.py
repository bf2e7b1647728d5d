"""The parts of the suite: messages as plain values, comparing, reading, the line, the matrix."""

import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from pullcord.v1 import event_pb2, run_pb2
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.conformance.fake import Fake
from tests.conformance.line import Line
from tests.conformance.matching import differences
from tests.conformance.matrix import Result, markdown, write
from tests.conformance.plain import fill, plain
from tests.conformance.reading import Fault, Reading
from tests.conformance.scenario import Scenario, load

SPEC = {
    "runnable": "agents/a",
    "input_data": {"steps": [{"say": "x"}, {"wait": 1.5}]},
    "limits": {"timeout": 2.25, "max_tokens": 7},
    "on_disconnect": "LEASE",
    "lease": 0.0,
    "labels": {"a": "b"},
}


# --- plain values


def test_messages_and_plain_values_are_the_same() -> None:
    """What is written into a message is read out of it again, unset fields as unset."""
    spec = run_pb2.RunSpec()
    fill(spec, SPEC)
    assert spec.on_disconnect == run_pb2.DISCONNECT_POLICY_LEASE
    assert spec.HasField("lease")  # zero seconds, and not unset
    said = plain(run_pb2.RunSpec.FromString(spec.SerializeToString()))
    assert {key: said[key] for key in SPEC if key != "limits"} == {
        key: value for key, value in SPEC.items() if key != "limits"
    }
    assert said["limits"] == {
        "timeout": 2.25, "max_tokens": 7, "max_cost": 0.0, "max_steps": 0, "max_tool_calls": 0
    }  # fmt: skip
    assert (said["run_id"], said["session_policy"]) == ("", "UNSPECIFIED")


def test_an_optional_field_may_be_empty() -> None:
    """An empty answer is an answer, and no answer is none."""
    request = v1.ContinueRunRequest()
    fill(request, {"decisions": [{"tool_call_id": "a", "answer": ""}, {"tool_call_id": "b"}]})
    assert [d.HasField("answer") for d in request.decisions] == [True, False]
    assert ["answer" in d for d in plain(request)["decisions"]] == [True, False]


def test_a_state_of_tomorrow_is_its_number() -> None:
    """An enum's value that is not known is shown as its number."""
    assert plain(run_pb2.Run(state=99))["state"] == 99  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "said", [{"nothing": 1}, {"on_disconnect": "PERHAPS"}, {"limits": {"timeout": "soon"}}]
)
def test_what_no_message_holds_is_refused(said: dict[str, Any]) -> None:
    """A scenario that misspells a field or value is told so."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        fill(run_pb2.RunSpec(), said)


# --- comparing

RUN = {"state": "RUNNING", "output": "abc", "usage": {"cost": 0.1 + 0.2, "steps": 2}, "calls": [{}]}


@pytest.mark.parametrize(
    "expected",
    [
        {},
        {"state": "RUNNING"},
        {"usage": {"cost": 0.3, "steps": 2}},
        {"state": {"one_of": ["RUNNING", "PENDING"]}, "calls": {"length": 1}},
        {"output": {"contains": "b"}, "usage": {"steps": {"at_least": 2}}},
        {"usage": {"steps": {"between": [2, 2]}}, "output": "<set>", "error": "<unset>"},
        {"usage": {"steps": {"at_most": 2}}, "calls": [{}]},
    ],
)
def test_what_is_as_expected(expected: dict[str, Any]) -> None:
    """An expectation holds what matters; the rest may be anything."""
    assert list(differences(expected, RUN)) == []


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"state": "PAUSED"}, "state: is 'RUNNING', and should be 'PAUSED'"),
        ({"output": ""}, "output: is 'abc', and should be ''"),
        ({"usage": {"steps": 2.5}}, "usage.steps: is 2, and should be 2.5"),
        ({"usage": {"steps": True}}, "usage.steps: is 2, and should be True"),
        ({"usage": "<unset>"}, "usage: is {"),
        ({"error": "<set>"}, "error: is not set"),
        ({"error": {"type": "E"}}, "error: is None, and should be {'type': 'E'}"),
        ({"calls": []}, "calls: is [{}], and should be []"),
        ({"calls": [{"id": "x"}]}, "calls[0].id: is None, and should be 'x'"),
        ({"output": {"length": 2}}, "output: is 'abc', and should be length 2"),
        ({"output": {"contains": "x"}}, "output: is 'abc', and should be contains 'x'"),
        ({"state": {"one_of": ["PAUSED"]}}, "state: is 'RUNNING', and should be one_of"),
        ({"usage": {"steps": {"at_least": 3}}}, "usage.steps: is 2, and should be at_least 3"),
        ({"usage": {"steps": {"at_most": 1}}}, "usage.steps: is 2, and should be at_most 1"),
        ({"usage": {"steps": {"between": [3, 9]}}}, "usage.steps: is 2, and should be between"),
        ({"error": {"at_least": 1}}, "error: is None, and should be at_least 1"),
    ],
)
def test_what_is_not_as_expected(expected: dict[str, Any], said: str) -> None:
    """Each difference is told by its path."""
    (found,) = differences(expected, RUN)
    assert found.startswith(said)


# --- reading


def _event(sequence: int, **payload: Any) -> event_pb2.RunEvent:
    event = event_pb2.RunEvent(run_id="r", sequence=sequence)
    fill(event, payload)
    return event


def _read(reading: Reading, *events: event_pb2.RunEvent) -> None:
    for event in events:
        reading.take(event, str(event.WhichOneof("payload")))


def test_a_sound_stream_is_read() -> None:
    """Merged deltas, a gap that came twice, and its snapshot are all right."""
    reading = Reading("r")
    _read(
        reading,
        _event(1, run_started={}),
        _event(4, content_delta={"text": "abc", "count": 3}),
        _event(8, gap={"first_sequence": 5, "last_sequence": 8}),
        _event(9, gap={"first_sequence": 5, "last_sequence": 9}),
        _event(9, snapshot={"run": {"output": "abcd"}}),
        _event(10, run_failed={"output": "x"}, source={"id": "b"}),
        _event(11, run_completed={"output": "abcd"}),
    )
    assert reading.ended
    assert reading.trail[-2:] == ["b:run_failed", "run_completed"]


@pytest.mark.parametrize(
    "events",
    [
        [_event(2, run_started={})],
        [_event(3, content_delta={"text": "ab", "count": 2})],
        [_event(1, run_started={}), _event(1, run_started={})],
        [_event(1, run_completed={}), _event(2, custom={})],
        [_event(1, run_completed={"output": "a"})],
        [_event(3, gap={"last_sequence": 3}), _event(4, custom={})],
        [_event(3, gap={"last_sequence": 3}), _event(2, snapshot={})],
        [_event(1, custom={}), _event(1, gap={"last_sequence": 1})],
        [event_pb2.RunEvent(run_id="other", sequence=1, custom={})],  # type: ignore[arg-type]  # a mapping does
    ],
)
def test_an_unsound_stream_is_noticed(events: list[event_pb2.RunEvent]) -> None:
    """Whatever the scenario, the last of these events is a fault."""
    reading = Reading("r")
    _read(reading, *events[:-1])
    with pytest.raises(Fault):
        _read(reading, events[-1])


# --- the line


def _echo_server() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_line_hands_on_and_can_be_cut() -> None:
    """Bytes go both ways until the line is cut; the next connection is taken as before."""
    with _echo_server() as server:
        port = server.getsockname()[1]
        with Line(f"127.0.0.1:{port}") as line:
            host, _, near_port = line.address.rpartition(":")
            for cut in (1, 2):
                near = socket.create_connection((host, int(near_port)))
                far, _ = server.accept()
                near.sendall(b"ping")
                assert far.recv(4) == b"ping"
                far.sendall(b"pong")
                assert near.recv(4) == b"pong"
                line.cut()
                assert _is_over(near)
                assert _is_over(far)
                assert line.broken == cut
                near.close()
                far.close()


def test_a_line_breaks_after_so_many_bytes() -> None:
    """The first connections break where the scenario says, to the byte."""
    with _echo_server() as server:
        port = server.getsockname()[1]
        with Line(f"127.0.0.1:{port}", breaks=[3]) as line:
            host, _, near_port = line.address.rpartition(":")
            near = socket.create_connection((host, int(near_port)))
            far, _ = server.accept()
            far.sendall(b"abcdef")
            heard = b""
            while not heard.endswith(b"c"):
                heard += near.recv(1)
            assert heard == b"abc"
            assert _is_over(near)
            near.close()
            far.close()


def _is_over(end: socket.socket) -> bool:
    try:
        return end.recv(1) == b""
    except ConnectionError:
        return True


# --- the fake server


def test_the_fake_server_remembers_what_is_wrong() -> None:
    """A call that does not come, one that comes instead, and a wrong request are faults."""
    part = [{"call": "GetRun", "with": {"run_id": "a"}, "answer": {"run": {"run_id": "a"}}}]
    with Fake(part) as fake, grpc.insecure_channel(fake.address) as channel:
        stub: Any = RunServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.ListRunnables(v1.ListRunnablesRequest())
        assert fake.faults == ["ListRunnables came at the fake server, and it awaited GetRun"]
        fake.check_done()
        assert fake.faults[1:] == ["the fake server still waits for: GetRun"]
        assert stub.GetRun(v1.GetRunRequest(run_id="b")).run.run_id == "a"
        assert fake.faults[2:] == [
            "GetRun at the fake server, with.run_id: is 'b', and should be 'a'"
        ]


# --- scenarios and their matrix


@pytest.mark.parametrize(
    "steps",
    ["[{ jump = {} }]", "[{ get = {}, run = {} }]", "[{ get = {}, expects = {} }]", "[{}]"],
)
def test_a_scenario_that_cannot_be_played_is_refused(steps: str, tmp_path: Path) -> None:
    """A step has one verb that is known, and nothing strange beside."""
    (tmp_path / "a.toml").write_text(f'[[scenario]]\nname = "a"\nsays = "A."\nsteps = {steps}\n')
    with pytest.raises(ValueError, match="no step"):
        load(tmp_path)


def test_two_scenarios_of_one_name_are_refused(tmp_path: Path) -> None:
    """A name stands for one scenario."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(
            '[[scenario]]\nname = "same"\nsays = "A."\nsteps = []\n'
        )
    with pytest.raises(ValueError, match="two scenarios"):
        load(tmp_path)


def test_the_matrix_is_written_between_its_marks(tmp_path: Path) -> None:
    """What passed, failed and was not played is told apart; the rest of the page stays."""
    page = tmp_path / "clients.md"
    page.write_text("before\n<!-- conformance -->\nold\n<!-- end -->\nafter\n")
    scenarios = [Scenario("a", "A holds.", ()), Scenario("b", "B holds.", ())]
    results = {
        ("go", "a"): Result([], 0.0),
        ("go", "b"): Result(["no"], 0.0),
        ("rust", "a"): Result([], 0.0),
    }
    write(markdown(scenarios, ["go", "rust"], results), page)
    assert page.read_text().splitlines() == [
        "before",
        "<!-- conformance -->",
        "| Promise | go | rust |",
        "| --- | :-: | :-: |",
        "| A holds. (`a`) | ✓ | ✓ |",
        "| B holds. (`b`) | ✗ | – |",
        "<!-- end -->",
        "after",
    ]
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        write("", page)
