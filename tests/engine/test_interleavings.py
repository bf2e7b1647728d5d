"""Ten thousand seeded plays of everything that can happen to runs, in any order, with one end each.

A play is one thread that takes random steps: code that speaks, uses, asks, starts children, ends or
dies; callers that cancel, decide, watch and leave; sessions, deadlines, limits, time, a drain. In
half of the plays, what a decision leaves to be done once the lock is released is done later, among
other steps, as it is where a thread is preempted just there. Some more have three real threads.
"""

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from pullcord.engine.live.live import LiveRun
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelRequest
from pullcord.run.errors import PullcordError, RunCancelledError
from pullcord.run.events import (
    TERMINAL_PAYLOADS,
    CancelRequested,
    ContentDelta,
    Custom,
    RunPaused,
    RunStarted,
    ToolCall,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.message import Given
from pullcord.run.record import Decision, DisconnectPolicy, RunFilter, RunSpec, SessionPolicy
from pullcord.run.runnable import RunnableInfo, full_name
from pullcord.run.state import IllegalTransition, RunState
from pullcord.run.usage import Limits, Usage
from pullcord.testing import Script

from tests.engine.driving import check
from tests.engine.scripted import ScriptedExecution, Theatre

PLAYS, TROUPES = 10_000, 20
CROWDS, CROWD = 300, 3
BEGINS = Custom("begins")
REFUSALS = (PullcordError, RunCancelledError, IllegalTransition)


class Play:
    """One seeded play."""

    def __init__(self, seed: int, loop: asyncio.AbstractEventLoop) -> None:
        self.random = random.Random(seed)
        self.theatre = Theatre(
            kill_after=self.random.choice([None, 0.025]),
            max_output_bytes=40,
            max_ledger=4,
            max_pending=20.0,
            max_pause=30.0,
            max_runs_beneath=3,
            max_depth=3,
        )
        self.engine = self.theatre.engine
        self.loop = loop
        self.tasks: list[asyncio.Task[Any]] = []
        self.later: list[Callable[[], None]] = []
        self.defers = self.random.random() < 0.5
        self.watchers: list[Any] = []
        self.cancelled: set[str] = set()
        self.number = 0
        self.is_alone = True
        """Whether one thread takes all steps."""

    def play(self) -> None:
        do_afterwards = LiveRun._do_afterwards

        def put_off(live: LiveRun, effects: Any) -> None:
            if effects and self.defers:
                self.later.append(lambda: do_afterwards(live, effects))
            else:
                do_afterwards(live, effects)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LiveRun, "_do_afterwards", put_off)
            self.start(as_root=True)
            for _ in range(self.random.randrange(5, 60)):
                self.step()
            self.defers = False
            self.catch_up()
            self.finale()

    def step(self) -> None:
        acts = [self.code_acts, self.start, self.cancel, self.decide, self.watch, self.leave]
        acts += [self.pass_time, self.catch_up, self.drain]
        weights = [20, 2 if self.number < 5 else 1, 1, 3, 1, 1, 2, 3, 0.2]
        with suppress(*REFUSALS):
            self.random.choices(acts, weights)[0]()
        if self.is_alone:
            self.loop.run_until_complete(asyncio.sleep(0))

    def play_in_threads(self) -> None:
        """The same, as three threads do it in whatever order comes."""
        self.is_alone = self.defers = False
        self.start(as_root=True)
        failed: list[BaseException] = []

        def take_steps() -> None:
            try:
                for _ in range(20):
                    self.step()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=take_steps) for _ in range(CROWD)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "two runs wait for each other's locks"
        for error in failed:
            raise error
        self.finale()

    # --- callers

    def any_run(self) -> str:
        return self.random.choice(list(self.theatre.executor.executions) or ["none"])

    def start(self, as_root: bool = False) -> None:
        """A run, in a session or not, with limits and a deadline or not, maybe a tool's child."""
        self.number += 1
        choose = self.random.choice
        session = choose(["", "s"])
        spec = RunSpec(
            "agents/script",
            run_id=f"r{self.number}",
            session_id=session,
            session_policy=choose([None, *SessionPolicy]) if session else None,
            limits=choose([Limits(), Limits(timeout=3.0), Limits(max_tokens=9, max_steps=3)]),
            on_disconnect=choose(list(DisconnectPolicy)),
        )
        parent = "" if as_root else choose(["", "", self.any_run()])
        deadline = choose([None, None, 2.0, 15.0])
        self.engine.start(Script(), spec, deadline=deadline, parent_run_id=parent)

    def cancel(self) -> None:
        mode, grace = self.random.choice(list(CancelMode)), self.random.choice([None, 0.5, 50.0])
        request = CancelRequest(Cancellation(CancelCause.USER, "ada", mode=mode), grace)
        if self.random.random() < 0.1:
            self.engine.cancel_many(RunFilter(session_id="s"), request)
        else:
            run_id = self.any_run()
            receipt = self.engine.cancel(run_id, request)
            if receipt.outcome in ("requested", "stopped"):
                self.cancelled.add(run_id)

    def decide(self) -> None:
        paused = self.engine.list_page(RunFilter(states=frozenset({RunState.PAUSED})), 9).runs
        run = self.random.choice(paused) if paused else self.engine.get(self.any_run())
        waiting = [c for c in run.tool_calls if c.state is ToolCallState.WAITING]
        approved = self.random.random() < 0.5
        made = [Decision(c.tool_call_id, approved) for c in waiting if not c.run_id]
        self.engine.continue_run(run.run_id, made, "bob")

    def watch(self) -> None:
        self.watchers.append(self.engine.watch(self.any_run()))

    def leave(self) -> None:
        with suppress(IndexError):
            self.watchers.pop().close()

    def pass_time(self) -> None:
        self.theatre.clock.advance(
            self.random.choice([0.0, 0.01, 0.03, 0.3, 0.3, 1.0, 1.0, 2.0, 31.0])
        )

    def drain(self) -> None:
        self.engine.drain()
        mode = self.random.choice(list(CancelMode))
        self.engine.shut_down_runs(mode, self.random.choice([None, 0.1]))

    def catch_up(self) -> None:
        """Threads that were preempted go on, each in its own time."""
        while self.later and (not self.defers or self.random.random() < 0.7):
            self.later.pop(self.random.randrange(len(self.later)))()

    # --- code

    def code_acts(self) -> None:
        code = self.theatre.code(self.any_run())
        with code.playing:
            if code.released:
                return
            if not code.began:
                self.before_it_begins(code)
            elif code.stops and self.random.random() < 0.3:
                code.end(RunCancelledError("enough"))
            else:
                self.at_work(code)

    def before_it_begins(self, code: ScriptedExecution) -> None:
        if self.is_alone and self.random.random() < 0.1:
            port = code.port.moved()
            self.theatre.executor.start(port, Script(), self.engine)
            assert code.begin() is None
            self.random.choice([code.die, lambda: code.end(ValueError("stale"))])()
            assert self.engine.get(port.run_id).state is RunState.PENDING
        elif code.begin() is None:
            code.release()

    def at_work(self, code: ScriptedExecution) -> None:
        port, choose = code.port, self.random.choice
        call = ToolCall(choose("abc"), "tool")
        done = ToolCall(choose("abc"), "tool", state=ToolCallState.COMPLETED)
        child = Script(id="child")
        acts: list[Callable[[], Any]] = [
            lambda: port.write(choose(["x", "a text that is longer"])),
            lambda: port.write("y"),
            lambda: port.write_as("thinking", None, True),
            lambda: port.emit(Custom("mark"), None),
            lambda: port.begin(BEGINS, None),
            lambda: port.use(Usage(output_tokens=choose([0, 3, 6]), steps=choose([0, 1]))),
            lambda: port.tool_started(call),
            lambda: port.tool_ended(done),
            lambda: port.start(child, _info(child), Given("go"), ()),
            lambda: port.stop(Cancellation(CancelCause.USER, reason="its own")),
            lambda: code.end(choose([None, None, ValueError("no")])),
            port.stuck,
            lambda: code.die() if self.random.random() < 0.3 else None,
            lambda: self.kill(code),
        ]
        if self.is_alone:  # what asks is a task of the one loop
            acts += [lambda: self.tasks.append(self.loop.create_task(self.ask(code)))] * 2
            acts += [lambda: choose(self.tasks).cancel() if self.tasks else None]
        choose(acts)()

    async def ask(self, code: ScriptedExecution) -> None:
        with suppress(RunCancelledError):
            await code.port.ask("may I?", [ToolCall(f"q{self.random.randrange(3)}", "mail")])

    def kill(self, code: ScriptedExecution) -> None:
        if code.killed:
            code.release()
            code.port.killed()

    # --- the end

    def finale(self) -> None:
        """Everybody goes home; then every run has ended once, and nothing is left."""
        self.all_end()
        for watcher in self.watchers:
            watcher.close()
        self.theatre.clock.advance(0.0)  # a full output's stop, which comes from outside
        assert self.engine.remains().timers <= 1, "the store's"
        self.theatre.clock.advance(100.0)
        self.loop.run_until_complete(self.all_asked())
        left = self.engine.remains()
        assert (left.live, left.claims, left.sessions, left.watchers) == (0, 0, 0, 0)
        assert self.engine.occupied == 0
        for run in self.engine.list_page(RunFilter(), 100).runs:
            self.check(run.run_id)

    def all_end(self) -> None:
        """The code of every run ends; by that the next of a session may begin."""
        executions = self.theatre.executor.executions
        while at_work := [code for code in executions.values() if not code.released]:
            for code in at_work:
                if code.began or code.begin() is not None:
                    code.end()
                code.release()

    async def all_asked(self) -> None:
        """Nobody waits for an answer."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def check(self, run_id: str) -> None:
        run = self.engine.get(run_id)
        told = list(self.engine.watch(run_id))
        check(told, run)  # one terminal event, the last; contiguous; event and run agree
        own = [event.payload for event in told if event.source is None]
        assert run.output == "".join(p.text for p in own if isinstance(p, ContentDelta))
        assert len(run.tool_calls) <= 4
        if run_id in self.cancelled or any(_is_stop(payload) for payload in own):
            assert run.state is RunState.CANCELLED
        stops = [n for n, e in enumerate(told) if e.source is None and _is_stop(e.payload)]
        begun = [n for n, e in enumerate(told) if _begins(e.payload)]
        assert not stops or max(begun) < min(stops), "nothing begins once a cancel was accepted"
        told_of = [e.source.run_id for e in told if e.source and isinstance(e.payload, RunStarted)]
        ends = [e.source.run_id for e in told if e.source and _is_end(e.payload)]
        assert sorted(ends) == sorted(set(ends)), "a child is heard to end once"
        assert set(ends) <= set(told_of)


def _info(runnable: Script) -> RunnableInfo:
    return RunnableInfo(full_name(runnable), runnable.kind, runnable.id)


def _is_end(payload: Any) -> bool:
    return isinstance(payload, TERMINAL_PAYLOADS)


def _is_stop(payload: Any) -> bool:
    return isinstance(payload, CancelRequested)


def _begins(payload: Any) -> bool:
    return isinstance(payload, RunStarted | ToolCallStarted | RunPaused) or payload == BEGINS


@contextmanager
def a_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


@pytest.mark.parametrize("troupe", range(TROUPES))
def test_promise_01_whatever_happens_in_whatever_order_there_is_one_end(troupe: int) -> None:
    """One terminal event, contiguous sequences, and the output is the text of the deltas."""
    each = PLAYS // TROUPES
    with a_loop() as loop:
        for seed in range(troupe * each, (troupe + 1) * each):
            try:
                Play(seed, loop).play()
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise


def test_promise_01_whatever_threads_do_at_once_there_is_one_end() -> None:
    """The same where three threads act on the same runs and their parents at the same time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with a_loop() as loop:
            for seed in range(CROWDS):
                Play(seed, loop).play_in_threads()
    finally:
        sys.setswitchinterval(before)
