"""What operators read and count, from a server that a client calls."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pullcord import RunContext, RunServer, runnable
from pullcord.telemetry import Telemetry, configure_logging

from tests.steady import PATIENCE
from tests.transports.harness import Served, Signal, kind_of, make_settings, refusal, seconds, until


class Counted:
    """What a reader of metrics sees."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.telemetry = Telemetry(self.provider.get_meter("test"))

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        return [
            (dict(point.attributes), point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def sums(self, name: str, *keys: str) -> dict[Any, int]:
        found: dict[Any, int] = {}
        for attributes, point in self.points(name):
            key = tuple(attributes[k] for k in keys)
            found[key] = found.get(key, 0) + point.value
        return found


@pytest.fixture
def counted() -> Iterator[Counted]:
    counted = Counted()
    yield counted
    counted.provider.shutdown()


@runnable
async def echo(input: str) -> str:
    return input


@runnable
def fails(input: str) -> str:
    raise ValueError("secret-free words")


def serve(counted: Counted, *agents: Any, **options: Any) -> Served:
    return Served(
        RunServer(agents=agents, settings=make_settings(**options), observer=counted.telemetry)
    )


def test_runs_are_counted_by_how_they_ended(counted: Counted) -> None:
    """pullcord.runs.ended counts by runnable, state and cause; pullcord.runs.live returns to 0."""
    begun = Signal()

    @runnable
    async def waits(ctx: RunContext):
        begun.set()
        await Signal().come()

    served = serve(counted, echo, fails, waits)
    try:
        for _ in range(3):
            served.run("echo").end()
        served.run("fails").end()
        stream = served.run("waits", run_id="r")
        begun.wait()
        live = ("agents/waits",)
        until(lambda: counted.sums("pullcord.runs.live", "runnable").get(live) == 1)
        served.cancel("r", wait=seconds(30))
        stream.end()
        served.run("waits", limits={"timeout": seconds(0.01)}).end()
        served.cancel("early", before_start=True)
        served.run("echo", run_id="early").end()
        until(lambda: sum(counted.sums("pullcord.runs.ended").values()) == 7)
        assert counted.sums("pullcord.runs.ended", "runnable", "state", "cause") == {
            ("agents/echo", "completed", ""): 3,
            ("agents/fails", "failed", ""): 1,
            ("agents/waits", "cancelled", "user"): 1,
            ("agents/waits", "cancelled", "budget"): 1,
            ("agents/echo", "cancelled", "user"): 1,
        }
        assert set(counted.sums("pullcord.runs.live", "runnable").values()) == {0}
    finally:
        served.close()


def test_the_time_a_cancel_takes_is_measured(counted: Counted) -> None:
    """pullcord.cancel.duration has one value a cancelled run, by cause, from its acceptance."""
    begun = Signal()

    @runnable
    async def waits(ctx: RunContext):
        begun.set()
        await Signal().come()

    served = serve(counted, waits)
    try:
        stream = served.run("waits", run_id="r")
        begun.wait()
        served.cancel("r")
        stream.end()
        until(lambda: bool(counted.points("pullcord.cancel.duration")))
        [(attributes, point)] = counted.points("pullcord.cancel.duration")
        assert (attributes, point.count) == ({"cause": "user"}, 1)
        assert 0 <= point.sum < PATIENCE
    finally:
        served.close()


def test_refused_runs_are_counted(counted: Counted) -> None:
    """pullcord.runs.refused counts the runs that were not admitted, by the reason callers see."""
    go = Signal()

    @runnable
    async def waits(ctx: RunContext):
        await go.come()

    served = serve(counted, waits, max_live_runs=1)
    try:
        served.start("waits", run_id="r")
        assert refusal(lambda: served.start("waits")).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        refusal(lambda: served.start("waits", "other", run_id="r"))
        served.server.engine.drain()
        refusal(lambda: served.start("waits"))
        assert counted.sums("pullcord.runs.refused", "reason") == {
            ("ServerBusy",): 1,
            ("RunExists",): 1,
            ("Draining",): 1,
        }
        go.set()
    finally:
        served.close()


def test_abandoned_runs_and_blocked_loops_are_counted_and_shown(
    counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that blocks its loop, and one that does not stop, is counted, and its stack logged."""
    begun, release = Signal(), Signal()

    @runnable
    async def blocks(ctx: RunContext):
        begun.set()
        release.wait_stubbornly()

    served = serve(counted, blocks, abandon_after=0.1, stall_after=0.05)
    try:
        stream = served.run("blocks", run_id="r", timeout=60)
        begun.wait()
        until(lambda: bool(counted.points("pullcord.loop.stalls")))
        served.cancel("r", mode=2, wait=seconds(30))
        assert stream.end().run_cancelled.abandoned
        until(lambda: bool(counted.points("pullcord.runs.abandoned")))
        assert counted.sums("pullcord.runs.abandoned", "runnable") == {("agents/blocks",): 1}
        stalls = [r for r in caplog.records if "blocked" in r.getMessage()]
        assert any("wait_stubbornly" in r.stack for r in stalls)
        assert {r.run_id for r in stalls} == {"r"}
        assert any("abandoned" in r.getMessage() and r.run_id == "r" for r in caplog.records)
    finally:
        release.set()
        served.close()


class Lines:
    """What is written to stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What is written to stderr; logging is afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Lines(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_log_lines_for_machines_are_json(counted: Counted, lines: Lines) -> None:
    """With log_json each line is one JSON object: what happened, to which run, and why."""
    configure_logging("info", True)
    served = serve(counted, echo, fails)
    try:
        served.run("echo", run_id="a").end()
        assert kind_of(served.run("fails", run_id="b").end()) == "run_failed"
        refusal(lambda: served.run("echo", "other", run_id="a").rest())
        until(lambda: "RunExists" in lines.getvalue() and '"b"' in lines.getvalue())
    finally:
        served.close()
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    ended = {line["run_id"]: line for line in found if line["event"] == "run ended"}
    assert ended["a"]["state"] == "completed"
    assert ended["a"]["level"] == "info"
    assert ended["a"]["timestamp"]
    assert ended["b"]["error"] == {"type": "ValueError", "message": "secret-free words"}
    assert [line["reason"] for line in found if line["event"] == "run refused"] == ["RunExists"]


def test_log_lines_for_people_are_one_line_each(counted: Counted, lines: Lines) -> None:
    """Without log_json a line reads as text, and a caller's words cannot make another line."""
    configure_logging("info", False)
    begun = Signal()

    @runnable
    async def waits(ctx: RunContext):
        begun.set()
        await Signal().come()

    served = serve(counted, waits)
    try:
        stream = served.run("waits", run_id="r")
        begun.wait()
        served.cancel("r", reason="over\n2026-01-01 [info] run ended forged\x1b[2J")
        stream.end()
        until(lambda: "run ended" in lines.getvalue())
    finally:
        served.close()
    [line] = lines.getvalue().splitlines()
    assert "run_id=r" in line
    assert "\x1b" not in line


def test_a_level_leaves_lesser_lines_out(counted: Counted, lines: Lines) -> None:
    """At level error the ends of runs are not logged; they are still counted."""
    configure_logging("error", True)
    served = serve(counted, echo)
    try:
        served.run("echo").end()
        until(lambda: bool(counted.points("pullcord.runs.ended")))
    finally:
        served.close()
    assert lines.getvalue() == ""


def test_text_that_no_terminal_takes_is_logged_all_the_same(counted: Counted, lines: Lines) -> None:
    """A run's error with lone surrogates is one log line like any other."""
    configure_logging("info", True)

    @runnable
    async def odd(input: str):
        raise ValueError("\ud800")

    served = serve(counted, odd)
    try:
        served.run("odd").end()
        until(lambda: "run ended" in lines.getvalue())
    finally:
        served.close()
    [line] = lines.getvalue().splitlines()
    assert json.loads(line)["error"]["type"] == "ValueError"
