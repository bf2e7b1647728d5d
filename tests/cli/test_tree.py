"""What a run's tree has come to, by the events and the data of its run."""

from collections.abc import Sequence

from pullcord.cli.branches import rows
from pullcord.cli.tree import MAX_BRANCHES, Tree
from pullcord.run import events
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.events import Event, Payload, RunError, Source, SourceKind
from pullcord.run.state import RunState


def _event(path: str, payload: Payload, run_id: str = "", time: float = 100.0) -> Event:
    """Of a step, unless a run_id says that it is of a run beneath."""
    ids = tuple(path.split("/"))
    kind = SourceKind.AGENT if run_id else SourceKind.STEP
    return Event("root", 1, time, payload, Source(kind, ids[-1], "", run_id or "root", ids))


def _shown(tree: Tree, height: int | None = None, width: int = 90) -> list[str]:
    return [" ".join(row.plain.split()) for row in rows(tree, 104.0, width, height)]


def _tree(*told: Event, runnable: str = "workflows/w", expect: Sequence[str] = ()) -> Tree:
    tree = Tree(runnable)
    tree.expect(expect)
    for event in told:
        tree.tell(event)
    return tree


def test_a_step_and_its_run_are_one_branch() -> None:
    """A step shows what its run says; what is beneath its run is beneath the step."""
    tree = _tree(
        _event("w/inner", events.StepStarted("inner", "Inner")),
        _event("w/inner/inner", events.RunStarted("workflows/inner"), "r1"),
        _event("w/inner/inner/inner", events.StepStarted("inner")),
        _event("w/inner/inner/inner/say", events.RunStarted("agents/say"), "r2"),
        _event("w/inner/inner/inner/say", events.ContentDelta("hel"), "r2"),
        _event("w/inner/inner/inner/say", events.ContentDelta("lo there"), "r2"),
        expect=["inner", "last"],
    )
    assert [branch.path for branch in tree] == [("inner",), ("inner", "inner"), ("last",)]
    assert _shown(tree) == [
        "├─ inner ● running 4 s",
        "│ └─ inner ● running 4 s 2 words hello there",
        "└─ last ○ not started",
    ]


def test_iterations_have_a_branch_each() -> None:
    """Each iteration of a loop is a branch, in the state of what is done in it."""
    tree = _tree(
        _event("w/loop", events.StepStarted("loop")),
        _event("w/loop/1/say", events.StepStarted("say")),
        _event("w/loop/1/say", events.StepCompleted("say", output="one"), time=102.0),
        _event("w/loop/2/say", events.StepStarted("say")),
    )
    assert _shown(tree)[1:] == [
        "├─ #1 ✔ completed",
        "│ └─ say ✔ completed 2.0 s 1 word one",
        "└─ #2 ● running",
        "└─ say ● running 4 s",
    ]


def test_a_second_attempt_begins_anew() -> None:
    """A step that is tried again forgets the words of the attempt before, and says so."""
    tree = _tree(
        _event("w/say", events.StepStarted("say", attempt=1)),
        _event("w/say/say", events.RunStarted("agents/say"), "r1"),
        _event("w/say/say", events.ContentDelta("half"), "r1"),
        _event("w/say/say", events.RunFailed(RunError("ValueError", "no")), "r1"),
        _event("w/say", events.StepStarted("say", attempt=2)),
        _event("w/say/say", events.RunStarted("agents/say"), "r2"),
        _event("w/say/say", events.ContentDelta("whole"), "r2"),
    )
    assert _shown(tree) == ["└─ say ● running 4 s 1 word attempt 2 whole"]


def test_a_member_that_is_asked_twice_has_two_branches() -> None:
    """Each run of a team's member is a branch; one that was never asked has not started."""
    tree = _tree(
        _event("t/a", events.RunStarted("agents/a"), "r1"),
        _event("t/a", events.RunStarted("agents/a"), "r2"),
        _event("t/a", events.RunCompleted("done"), "r1", 101.0),
        runnable="teams/t",
        expect=["a", "b"],
    )
    assert _shown(tree) == [
        "├─ a ✔ completed 1.0 s 1 word done",
        "├─ b ○ not started",
        "└─ a ● running 4 s",
    ]


def test_why_a_branch_ended() -> None:
    """A failure says its error, and a branch that was stopped alone says by whom."""
    alone = Cancellation(CancelCause.USER, actor="ann", reason="enough")
    with_all = Cancellation(CancelCause.PARENT, actor="ann", reason="enough")
    tree = _tree(
        *(_event(f"t/{id}", events.RunStarted("agents/a"), id) for id in "abc"),
        _event("t/a", events.RunFailed(RunError("ValueError", "no \x1b[2J words")), "a"),
        _event("t/b", events.RunCancelled(alone), "b"),
        _event("t/c", events.RunCancelled(with_all, "half a word"), "c"),
        runnable="teams/t",
    )
    assert _shown(tree) == [
        "├─ a ✘ failed 0.0 ms ValueError: no [2J words",
        "├─ b ■ cancelled 0.0 ms user, by ann: enough",
        "└─ c ■ cancelled 0.0 ms 3 words half a word",
    ]


def test_the_data_of_a_run_fills_what_was_not_heard() -> None:
    """The data tells of steps that were not heard, also beneath others, and overrides none."""
    tree = _tree(
        _event("w/say", events.StepStarted("say")),
        _event("w/say/say", events.RunStarted("agents/say"), "r1"),
        _event("w/say/say", events.ContentDelta("heard"), "r1"),
    )
    inner = {"steps": [{"path": "deep", "run_id": "r3", "state": "cancelled", "output": "half"}]}
    tree.fill(
        {
            "steps": [
                {"path": "say", "run_id": "r1", "state": "completed", "output": "other words"},
                {"path": "in", "run_id": "r2", "state": "cancelled", "output_data": inner},
                {"path": "group/last", "state": "not_started", "output": ""},
            ]
        }
    )
    told = [(b.path, b.standing(), b.tail) for b in tree if not b.members]
    assert told == [
        (("say",), RunState.COMPLETED, "heard"),
        (("in", "deep"), RunState.CANCELLED, "half"),
        (("group", "last"), None, ""),
    ]


def test_what_is_heard_replaces_what_was_read() -> None:
    """Where the data came first, the words of later events are not added to those it told."""
    tree = _tree()
    tree.fill({"steps": [{"path": "say", "run_id": "r1", "state": "completed", "output": "a b c"}]})
    tree.tell(_event("w/say/say", events.ContentDelta("b c"), "r1"))
    (branch,) = tree
    assert (branch.words, branch.tail) == (2, "b c")


def test_data_of_another_shape_says_nothing() -> None:
    """What is no list of steps or members changes no tree."""
    tree = Tree("workflows/w")
    for data in (None, {}, {"steps": 7}, {"steps": ["a"]}, {"members": [{}]}):
        tree.fill(data)
    assert not tree


def test_a_low_terminal_shows_what_is_at_work() -> None:
    """Where room is scarce, what is at work is shown, and the rest is counted."""
    tree = _tree(
        *(_event(f"w/s{n}", events.StepStarted(f"s{n}")) for n in range(20)),
        *(_event(f"w/s{n}", events.StepCompleted(f"s{n}")) for n in range(20) if n != 11),
        expect=[f"s{n}" for n in range(30)],
    )
    shown = _shown(tree, height=4)
    assert len(shown) == 4
    assert "├─ s11 ● running 4 s" in shown
    assert shown[-1] == "… and 27 more"
    assert len(_shown(tree)) == 30


def test_no_row_is_longer_than_the_terminal() -> None:
    """Rows are cut to the terminal's width, whatever a name or a word is like."""
    tree = _tree(
        _event(f"w/{'n' * 80}", events.StepStarted("n")),
        _event("w/b", events.StepStarted("b")),
        _event("w/b/b", events.ContentDelta("漢字 " * 50), "r1"),
    )
    for width in (20, 40, 60, 100):
        assert all(row.cell_len <= width for row in rows(tree, 0.0, width))


def test_a_tree_is_bounded() -> None:
    """Branches beyond the bound are counted, and not kept."""
    tree = _tree(*(_event(f"w/s{n}", events.StepStarted("s")) for n in range(MAX_BRANCHES + 7)))
    assert len(list(tree)) == MAX_BRANCHES
    assert _shown(tree)[-1] == "… and 7 more"


def test_a_member_that_was_asked_twice_is_shown_twice() -> None:
    """Each run of a member has its own words and state, also where none of it was heard, and
    however often the list is read."""
    tree = Tree("teams/t")
    made = [
        {"member": "a", "run_id": "1", "state": "completed", "output": "one two"},
        {"member": "a", "run_id": "2", "state": "paused", "output": "three four five"},
    ]
    for _ in range(2):
        tree.fill({"members": made})
    assert [(one.id, one.words, one.state) for one in tree] == [
        ("a", 2, RunState.COMPLETED),
        ("a", 3, RunState.PAUSED),
    ]
