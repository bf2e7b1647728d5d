"""Runnables that raise, say or hold anything: a run fails, never a call, and the server goes on."""

import asyncio
import threading

import pytest
from pullcord import RunContext, runnable
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import (
    ContentDelta,
    Heartbeat,
    RunCompleted,
    ToolCall,
    ToolCallStarted,
)

from tests.transports.harness import (
    PATIENCE,
    TERMINAL,
    Serve,
    Served,
    Signal,
    State,
    kind_of,
    seconds,
)


class OwnBaseException(BaseException):
    pass


class NoWords(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words either")


class WordsOfNoText(Exception):
    __str__ = None


RAISED = {
    "exception": ValueError("no"),
    "base-exception": OwnBaseException("no"),
    "system-exit": SystemExit(3),
    "keyboard-interrupt": KeyboardInterrupt(),
    "stop-iteration": StopIteration("no"),
    "stop-async-iteration": StopAsyncIteration("no"),
    "generator-exit": GeneratorExit(),
    "cancelled": asyncio.CancelledError("of its own"),
    "run-cancelled": RunCancelledError("of its own"),
    "timeout": TimeoutError(),
    "huge": ValueError("x" * 10_000_000),
    "surrogates": ValueError("\ud800 half"),
    "huge-type": type("X" * 5_000_000, (Exception,), {})("no"),
    "no-words": NoWords(),
    "words-of-no-text": WordsOfNoText(),
    "group": BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError()]),
}


class Odd:
    """A value whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@runnable
def sync_raiser(input: str) -> str:
    raise RAISED[input]


@runnable
def sync_generator(input: str):
    yield "before"
    raise RAISED[input]


@runnable
async def async_raiser(input: str) -> str:
    raise RAISED[input]


@runnable
async def async_generator(input: str):
    yield "before"
    await asyncio.sleep(0)
    raise RAISED[input]


@runnable
async def echo(input: str) -> str:
    return input


@runnable
def sync_echo(input: str) -> str:
    return input


def still_serves(served: Served) -> None:
    """Both kinds of code still run."""
    assert served.run("echo", "alive").end().run_completed.output == "alive"
    assert served.run("sync-echo", "alive").end().run_completed.output == "alive"


class TestRaising:
    @pytest.mark.parametrize("shape", ["raiser", "generator"])
    @pytest.mark.parametrize("kind", ["sync", "async"])
    @pytest.mark.parametrize("what", RAISED)
    def test_whatever_code_raises_fails_its_run_only(
        self, serve: Serve, what: str, kind: str, shape: str
    ) -> None:
        """What code raises, of whatever class, ends run_failed without a traceback, status OK."""
        served = serve(sync_raiser, sync_generator, async_raiser, async_generator, echo, sync_echo)
        stream = served.run(f"{kind}-{shape}", what, run_id="r", timeout=PATIENCE)
        end = stream.end()
        assert kind_of(end) == "run_failed"
        assert end.run_failed.output == ("before" if shape == "generator" else "")
        assert "Traceback" not in end.run_failed.error.message
        assert end.run_failed.error.type
        assert end.ByteSize() < 64 * 1024
        run = served.get("r")
        assert run.state == State.RUN_STATE_FAILED
        assert run.error == end.run_failed.error
        still_serves(served)

    @pytest.mark.parametrize("what", ["system-exit", "keyboard-interrupt", "base-exception"])
    def test_a_task_beside_the_run_cannot_end_the_loop(self, serve: Serve, what: str) -> None:
        """A task that a run started and that raises SystemExit leaves other runs at work."""
        go = Signal()

        async def beside() -> None:
            raise RAISED[what]

        @runnable
        async def starts_another(input: str) -> str:
            task = asyncio.create_task(beside())
            await asyncio.wait([task])
            task.exception()
            return "unharmed"

        @runnable
        async def bystander(input: str) -> str:
            await go.come()
            return "unharmed"

        served = serve(starts_another, bystander, echo, sync_echo)
        other = served.run("bystander", timeout=PATIENCE)
        other.until("run_started")
        assert (
            served.run("starts-another", timeout=PATIENCE).end().run_completed.output == "unharmed"
        )
        go.set()
        assert other.end().run_completed.output == "unharmed"
        still_serves(served)

    def test_a_callback_on_the_loop_cannot_end_it(self, serve: Serve) -> None:
        """A loop callback of a run that raises SystemExit leaves the loop at work."""

        def leave() -> None:
            raise SystemExit(1)

        @runnable
        async def calls_soon(input: str) -> str:
            asyncio.get_running_loop().call_soon(leave)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return "unharmed"

        served = serve(calls_soon, echo, sync_echo)
        assert served.run("calls-soon", timeout=PATIENCE).end().run_completed.output == "unharmed"
        still_serves(served)

    def test_a_run_cannot_stop_the_loop_of_others(self, serve: Serve) -> None:
        """A run that stops or closes its event loop harms no other run."""

        @runnable
        async def stopper(input: str) -> str:
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0)
            return "unharmed"

        served = serve(stopper, echo, sync_echo)
        assert served.run("stopper", timeout=PATIENCE).end().run_completed.output == "unharmed"
        still_serves(served)


class TestSaying:
    @pytest.mark.parametrize("kind", ["sync", "async"])
    @pytest.mark.parametrize(
        "item",
        [b"bytes", 5, object(), ["a"], Odd(), 1.5, True],
        ids=lambda item: type(item).__name__,
    )
    def test_what_is_no_text_fails_the_run(self, serve: Serve, item: object, kind: str) -> None:
        """A run that yields what is neither text nor event fails, and keeps the text before."""

        @runnable
        def sync_odd(input: str):
            yield "text"
            yield item

        @runnable
        async def async_odd(input: str):
            yield "text"
            yield item

        served = serve(sync_odd, async_odd, echo, sync_echo)
        end = served.run(f"{kind}-odd", timeout=PATIENCE).end()
        assert (kind_of(end), end.run_failed.output) == ("run_failed", "text")
        still_serves(served)

    @pytest.mark.parametrize("item", [b"bytes", 5, None, object()], ids=lambda i: type(i).__name__)
    def test_only_text_can_be_written(self, serve: Serve, item: object) -> None:
        """ctx.write and ctx.think refuse what is no text, in the code that says it."""

        @runnable
        def writes(input: str, ctx: RunContext):
            ctx.write("text")
            (ctx.write if input == "write" else ctx.think)(item)

        served = serve(writes, echo, sync_echo)
        for how in ("write", "think"):
            end = served.run("writes", how, timeout=PATIENCE).end()
            assert (kind_of(end), end.run_failed.output) == ("run_failed", "text")
            assert end.run_failed.error.type == "TypeError"
        still_serves(served)

    @pytest.mark.parametrize(
        "payload",
        [
            RunCompleted("not yours to say"),
            Heartbeat(),
            ContentDelta(5),
            ToolCallStarted(None),
            ToolCall("id", "name"),
            object(),
        ],
        ids=lambda payload: type(payload).__name__,
    )
    def test_an_event_that_is_not_the_author_s_to_make_fails_the_run(
        self, serve: Serve, payload: object
    ) -> None:
        """Emitting a terminal event, or what is no event, raises TypeError where it is done."""

        @runnable
        async def emits(ctx: RunContext):
            ctx.write("text")
            ctx.emit(payload)

        served = serve(emits, echo, sync_echo)
        stream = served.run("emits", timeout=PATIENCE)
        end = stream.end()
        assert [kind_of(e) for e in stream.events if kind_of(e) in TERMINAL] == ["run_failed"]
        assert (end.run_failed.output, end.run_failed.error.type) == ("text", "TypeError")
        still_serves(served)

    def test_lone_surrogates_are_replaced(self, serve: Serve) -> None:
        """Text that UTF-8 cannot hold goes out with `?` in its place, in every field."""

        @runnable
        async def says(ctx: RunContext):
            ctx.write("a\ud800b")
            ctx.think("c\udfffd")
            ctx.emit("\ud800", {"\ud801": "\ud802"})
            with ctx.tool_call("t\ud800", "n\ud800", "a\ud800") as returned:
                returned("r\ud800")
            ctx.set_output("o\ud800", {"k\ud800": "v\ud800"})

        served = serve(says)
        stream = served.run("says", run_id="r", timeout=PATIENCE)
        end = stream.end()
        assert stream.text() == "a?b"
        assert end.run_completed.output == "o?"
        assert dict(end.run_completed.output_data) == {"k?": "v?"}
        assert served.get("r").tool_calls[0].result == "r?"

    @pytest.mark.parametrize(
        "data",
        [
            {"odd": Odd()},
            {"many": [Odd(), {"deep": Odd()}]},
            {"nan": float("nan"), "inf": float("inf"), "big": 10**400},
            {1: "one", None: "none"},
            {"bytes": b"\xff", "set": {1}, "object": object()},
        ],
        ids=["odd", "odd-within", "numbers", "keys", "objects"],
    )
    def test_data_that_json_cannot_hold_is_sent_as_text(self, serve: Serve, data: object) -> None:
        """Data of events and results goes out whatever it holds; what JSON lacks, as text."""

        @runnable
        async def says(ctx: RunContext):
            ctx.emit("data", data)
            ctx.set_output("text", data)

        served = serve(says, echo, sync_echo)
        stream = served.run("says", run_id="r", timeout=PATIENCE)
        end = stream.end()
        assert end.run_completed.output == "text"
        assert stream.events[1].custom.name == "data"
        assert len(stream.events[1].custom.data.fields) == len(data)
        assert served.get("r").output_data == end.run_completed.output_data
        still_serves(served)

    def test_data_is_what_it_was_when_it_was_said(self, serve: Serve) -> None:
        """An event shows its data as it was when it was emitted, whatever is done to it later."""
        data = {"list": [1]}

        @runnable
        async def says(ctx: RunContext):
            ctx.emit("data", data)
            data["list"].append(2)
            data["more"] = True

        stream = serve(says).run("says", timeout=PATIENCE)
        stream.end()
        assert set(stream.events[1].custom.data.fields) == {"list"}
        assert [v.number_value for v in stream.events[1].custom.data["list"].values] == [1]

    def test_a_value_that_refers_to_itself_is_sent_as_far_as_it_is_new(self, serve: Serve) -> None:
        """Data that holds itself ends at the depth that data may have."""
        data: dict = {}
        data["again"] = data

        @runnable
        async def says(ctx: RunContext):
            ctx.emit("data", data)

        served = serve(says, echo, sync_echo)
        assert kind_of(served.run("says", timeout=PATIENCE).end()) in TERMINAL
        still_serves(served)


class TestTooMuch:
    """What would not fit a message of gRPC's default size, 4 MiB, is never sent."""

    def test_one_huge_piece_of_text_arrives_in_pieces(self, serve: Serve) -> None:
        """Text of any length streams in messages that every client takes."""

        @runnable
        async def says(ctx: RunContext):
            ctx.write("x" * 6_000_000)

        served = serve(says, max_log_bytes=32 * 2**20)
        end = served.run("says", run_id="r", timeout=PATIENCE).end()
        assert kind_of(end) == "run_cancelled"
        assert end.run_cancelled.cancellation.limit == "output_bytes"
        assert 2 * 2**20 <= len(end.run_cancelled.output) < 3 * 2**20
        assert served.get("r").output == end.run_cancelled.output

    def test_a_result_that_is_too_large_fails_the_run(self, serve: Serve) -> None:
        """output_data beyond the bound fails the run that returns it, in words that say so."""

        @runnable
        def big(input: str):
            return {"blob": "x" * 5_000_000}

        served = serve(big)
        end = served.run("big", run_id="r", timeout=PATIENCE).end()
        assert kind_of(end) == "run_failed"
        assert "bytes" in end.run_failed.error.message
        assert served.get("r").state == State.RUN_STATE_FAILED

    def test_an_event_that_is_too_large_is_refused_to_its_author(self, serve: Serve) -> None:
        """ctx.emit raises ValueError where the data would not fit a message; the run may go on."""

        @runnable
        async def emits(ctx: RunContext):
            try:
                ctx.emit("blob", {"x": "y" * 5_000_000})
            except ValueError as error:
                ctx.write(f"refused: {error}")

        end = serve(emits).run("emits", timeout=PATIENCE).end()
        assert end.run_completed.output.startswith("refused: ")

    def test_a_set_output_that_is_too_large_is_refused_to_its_author(self, serve: Serve) -> None:
        """ctx.set_output raises ValueError where the output would not fit a message."""

        @runnable
        async def sets(ctx: RunContext):
            try:
                ctx.set_output("y" * 5_000_000)
            except ValueError as error:
                ctx.write(f"refused: {error}")

        end = serve(sets).run("sets", timeout=PATIENCE).end()
        assert end.run_completed.output.startswith("refused: ")

    def test_a_run_with_the_most_of_everything_can_be_got(self, serve: Serve) -> None:
        """Input, output and tool calls at their bounds together fit GetRun and the last event."""

        @runnable
        async def most(ctx: RunContext):
            for number in range(300):
                with ctx.tool_call(str(number), "tool" * 10, "a" * 10_000) as returned:
                    returned("r" * 10_000)
            ctx.write("x" * (2 * 2**20 - 1))

        served = serve(most, max_log_bytes=64 * 2**20)
        end = served.run("most", "i" * 2**20, run_id="r", timeout=PATIENCE).end()
        assert kind_of(end) == "run_completed"
        assert len(served.get("r").tool_calls) == 256

    def test_a_long_list_comes_in_pages_that_fit(self, serve: Serve) -> None:
        """A page of runs holds fewer than page_size where they would not fit a message."""

        @runnable(id="fails")
        def fails(input: str):
            raise ValueError("w" * 10_000)

        served = serve(fails)
        labels = {f"{n:02}" + "k" * 254: "v" * 256 for n in range(64)}
        ids = [served.start("fails", labels=labels, run_id=f"r{n}").run_id for n in range(150)]
        for run_id in ids:
            served.wait(run_id)
        found, token = [], ""
        while True:
            page = served.list(page_size=1000, page_token=token)
            found += [run.run_id for run in page.runs]
            token = page.next_page_token
            if not token:
                break
        assert sorted(found) == sorted(ids)


class TestCallbacks:
    def test_a_cancel_callback_of_the_author_s_holds_up_nobody(self, serve: Serve) -> None:
        """on_cancel callbacks never run on the RPC loop: one that blocks delays no other call."""
        begun, called, release = Signal(), Signal(), Signal()
        where: list[str] = []

        def blocks(cancellation: object) -> None:
            where.append(threading.current_thread().name)
            called.set()
            release.wait()

        @runnable
        async def listens(ctx: RunContext):
            ctx.cancel_token.on_cancel(blocks)
            begun.set()
            await Signal().come()

        served = serve(listens, echo, sync_echo)
        stream = served.run("listens", run_id="r", timeout=PATIENCE)
        begun.wait()
        try:
            assert served.cancel("r", wait=seconds(30)).stop_time.seconds
            called.wait()
            still_serves(served)
            assert "pullcord-server" not in where
            assert kind_of(stream.end()) == "run_cancelled"
        finally:
            release.set()
