"""Workflows: what each kind of step does, what becomes of it in a cancel, and what is kept."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pullcord.engine.engine import Engine
from pullcord.run.cancel import CancelMode
from pullcord.run.context import RunContext
from pullcord.run.events import StepCompleted, StepStarted
from pullcord.run.record import Run, RunFilter, RunSpec
from pullcord.run.runnable import full_name
from pullcord.run.state import RunState
from pullcord.run.usage import Limits
from pullcord.testing import Gate, Script, fail, make_engine, say
from pullcord.workflow import (
    Condition,
    Loop,
    Parallel,
    Router,
    Step,
    StepInput,
    StepOutput,
    Workflow,
)

from tests.engine.driving import cancel, ended, events


def start(engine: Engine, *steps: Any, run_id: str = "r", **fields: Any) -> None:
    workflow = Workflow(id="w", steps=steps)
    engine.start(workflow, RunSpec(full_name(workflow), "in", run_id=run_id, **fields))


def done(engine: Engine, *steps: Any, **fields: Any) -> Run:
    start(engine, *steps, **fields)
    return ended(engine)


def stopped(engine: Engine, gate: Gate, *steps: Any, mode: CancelMode = CancelMode.GRACEFUL) -> Run:
    """What a workflow comes to that is cancelled when somebody waits at the gate."""
    start(engine, *steps)
    gate.wait_reached()
    cancel(engine, mode=mode)
    run = ended(engine)
    assert run.state is RunState.CANCELLED
    return run


def states(run: Run) -> dict[str, str]:
    assert run.output_data is not None
    return {step["path"]: step["state"] for step in run.output_data["steps"]}


def outputs(run: Run) -> dict[str, str]:
    assert run.output_data is not None
    return {step["path"]: step["output"] for step in run.output_data["steps"]}


def told(engine: Engine, what: type) -> list[tuple[str, Any]]:
    """Step events, by path."""
    return [
        ("/".join(e.source.path[1:]), e.payload)
        for e in events(engine)
        if isinstance(e.payload, what) and e.source is not None
    ]


def adds(word: str) -> Callable[[str], str]:
    def add(input: str) -> str:
        return f"{input} {word}"

    return add


def never(input: str) -> str:
    raise AssertionError("this step must not begin")


# --- steps


def test_each_step_gets_what_the_one_before_made(engine: Engine) -> None:
    """Steps run in order, the first with the workflow's input; the last one's content is its."""
    run = done(engine, Step("a", executor=adds("a")), Step("b", executor=adds("b")))
    assert (run.state, run.output) == (RunState.COMPLETED, "in a b")
    assert outputs(run) == {"a": "in a", "b": "in a b"}
    assert (run.usage.steps, set(states(run).values())) == (2, {"completed"})
    assert [path for path, _ in told(engine, StepStarted)] == ["a", "b"]
    assert [p.output for _, p in told(engine, StepCompleted)] == ["in a", "in a b"]


def test_every_step_has_a_run_that_its_entry_names(engine: Engine) -> None:
    """The list of steps says which run beneath the workflow's each was."""
    run = done(engine, Script(say("x"), id="one"), Script(say("y"), id="two"))
    assert run.output_data is not None
    beneath = engine.list_page(RunFilter(parent_run_id="r"), 10).runs
    assert {s["run_id"] for s in run.output_data["steps"]} == {r.run_id for r in beneath}
    assert list(states(run)) == ["one", "two"]


def test_a_function_is_given_what_it_names(engine: Engine) -> None:
    """A function that is a step can ask for the StepInput, by name or by type."""

    def look(step_input: StepInput) -> str:
        return f"{step_input.input}|{step_input.previous_step_content}"

    def look_back(given: StepInput) -> StepOutput:
        assert given.get_step_content("nowhere") is None
        return StepOutput(f"{given.get_step_content('a')}!")

    run = done(engine, Step("a", executor=adds("a")), look, look_back)
    assert outputs(run) == {"a": "in a", "look": "in|in a", "look-back": "in a!"}


def test_a_step_is_tried_again(engine: Engine) -> None:
    """A step that fails is tried again as often as it may be, each time in a run of its own."""
    attempts: list[str] = []

    def third_time(input: str) -> str:
        attempts.append(input)
        if len(attempts) < 3:
            raise ValueError("no")
        return "yes"

    run = done(engine, Step("s", executor=third_time, retries=2, retry_delay=0))
    assert (run.output, attempts) == ("yes", ["in"] * 3)
    assert [p.attempt for _, p in told(engine, StepStarted)] == [1, 2, 3]
    ends = [p.state for _, p in told(engine, StepCompleted)]
    assert ends == [RunState.FAILED, RunState.FAILED, RunState.COMPLETED]
    assert len(engine.list_page(RunFilter(parent_run_id="r"), 10).runs) == 3


def test_a_step_that_fails_fails_the_workflow(engine: Engine) -> None:
    """After the last attempt the workflow fails, says which step and why, and keeps the rest."""
    steps = (Script(say("kept"), id="a"), Script(fail(ValueError("no milk")), id="b"), never)
    run = done(engine, *steps)
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error.message == "step 'b' failed: ValueError: no milk"
    assert states(run) == {"a": "completed", "b": "failed", "never": "not_started"}
    assert outputs(run)["a"] == "kept"


def test_a_real_error_is_skipped_where_it_may_be(engine: Engine) -> None:
    """Under on_error="skip" the next step gets what the failed one was given."""
    broken = Script(say("half"), fail(ValueError("no")), id="broken")
    run = done(engine, Step("s", executor=broken, on_error="skip"), adds("on"))
    assert (run.state, run.output) == (RunState.COMPLETED, "in on")
    assert (states(run)["s"], outputs(run)["s"]) == ("failed", "half")


def test_the_back_off_before_a_retry_is_cut_short(engine: Engine) -> None:
    """A cancel ends the wait for the next attempt at once, and there is none."""
    attempts = threading.Semaphore(0)

    def broken(input: str) -> str:
        attempts.release()
        raise ValueError("no")

    start(engine, Step("s", executor=broken, retries=5, retry_delay=3600), never)
    assert attempts.acquire(timeout=30)
    for event in engine.watch("r"):
        if isinstance(event.payload, StepCompleted):
            cancel(engine)
    run = ended(engine)
    assert run.state is RunState.CANCELLED
    assert not attempts.acquire(blocking=False)
    assert states(run) == {"s": "failed", "never": "not_started"}


@pytest.mark.parametrize("mode", CancelMode)
def test_skip_never_swallows_a_cancel(engine: Engine, mode: CancelMode) -> None:
    """A cancel is no error to be skipped: no later step begins, and what was made is kept."""
    gate = Gate()
    step = Step("s", executor=Script(say("part"), gate, id="x"), on_error="skip", retries=3)
    run = stopped(engine, gate, step, never, mode=mode)
    assert states(run) == {"s": "cancelled", "never": "not_started"}
    assert run.output == outputs(run)["s"] == "part"


def test_a_step_that_catches_every_exception_is_stopped_too(engine: Engine) -> None:
    """`except Exception` around a step's work does not catch the stop."""
    reached = Gate()

    def stubborn(ctx: RunContext) -> Iterator[str]:
        reached._reached.release()
        while True:
            try:  # as authors write it
                ctx.write("x")
                ctx.cancel_token.wait(0.001)
            except Exception:
                pass
        yield ""

    run = stopped(engine, reached, stubborn, never)
    assert states(run) == {"stubborn": "cancelled", "never": "not_started"}


def test_a_step_that_is_cancelled_alone_passes_on_what_it_made(engine: Engine) -> None:
    """A step's own cancel ends the step alone: the next gets its partial output."""
    gate = Gate()
    start(engine, Script(say("part"), gate, id="a"), adds("on"))
    gate.wait_reached()
    (step,) = engine.list_page(RunFilter(parent_run_id="r"), 10).runs
    cancel(engine, step.run_id)
    run = ended(engine)
    assert (run.state, run.output) == (RunState.COMPLETED, "part on")
    assert states(run)["a"] == "cancelled"


def test_a_refused_step_fails() -> None:
    """A step whose run is refused has failed, and can be skipped like any other."""
    engine = make_engine(max_input_bytes=10)
    run = done(engine, Script(say("x" * 11), id="much"), Step("s", executor=never, on_error="skip"))
    assert states(run) == {"much": "completed", "s": "failed"}
    assert run.output_data is not None
    assert run.output_data["steps"][1]["error"]["type"] == "InvalidArgument"
    assert "run_id" not in run.output_data["steps"][1]
    engine.close()


def test_a_limit_of_steps_is_kept(engine: Engine) -> None:
    """A workflow may begin as many steps as its limit says, and no more."""
    run = done(engine, adds("a"), adds("b"), adds("c"), limits=Limits(max_steps=2))
    assert run.cancellation is not None
    assert run.cancellation.limit == "max_steps"
    assert list(states(run).values()) == ["completed", "completed", "not_started"]
    assert run.output == "in a b"


# --- several at once


def test_parallel_steps_meet(engine: Engine) -> None:
    """Parallel steps run at the same time, sync and async; the content is all of theirs."""
    both = threading.Barrier(2, timeout=30)

    def left(input: str) -> str:
        both.wait()
        return f"{input} left"

    async def right(input: str, ctx: RunContext) -> str:
        await ctx.in_thread(both.wait)
        return f"{input} right"

    run = done(engine, Parallel(left, right, name="both"))
    assert run.output == "in left\n\nin right"
    assert outputs(run) == {"both/left": "in left", "both/right": "in right"}


@pytest.mark.parametrize("mode", CancelMode)
def test_a_cancel_of_parallel_steps_is_no_failure(engine: Engine, mode: CancelMode) -> None:
    """Parallel steps that are stopped are cancelled, and so is what holds them; one that had
    completed stays so."""
    gates = Gate(), Gate()
    quick = Script(say("quick"), id="quick")
    slow = [Script(say(f"s{n}"), gate, id=f"s{n}") for n, gate in enumerate(gates)]
    start(engine, Parallel(quick, *slow, name="all"), never)
    for gate in gates:
        gate.wait_reached()
    for event in engine.watch("r"):
        if isinstance(event.payload, StepCompleted) and event.payload.step_id == "quick":
            cancel(engine, mode=mode)
    run = ended(engine)
    assert states(run) == {
        "all/quick": "completed", "all/s0": "cancelled", "all/s1": "cancelled",
        "never": "not_started",
    }  # fmt: skip
    assert outputs(run)["all/s1"] == "s1"
    ends = {path: (p.state, p.error) for path, p in told(engine, StepCompleted)}
    assert ends["all"] == ends["all/s0"] == (RunState.CANCELLED, None)


def test_a_step_that_made_nothing_takes_nothing_away(engine: Engine) -> None:
    """A workflow stopped in a silent step has for its output all that was made before."""
    gate = Gate()
    both = Parallel(Script(say("a"), id="a"), Script(say("b"), id="b"))
    assert stopped(engine, gate, both, Script(gate, id="silent")).output == "a\n\nb"


def test_the_first_parallel_step_that_fails_stops_the_others(engine: Engine) -> None:
    """When a parallel step fails the others are stopped, cause PARENT, and the workflow fails."""
    gate = Gate()

    def fails(input: str) -> str:
        gate.wait_reached()
        raise ValueError("no")

    run = done(engine, Parallel(Script(say("part"), gate, id="slow"), fails, name="all"))
    assert run.state is RunState.FAILED
    assert states(run) == {"all/slow": "cancelled", "all/fails": "failed"}
    assert outputs(run)["all/slow"] == "part"


# --- again, or not, or which


def test_a_loop_goes_on_from_what_it_made(engine: Engine) -> None:
    """A loop's next iteration begins with the last one's content, at most so many times."""
    run = done(engine, Loop([Step("s", executor=adds("x"))], name="l", max_iterations=3))
    assert run.output == "in x x x"
    assert list(outputs(run)) == ["l/1/s", "l/2/s", "l/3/s"]


def test_a_loop_ends_when_its_condition_says_so(engine: Engine) -> None:
    """The end condition is asked after each iteration, with its outputs."""

    async def is_long(outputs: list[StepOutput]) -> bool:
        return len(outputs[0].content) > 5

    run = done(engine, Loop([adds("x")], max_iterations=9, end_condition=is_long))
    assert run.output == "in x x"


def test_a_cancelled_loop_begins_no_further_iteration(engine: Engine) -> None:
    """A cancel in one iteration is the end of the loop."""
    gate = Gate()
    step = Step("s", executor=Script(gate, id="s"), on_error="skip")
    run = stopped(engine, gate, Loop([step, never], name="l", max_iterations=9))
    assert states(run) == {"l/1/s": "cancelled", "l/1/never": "not_started"}
    assert {path: p.state for path, p in told(engine, StepCompleted)} == {
        "l/1/s": RunState.CANCELLED,
        "l": RunState.CANCELLED,
    }


@pytest.mark.parametrize("holds", [True, False])
def test_a_condition_decides(engine: Engine, holds: bool) -> None:
    """A condition's steps are done if it holds, else the others; those not done are listed so."""
    yes, no = Step("yes", executor=adds("yes")), Step("no", executor=adds("no"))
    run = done(engine, Condition(lambda given: holds, [yes], else_steps=[no], name="c"))
    assert run.output == f"in {'yes' if holds else 'no'}"
    assert sorted(states(run).values()) == ["completed", "not_started"]


def test_a_router_chooses(engine: Engine) -> None:
    """A router does what its selector returns: one or several, each as itself or by name."""
    a, b, c = (Step(name, executor=adds(name)) for name in "abc")
    for run_id, chosen in (("r", "b"), ("several", [c, "a"])):
        start(engine, Router(lambda given, c=chosen: c, [a, b, c], name="x"), run_id=run_id)
    assert ended(engine).output == "in b"
    assert ended(engine, "several").output == "in c a"


def test_a_router_that_chooses_nothing_that_exists_fails(engine: Engine) -> None:
    """A selector's unknown choice fails the workflow, and its words say what there is."""
    run = done(engine, Router(lambda given: "x", [Step("a", executor=never)]))
    assert run.error is not None
    assert "no choice 'x', only a" in run.error.message


@pytest.mark.parametrize("kind", [Condition, Router])
@pytest.mark.parametrize("mode", CancelMode)
def test_no_step_begins_after_a_cancel_of_the_decision(
    engine: Engine, kind: Any, mode: CancelMode
) -> None:
    """A cancel while a condition or a selector decides begins none of their steps."""
    reached = Gate()
    release = threading.Event()

    def decide(given: StepInput) -> Any:
        reached._reached.release()
        while not release.wait(0.001):
            pass
        return "never"

    run = stopped(engine, reached, kind(decide, [Step("never", executor=never)], name="d"), never)
    release.set()
    assert states(run) == {"d/never": "not_started", "never": "not_started"}
    assert {path: p.state for path, p in told(engine, StepCompleted)} == {"d": RunState.CANCELLED}


def test_a_decision_that_swallows_its_cancel_begins_nothing_either(engine: Engine) -> None:
    """Even a decision that ignores being stopped, and decides, begins no step."""
    gate = Gate(deaf=True)

    async def decide(given: StepInput) -> bool:
        waiting: Any = gate(None)  # type: ignore[arg-type]  # in a task it needs no context
        await waiting
        return True

    start(engine, Condition(decide, [never]))
    gate.wait_reached()
    cancel(engine)
    while not gate.swallowed:
        threading.Event().wait(0.001)  # nobody is told of this
    gate.open()
    run = ended(engine)
    assert (run.state, states(run)) == (RunState.CANCELLED, {"condition/never": "not_started"})


# --- workflows in workflows


@pytest.mark.parametrize("mode", CancelMode)
def test_a_cancelled_nested_workflow_is_no_success(engine: Engine, mode: CancelMode) -> None:
    """A workflow in a workflow that is stopped is cancelled, with its own list of steps."""
    gate = Gate()
    inner = Workflow(id="inner", steps=[Script(say("a"), id="a"), Script(say("b"), gate, id="b")])
    run = stopped(engine, gate, Step("deep", workflow=inner, on_error="skip"), never, mode=mode)
    assert states(run) == {"deep": "cancelled", "never": "not_started"}
    assert run.output_data is not None
    deep = run.output_data["steps"][0]["output_data"]["steps"]
    assert [(s["state"], s["output"]) for s in deep] == [("completed", "a"), ("cancelled", "b")]


def test_a_nested_workflow_that_is_cancelled_alone_is_shown_so(engine: Engine) -> None:
    """A nested workflow's own cancel is told as such, and the outer one goes on."""
    gate = Gate()
    start(
        engine, Workflow(id="inner", steps=[Script(say("half"), gate, id="a"), never]), adds("on")
    )
    gate.wait_reached()
    (inner,) = engine.list_page(RunFilter(runnable="workflows/inner"), 10).runs
    cancel(engine, inner.run_id)
    run = ended(engine)
    assert (run.output, states(run)["inner"]) == ("half on", "cancelled")
    ends = {path: p.state for path, p in told(engine, StepCompleted)}
    assert ends["inner"] is RunState.CANCELLED


# --- writing them down


def test_what_makes_no_workflow_is_refused() -> None:
    """A workflow needs steps, a step one runnable, and numbers make sense."""
    for make in (
        lambda: Workflow(steps=[]),
        lambda: Step("s"),
        lambda: Step("s", executor=never, agent=Script()),
        lambda: Step("s", executor=never, retries=-1),
        lambda: Step("s", executor=never, on_error="ignore"),  # type: ignore[arg-type]
        lambda: Loop([never], max_iterations=0),
        Parallel,
    ):
        with pytest.raises(ValueError, match=r"\w"):
            make()


def test_steps_have_ids_of_their_own(engine: Engine) -> None:
    """A step is named by its name, else by its runnable's id, and equal ones are told apart."""
    run = done(engine, Step("Écrire", executor=adds("x")), Step("研究", executor=adds("y")),
               Script(id="s"), Script(id="s"), lambda input: input)  # fmt: skip
    assert list(states(run)) == ["crire", "step-2", "s", "s-2", "lambda"]
