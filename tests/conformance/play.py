"""Plays one scenario with one driver, and says what was not as expected.

The steps' verbs are here, each in a few lines; what a scenario is, is in `scenario`, and what every
stream must keep in `reading`.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pullcord.client import RunClient
from pullcord.run.cancel import CancelMode
from pullcord.run.errors import PullcordError
from pullcord.v1 import event_pb2, run_pb2, runnable_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.conformance.changes import Changes
from tests.conformance.drivers import Driver, DriverError, decode
from tests.conformance.fake import Fake
from tests.conformance.languages import BROWSER
from tests.conformance.line import Line
from tests.conformance.matching import differences
from tests.conformance.plain import fill, plain
from tests.conformance.reading import Fault, Reading
from tests.conformance.roles import play_table
from tests.conformance.scenario import ACTING, READING, Scenario, verb_of
from tests.conformance.server import KEEPALIVE, Apart

PATIENCE = 30.0
"""Seconds that a run may take to end, where a step waits for that."""

_REQUESTS = {
    "watch_runs": v1.WatchRunsRequest,
    "list": v1.ListRunsRequest,
    "cancel": v1.CancelRunRequest,
    "cancel_many": v1.CancelRunsRequest,
    "continue_run": v1.ContinueRunRequest,
    "erase": v1.EraseRunsRequest,
}
_ANSWERS = {
    "start": run_pb2.Run,
    "wait": run_pb2.Run,
    "get": run_pb2.Run,
    "continue_run": run_pb2.Run,
    "list": run_pb2.Run,
    "runnables": runnable_pb2.Runnable,
    "cancel": v1.CancelRunResponse,
    "cancel_many": v1.CancelRunsResponse,
    "erase": v1.EraseRunsResponse,
}
_MANY = re.compile(r"\{(.)\*(\d+)\}")
_numbers = itertools.count(1)


def play(
    scenario: Scenario,
    driver: Driver,
    address: str,
    other: Callable[[], Driver] | None = None,
    apart: Apart | None = None,
    web: str = "",
) -> list[str]:
    """What went wrong, in words; nothing where the client kept the promise.

    `other` brings a second driver, for the scenarios that have two clients; `apart` is the server
    of those that freeze one. `web` is where the same server speaks HTTP, which a browser needs;
    without one it goes through a door (`door`).
    """
    with contextlib.ExitStack() as stack:
        try:
            _Play(scenario, driver, address, other, apart, web, stack).play()
        except (Fault, DriverError) as error:
            return [str(error)]
    return []


class _Play:
    def __init__(
        self,
        scenario: Scenario,
        driver: Driver,
        address: str,
        other: Callable[[], Driver] | None,
        apart: Apart | None,
        web: str,
        stack: contextlib.ExitStack,
    ) -> None:
        self._processes: dict[str, Driver | Apart] = {"client": driver}
        self._connect = dict(scenario.connect)
        if apart is not None:
            address = apart.address
            self._processes["server"] = apart
            self._connect |= {"keepalive": KEEPALIVE, "keepalive_timeout": KEEPALIVE}
        self._scenario = scenario
        self._driver = driver
        self._make_other = other
        self._other: Driver | None = None
        self._id = f"c{os.getpid()}-{next(_numbers)}"
        self._run_id = self._id
        self._runs: set[str] = set()
        self._streams: dict[str, tuple[Driver, int, Reading]] = {}
        self._list: Changes | None = None
        self._lead = stack.enter_context(RunClient(address, actor="the suite"))
        self._address = address
        self._web = web if scenario.fake is None and apart is None else ""
        self._fake: Fake | None = None
        self._line: Line | None = None
        if scenario.fake is not None:
            self._fake = stack.enter_context(Fake(self._filled_in(scenario.fake)))
            self._address = self._fake.address
        if scenario.breaks is not None:
            self._line = stack.enter_context(
                Line(self._entrance(driver)["target"], scenario.breaks)
            )

    def play(self) -> None:
        said = self._driver.ask(
            "connect",
            **self._entrance(self._driver),
            metadata=dict(self._scenario.metadata) or None,
            actor=self._scenario.actor or None,
            **self._connect,
        )
        if "language" not in said:
            raise Fault(f"connect answered {said}")
        try:
            for number, step in enumerate(self._scenario.steps, 1):
                with self._located(number, step):
                    self._do(self._filled_in(step))
        finally:
            self._clean_up()
        if self._fake is not None:
            self._fake.check_done()
            _raise(iter(self._fake.faults))

    def _entrance(self, driver: Driver) -> dict[str, Any]:
        """Where a driver connects, and whether that is HTTP."""
        http = bool(self._web) and driver.language == BROWSER
        target = self._web if http else self._address
        if self._line is not None and driver is self._driver:
            target = self._line.address
        return {"target": target, "http": True} if http else {"target": target}

    @contextlib.contextmanager
    def _located(self, number: int, step: Mapping[str, Any]) -> Iterator[None]:
        """Says where a fault was found; the fake server's come first: others follow from them."""
        try:
            yield
        except (Fault, DriverError) as error:
            faults = self._fake.faults if self._fake is not None else []
            words = "; ".join(filter(None, [*faults, str(error)]))
            raise Fault(f"step {number}, {verb_of(step)}: {words}") from error

    # --- steps

    def _do(self, step: dict[str, Any]) -> None:
        verb = verb_of(step)
        if verb in ACTING:
            getattr(self, f"_{verb}")(step[verb])
            return
        driver = self._who(step)
        if verb in READING:
            self._read(verb, step)
        elif verb in ("run", "watch"):
            self._follow(driver, verb, step)
        elif verb == "watch_runs":
            self._follow_list(driver, step)
        else:
            driver.send(verb, **self._arguments(verb, dict(step[verb])))
            for meanwhile in step.get("meanwhile", ()):
                self._do(meanwhile)
            self._judge(verb, driver.answer(), step)
        if self._fake is not None and self._fake.faults:
            raise Fault("")

    def _who(self, step: Mapping[str, Any]) -> Driver:
        if step.get("by") != "other":
            return self._driver
        if self._other is None:
            if self._make_other is None:
                raise DriverError("this scenario takes two drivers")
            self._other = self._make_other()
            self._other.ask("connect", **self._entrance(self._other), actor="bob")
        return self._other

    def _arguments(self, verb: str, said: dict[str, Any]) -> dict[str, Any]:
        """What a driver is asked, out of what a step says."""
        if verb in ("run", "start"):
            spec = self._spec(said)
            timeout = said.pop("timeout", None)
            fill(spec, said)
            return {"spec": spec, "timeout": timeout} if verb == "run" else {"spec": spec}
        if verb in ("watch", "wait", "get"):
            said.setdefault("run_id", self._run_id)
            if said.get("after_sequence") == "place":
                said["after_sequence"] = next(reversed(self._streams.values()))[2].place
            return said
        if verb == "connect":
            return {**self._entrance(self._driver), **said}
        if verb == "drop":
            if said.get("stream") == "list" and self._list is not None:
                return {"stream": self._list.number}
            return {"stream": self._stream(said.get("stream"))[1]}
        if verb == "runnables":
            return {}
        request = _REQUESTS[verb]()
        if verb in ("cancel", "continue_run"):
            said.setdefault("run_id", self._run_id)
            self._runs.add(said["run_id"])
        fill(request, said)
        return {"request": request}

    def _spec(self, said: dict[str, Any]) -> run_pb2.RunSpec:
        said.setdefault("runnable", "agents/script")
        said.setdefault("run_id", self._id)
        if "script" in said:
            said["input_data"] = {"steps": said.pop("script")}
        return run_pb2.RunSpec()

    def _follow(self, driver: Driver, verb: str, step: dict[str, Any]) -> None:
        asked = self._arguments(verb, dict(step[verb]))
        answer = driver.ask(verb, **asked)
        if "error" in step and "stream" in answer:
            # Opening a stream may be what fails, or reading it.
            answer = driver.ask("next", stream=answer["stream"])
        if "error" in step or "error" in answer:
            self._judge_error(answer, step)
            return
        run_id = answer.get("run_id")
        if not isinstance(answer.get("stream"), int) or not isinstance(run_id, str) or not run_id:
            raise Fault(f"answered {answer}")
        wanted = asked["spec"].run_id if verb == "run" else asked["run_id"]
        if wanted and run_id != wanted:
            raise Fault(f"answered run_id {run_id!r}, not {wanted!r}")
        self._know(run_id)
        after = asked.get("after_sequence", 0)
        reading = Reading(run_id, after, self._scenario.skips)
        name = step.get("as", f"stream {len(self._streams) + 1}")
        self._streams[name] = (driver, answer["stream"], reading)
        self._expect(step, answer)

    def _follow_list(self, driver: Driver, step: dict[str, Any]) -> None:
        answer = driver.ask("watch_runs", **self._arguments("watch_runs", dict(step["watch_runs"])))
        if not isinstance(answer.get("stream"), int):
            raise Fault(f"answered {answer}")
        self._list = Changes(driver, answer["stream"])

    def _judge(self, verb: str, answer: dict[str, Any], step: dict[str, Any]) -> None:
        if "error" in step or "error" in answer:
            self._judge_error(answer, step)
            return
        kind = _ANSWERS.get(verb)
        seen: Any = answer
        if verb in ("list", "runnables"):
            seen = [plain(decode(kind, m)) for m in answer.get("messages", ())]
        elif kind is not None:
            seen = plain(decode(kind, answer.get("message")))
        if verb == "start":
            self._know(seen["run_id"])
        self._expect(step, seen)

    def _judge_error(self, answer: dict[str, Any], step: dict[str, Any]) -> None:
        if "error" not in step:
            raise Fault(f"was refused: {answer['error']}")
        if "error" not in answer:
            raise Fault(f"should have been refused as {step['error']}, and was answered {answer}")
        _raise(differences(step["error"], answer["error"], "error"))

    def _expect(self, step: Mapping[str, Any], seen: Any) -> None:
        if "expect" in step:
            _raise(differences(step["expect"], seen))

    # --- reading

    def _read(self, verb: str, step: dict[str, Any]) -> None:
        if verb == "change":
            self._read_change(step)
            return
        driver, number, reading = self._stream(step.get("as"))
        wanted = (step.get("from", ""), step[verb])
        while True:
            answer = driver.ask("next", stream=number)
            if "error" in answer or ("error" in step and "event" not in answer):
                self._judge_error(answer, step)
                return
            if answer.get("end") is True:
                self._see_end(verb, step, reading)
                return
            event = decode(event_pb2.RunEvent, answer.get("event"))
            reading.take(event, str(answer.get("payload")))  # type: ignore[arg-type]  # decoded as one
            who, name, payload = reading.last
            if verb in ("next", "until") and (who, name) == wanted:
                self._expect(step, payload)
                return
            if verb == "text" and reading.text == wanted[1]:
                return
            shown = f"{who}:{name}" if who else name
            if verb == "next":
                raise Fault(f"is {shown} {payload}")
            if verb == "text" and not wanted[1].startswith(reading.text):
                raise Fault(f"is {reading.text!r}, and should be {wanted[1]!r}")
            if verb != "end" and reading.ended:
                raise Fault(f"did not come; the run ended with {shown} {payload}")

    def _read_change(self, step: dict[str, Any]) -> None:
        assert self._list is not None
        answer = self._list.read(step)
        if "error" in step or "error" in answer:
            self._judge_error(answer, step)
            return
        self._expect(step, answer["change"])

    def _see_end(self, verb: str, step: Mapping[str, Any], reading: Reading) -> None:
        _, name, payload = reading.last
        if verb != "end":
            raise Fault("the stream has ended")
        if step["end"] != "seen" and (not reading.ended or name != step["end"]):
            raise Fault(f"the stream ended after {name or 'nothing'} {payload}")
        self._expect(step, payload)
        if "trail" in step:
            _raise(differences(step["trail"], reading.trail, "trail"))

    def _stream(self, name: str | None) -> tuple[Driver, int, Reading]:
        return self._streams[name] if name else next(reversed(self._streams.values()))

    # --- the suite's own part

    def _table(self, _: Any) -> None:
        _raise(play_table(self._driver, self._address, self._id))

    def _open(self, name: str) -> None:
        self._lead.wait(self._lead.start("agents/gate", name).run_id, PATIENCE)

    def _cut(self, _: Any) -> None:
        assert self._line is not None
        self._line.cut()

    def _left(self, _: Any) -> None:
        assert self._fake is not None
        if not self._fake.wait_left():
            raise Fault("the client still holds the call that it was told to leave")

    def _freeze(self, whom: str) -> None:
        self._processes[whom].freeze()

    def _thaw(self, whom: str) -> None:
        self._processes[whom].thaw()

    def _lost(self, _: Any) -> None:
        assert self._line is not None
        if not self._line.wait_left(PATIENCE):
            raise Fault("the client still holds the connection on which nothing comes")

    def _ended(self, run_id: Any) -> None:
        run = self._lead.wait(run_id if isinstance(run_id, str) else self._run_id, PATIENCE)
        if not run.state.is_terminal:
            raise Fault(f"the run has not ended: it is {run.state.name}")

    def _know(self, run_id: str) -> None:
        self._run_id = run_id
        self._runs.add(run_id)

    def _clean_up(self) -> None:
        for process in self._processes.values():
            process.thaw()
        if self._fake is None:
            for run_id in self._runs:
                with contextlib.suppress(PullcordError):
                    self._lead.cancel(run_id, "the scenario is over", mode=CancelMode.IMMEDIATE)

    def _filled_in(self, said: Any) -> Any:
        """The same with `{id}` (of this play), `{run}` (the run that was started last) and `{x*9}`
        (so many of a character)."""
        if isinstance(said, str):
            said = said.replace("{id}", self._id).replace("{run}", self._run_id)
            return _MANY.sub(lambda m: m[1] * int(m[2]), said)
        if isinstance(said, Mapping):
            return {key: self._filled_in(value) for key, value in said.items()}
        if isinstance(said, list):
            return [self._filled_in(item) for item in said]
        return said


def _raise(found: Iterator[str]) -> None:
    words = "; ".join(found)
    if words:
        raise Fault(words)
