"""What operators read and count, from a server that a client calls."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import pullcord.lines
import pytest
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pullcord import RunContext, RunServer, runnable, store_telemetry, telemetry
from pullcord.lines import LineWriter
from pullcord.run.errors import StoreUnavailable
from pullcord.stores.sqlite import SqliteStore
from pullcord.telemetry import LinkTelemetry, Telemetry, configure_logging, observe_engine
from pullcord.testing import HookedStore

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
    """By runnable, state and cause in pullcord.runs.ended; pullcord.runs.live has the others."""
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
        observe_engine(served.engine, counted.provider.get_meter("test"))
        live = {("agents/waits", "running"): 1}
        until(lambda: counted.sums("pullcord.runs.live", "runnable", "state") == live)
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
        until(lambda: not counted.sums("pullcord.runs.live"))
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
        assert (min(point.explicit_bounds), max(point.explicit_bounds)) == (0.001, 60)
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


def test_workers_that_come_back_and_that_are_lost_are_counted(
    counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with a line that names the worker."""
    links = LinkTelemetry(counted.provider.get_meter("test"))
    caplog.set_level("INFO")
    links.link_returned(7, 1.23456)
    links.lease_lost(8)
    assert counted.sums("pullcord.workers.returned") == {(): 1}
    assert counted.sums("pullcord.workers.lost") == {(): 1}
    assert [(r.worker, r.levelname) for r in caplog.records] == [(7, "INFO"), (8, "ERROR")]
    assert caplog.records[0].seconds == 1.235


class Lines:
    """A log that goes to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("wb") as file:
            self._writer = LineWriter(file.fileno())

    def configure(self, level: str, as_json: bool) -> None:
        configure_logging(level, as_json, self._writer)

    def getvalue(self) -> str:
        assert self._writer.flush(PATIENCE)
        return self._path.read_bytes().decode()

    def close(self) -> None:
        self._writer.close(PATIENCE)


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    """What is logged; logging is afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    lines = Lines(tmp_path / "log")
    yield lines
    root.handlers[:] = handlers
    root.setLevel(level)
    lines.close()


def test_log_lines_for_machines_are_json(counted: Counted, lines: Lines) -> None:
    """With log_json each line is one JSON object: what happened, to which run, and why."""
    lines.configure("info", True)
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
    assert ended["b"]["error_type"] == "ValueError"
    assert "" not in [value for line in ended.values() for value in line.values()]
    assert [line["reason"] for line in found if line["event"] == "run refused"] == ["RunExists"]


TRICKS = [
    "over\n2026-01-01T00:00:00Z [info     ] run ended forged",
    "\r2026-01-01T00:00:00Z [info     ] run ended forged",
    "\x1b]0;owned\x07\x1b[2J",
    "\x9b2J \x7f \x08\x08",
    "\u202egnp.exe \u2066x\u2069 \u200b \ufeff",
    "\x85 \u2028 \u2029 \x0b \x0c \x1c",
    "\udc1b \ud800",
]


@pytest.mark.parametrize("words", TRICKS)
def test_nobody_s_words_make_a_line_or_move_a_terminal(lines: Lines, words: str) -> None:
    """Wherever words stand in a log line, what is no printable character is written as an escape:
    there is one line, and what a terminal or an editor would obey is not in it."""
    lines.configure("debug", False)
    log = logging.getLogger("pullcord.test")
    structured = structlog.wrap_logger(log, processors=[structlog.stdlib.render_to_log_kwargs])
    log.info("run %s", words)
    log.info(words)
    log.info("x", extra={"reason": words, words: 1, "of": {words: [words]}, "odd": Odd(words)})
    structured.info("run ended", run_id=words, reason=words)
    text = lines.getvalue()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 4
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("words", TRICKS)
def test_nobody_s_words_leave_a_stack(lines: Lines, words: str) -> None:
    """The lines of a traceback are indented, whatever the exception's words are."""
    lines.configure("debug", False)
    try:
        raise ValueError(words)
    except ValueError:
        logging.getLogger("pullcord.test").exception("it failed", extra={"stack": words})
    first, *more = lines.getvalue().splitlines()
    assert "it failed" in first
    assert any("ValueError" in line for line in more)
    assert all(not line or line.startswith("    ") for line in more)
    assert all(line.isprintable() for line in [first, *more])


@pytest.mark.parametrize("words", TRICKS)
def test_json_holds_words_unchanged_in_one_printable_line(lines: Lines, words: str) -> None:
    """A JSON log keeps all words, in ASCII without a control character."""
    lines.configure("debug", True)
    log = logging.getLogger("pullcord.test")
    try:
        raise ValueError(words)
    except ValueError:
        log.exception("run %s", words, extra={"reason": words, words: [words], "odd": Odd(words)})
    [line] = lines.getvalue().splitlines()
    assert line.isascii()
    assert line.isprintable()
    fields = json.loads(line)
    assert fields["event"] == f"run {words}"
    assert (fields["reason"], fields[words]) == (words, [words])
    assert fields["exception"].endswith(f"ValueError: {words}")


class Odd:
    """Something whose words are given."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return self._words


@pytest.mark.parametrize("as_json", [False, True])
def test_what_cannot_be_formatted_is_named(lines: Lines, as_json: bool) -> None:
    """A log line whose argument raises costs its caller nothing, and names the place."""
    lines.configure("info", as_json)

    class Raises:
        def __str__(self) -> str:
            raise KeyError("words")

    logging.getLogger("pullcord.test").info("%s", Raises())
    [line] = lines.getvalue().splitlines()
    assert "a log line could not be written: KeyError at" in line
    assert "test_telemetry.py" in line


@pytest.mark.parametrize("as_json", [False, True])
def test_long_fields_are_cut(lines: Lines, as_json: bool) -> None:
    """A megabyte of a caller's words does not fill the log."""
    lines.configure("info", as_json)
    logging.getLogger("pullcord.test").info("said", extra={"reason": "x" * 1_000_000})
    [line] = lines.getvalue().splitlines()
    assert len(line) < 70_000
    assert "characters more" in line


def test_words_of_exceptions_are_not_logged(counted: Counted, lines: Lines) -> None:
    """A run's end shows ids and types, whatever the level."""
    lines.configure("debug", True)
    served = serve(counted, fails)
    try:
        served.run("fails", "my-diary").end()
        until(lambda: "run ended" in lines.getvalue())
    finally:
        served.close()
    assert "ValueError" in lines.getvalue()
    assert "secret-free" not in lines.getvalue()
    assert "my-diary" not in lines.getvalue()


def test_the_log_says_where_the_code_of_a_run_and_its_tools_raised(
    counted: Counted, lines: Lines
) -> None:
    """A failed run is logged at level error, a failed tool as a warning: class, file and line of
    the exception and its causes, and never their words."""

    @runnable
    def lookup(ctx: RunContext) -> None:
        try:
            with ctx.tool_call("call-1", "find"):
                raise KeyError("my-diary")
        except KeyError as error:
            raise RuntimeError("my-diary") from error

    lines.configure("info", True)
    served = serve(counted, lookup)
    try:
        served.run("lookup", run_id="r").end()
        until(lambda: "run ended" in lines.getvalue())
    finally:
        served.close()
    assert "my-diary" not in lines.getvalue()
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    tool, code, end = (line for line in said if line.get("run_id") == "r")
    assert (tool["level"], tool["error_type"]) == ("warning", "KeyError")
    assert (code["level"], code["error_type"]) == ("error", "RuntimeError")
    assert f"raised RuntimeError at {__file__}:" in code["event"]
    assert code["stack"].index("KeyError") < code["stack"].index("RuntimeError")
    assert (end["event"], end["level"]) == ("run ended", "error")


def test_a_warning_says_all_of_it_where_no_logging_is_configured() -> None:
    """Python prints such a line without its fields, so that they must be among its words."""
    program = (
        "import logging; from pullcord.telemetry import Telemetry;"
        "Telemetry().loop_stalled('r-1', 0.7, 'in nap\\n  of a tool\\n');"
        "Telemetry().loop_stalled('r-1', 0.7, '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    first = "event loop blocked by a run run_id='r-1' seconds=0.7"
    assert done.stderr.splitlines() == [first, "    in nap", "      of a tool", first]


def test_dropped_lines_are_reported_in_the_log_s_own_form() -> None:
    """A JSON log stays JSON where lines are missing."""
    reading, writing = os.pipe()
    writer = LineWriter(writing, "stderr", max_lines=1)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("info", True, writer)
        log = logging.getLogger("pullcord.test")
        for _ in range(1000):
            log.info("x" * 1000)
        with os.fdopen(reading) as file:
            events = (json.loads(line)["event"] for line in file)
            event = next(event for event in events if "dropped" in event)
            assert re.fullmatch(
                r"pullcord: \d+ lines of stderr were dropped, because nobody read them", event
            )
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        os.close(writing)
        writer.close(PATIENCE)


class Stop(BaseException):
    """Interrupts a thread."""


def _stopped_at(nth: int, files: set[str], act: Callable[[], None]) -> bool:
    """Acts in a thread that is interrupted at the nth instruction in these files; True if so."""
    passed = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal passed
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed == nth:
                raise Stop
        return trace

    def run() -> None:
        sys.settrace(trace)
        with contextlib.suppress(Stop):
            act()
        sys.settrace(None)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return passed >= nth


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected meanwhile: a handler of an earlier test runs logging's code then."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_an_interrupt_anywhere_inside_logging_leaves_it_usable(lines: Lines) -> None:
    """Wherever a thread is stopped while it logs, it keeps no lock, and others can still log."""
    lines.configure("info", True)
    log = logging.getLogger("pullcord.test")
    log.info("before")
    files = {logging.__file__, telemetry.__file__, pullcord.lines.__file__}
    nth = 1
    while _stopped_at(nth, files, lambda: log.info("interrupted")):
        log.info("after %d", nth)
        nth += 1
    assert nth > 100
    text = lines.getvalue()
    assert [n for n in range(1, nth) if f'"after {n}"' not in text] == []


def test_a_level_leaves_lesser_lines_out(counted: Counted, lines: Lines) -> None:
    """At level error the ends of runs are not logged; they are still counted."""
    lines.configure("error", True)
    served = serve(counted, echo)
    try:
        served.run("echo").end()
        until(lambda: bool(counted.points("pullcord.runs.ended")))
    finally:
        served.close()
    assert lines.getvalue() == ""


def test_text_that_no_terminal_takes_is_logged_all_the_same(counted: Counted, lines: Lines) -> None:
    """A run's error with lone surrogates is one log line like any other."""
    lines.configure("info", True)

    @runnable
    async def odd(input: str):
        raise ValueError("\ud800")

    served = serve(counted, odd)
    try:
        served.run("odd").end()
        until(lambda: "run ended" in lines.getvalue())
    finally:
        served.close()
    [line] = [line for line in lines.getvalue().splitlines() if "run ended" in line]
    assert json.loads(line)["error_type"] == "ValueError"


def test_no_address_of_a_provider_is_logged(lines: Lines) -> None:
    """An HTTP library's line for each request would hold keys that stand in the address."""
    lines.configure("debug", True)
    for name in ("httpx", "httpx2", "httpcore.http11"):
        logging.getLogger(name).info("HTTP Request: POST https://models.example/?key=%s", "s3cret")
    assert lines.getvalue() == ""


def test_a_store_is_measured_and_so_is_what_waits_for_it(
    counted: Counted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """How long each verb takes and how much comes at once; while the store fails, that it does, and
    what waits since when; and once it answers again, nothing waits."""
    meter = counted.provider.get_meter("test")
    monkeypatch.setattr(store_telemetry.metrics, "get_meter", lambda name: meter)
    begun, stores = Signal(), []

    @runnable
    async def says(ctx: RunContext):
        begun.set()
        while True:
            ctx.write("x" * 100)
            await asyncio.sleep(0.001)

    def store(clock: Any, options: Any) -> HookedStore:
        stores.append(HookedStore(SqliteStore(clock, options, tmp_path / "runs.db")))
        return stores[0]

    def gauge(name: str) -> float:
        (((_, point)),) = counted.points(f"pullcord.store.{name}")
        return point.value  # type: ignore[no-any-return]  # of the SDK

    def away(verb: str) -> None:
        if verb == "write":
            raise StoreUnavailable

    served = Served(
        RunServer([echo, says], settings=make_settings(), observer=counted.telemetry, store=store)
    )
    try:
        served.run("echo").end()
        stream = served.run("says", run_id="r")
        begun.wait()
        until(lambda: gauge("up") == 1 and counted.sums("pullcord.store.records")[()] > 0)
        stores[0].before = away
        until(lambda: gauge("up") == 0 and gauge("backlog") > 1000 and gauge("backlog.age") > 0)
        assert counted.sums("pullcord.store.failures", "verb")[("write",)] > 0
        stores[0].before = lambda verb: None
        until(lambda: gauge("up") == 1)
        served.cancel("r", wait=seconds(30))
        stream.end()
        until(lambda: gauge("backlog") == gauge("held") == gauge("backlog.age") == 0)
        took = {point[0]["verb"]: point[1] for point in counted.points("pullcord.store.duration")}
        assert {"admit", "write", "finish", "request_stop"} <= set(took)
        assert took["finish"].count == 2
        batches = {point[0]["verb"]: point[1] for point in counted.points("pullcord.store.batch")}
        assert batches["finish"].sum == 2
        assert counted.sums("pullcord.store.swept") == {(): 0}
    finally:
        served.close()
