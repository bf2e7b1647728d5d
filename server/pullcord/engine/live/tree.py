"""A tree of runs that only waits: for decisions at its leaves, and for children everywhere else.

If each of its runs has handed over from what another execution can go on, the whole tree can do
without its code. Nothing is decided about a run here.

1. It waits so only while nothing of it is at work: every live child of a run is one that its code
   has named when it handed over, and nothing has entered any of its logs since.
2. Other branches are looked at without their locks. What counts in the end are the numbers that the
   store has: a run that makes anything after it handed over is no longer part of such a tree.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pullcord.engine.live.facts import Standing
from pullcord.engine.live.lineage import Kin
from pullcord.run.port import Execution
from pullcord.run.resumed import HandedOver
from pullcord.run.state import RunState


def waits(run: Kin) -> bool:
    """Whether the run and all its children wait, and each can go on without its code."""
    machine, children = run.machine, run.lineage.children()
    if (asked := machine.question) is not None:
        can = asked.continuation is not None and not children
        return can and (run.lineage.parent is None or asked.sequence == run.log.seal())
    stands = machine.standing
    if stands is None or machine.state is not RunState.RUNNING or machine.cancellation is not None:
        return False
    return (
        stands.sequence == run.log.seal()
        and {child.run_id for child in children} == set(stands.children)
        and all(map(waits, children))
    )


def would_wait(run: Kin, above: Sequence[HandedOver]) -> bool:
    """Whether the whole tree of this run, which is about to ask, would wait so. `above` is what its
    parents have handed over, the nearest first."""
    for handed in above:
        parent = run.lineage.parent
        if parent is None:
            return False
        children = parent.lineage.children()
        if {child.run_id for child in children} != set(handed.children):
            return False
        if not all(waits(child) for child in children if child is not run):
            return False
        run = parent
    return run.lineage.parent is None


def hand_over(run: Kin | None, handed: Sequence[HandedOver]) -> None:
    """This run and its parents stand with what they have handed over, the nearest first. All must
    be `locked`."""
    for one in handed:
        if run is None:
            return
        run.machine.standing = Standing(one.continuation, one.children, run.log.seal())
        run = run.lineage.parent


def hold(root: Kin) -> None:
    """The tree waits, also in its store: what any of its runs makes next is shown once that has
    it."""
    for run in whole(root):
        if (stands := run.machine.standing) is not None:
            stands.holds = True
            run.log.hold(stands.sequence)
        elif (asked := run.machine.question) is not None:
            run.log.hold(asked.sequence)
        run.log.ring()  # the journal has something to write


def rest(run: Kin, assignment: int) -> bool:
    """Whether the run waits on without the execution of this assignment, which is gone or about to
    go. Only a pause that was given a continuation does, and a tree of nothing but such."""
    with run.lock:
        if run.rests:
            return True
        if run.lineage.parent is None and not run.lineage.children():
            return run.machine.assignment == assignment and run.rest_alone()
    root = run.lineage.root
    if run.machine.assignment != assignment or not waits(root):
        return False
    return all(one.rest_alone() for one in list(whole(root)))


def lay_down(root: Kin, *, fenced: bool = False) -> list[Execution] | None:
    """Lets go of a tree that waits, if it can be continued elsewhere and nobody is deciding about
    it just now. Returns the executions of its code, which is of no use any more; None: nothing was
    changed. `fenced`: the store refuses such a decision."""
    with locked(root) as runs:
        if not fenced and any(run.is_deciding for run in runs):
            return None
        if any(run.machine.cancellation is not None for run in runs):
            return None  # it is about to end
        executions = [run.execution for run in runs if run.execution is not None]
        if not rest(root, root.machine.assignment):
            return None
        for run in runs:
            run.put_down()
    return executions


def whole(root: Kin) -> Iterator[Kin]:
    """The live runs of a tree, children before their parents, always in the same order."""
    for child in sorted(root.lineage.children(), key=lambda child: child.run_id):
        yield from whole(child)
    yield root


@contextmanager
def locked(root: Kin) -> Iterator[list[Kin]]:
    """Holds the locks of all runs of a tree: those runs, children before their parents."""
    with ExitStack() as locks:
        runs = list(whole(root))
        for run in runs:
            locks.enter_context(run.lock)
        yield runs
