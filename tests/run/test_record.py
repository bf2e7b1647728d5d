"""The rules of a spec: what a caller may ask for, and how each mistake is named."""

from dataclasses import replace

import pytest
from pullcord.run.errors import InvalidArgument
from pullcord.run.message import Message, Part
from pullcord.run.record import DisconnectPolicy, Run, RunFilter, RunSpec, SessionPolicy
from pullcord.run.runnable import slug
from pullcord.run.state import RunState
from pullcord.run.usage import Limits

GOOD = RunSpec("agents/story-writer")


@pytest.mark.parametrize(
    "spec",
    [
        GOOD,
        RunSpec("teams/a", "x" * 100, run_id="r-1", session_id="s:1", user_id="ada@example.org"),
        RunSpec("workflows/a.b_c", limits=Limits(1.0, 1, 0.5, 1, 1), labels={"k": ""}),
        RunSpec("agents/a", on_disconnect=DisconnectPolicy.LEASE, lease=30.0),
        RunSpec("agents/a", input_data={"a": [1, None]}),
    ],
)
def test_good_specs_pass(spec: RunSpec) -> None:
    """A spec that keeps the rules is taken."""
    spec.check(100)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"runnable": ""}, "runnable"),
        ({"runnable": "story-writer"}, "runnable"),
        ({"runnable": "agents/Story"}, "runnable"),
        ({"runnable": "agents/a\n"}, "runnable"),
        ({"input": "\ud83d"}, "input"),
        ({"input_data": {"a": [1, {"b": "\ud83d"}]}}, "input_data.a[1].b"),
        ({"input_data": {"a": {"\ud83d": 1}}}, "input_data.a"),
        ({"labels": {"k": "\ud83d"}}, "labels.k"),
        ({"parts": (Part("\ud83d"),)}, "parts[0].text"),
        ({"messages": (Message.of("user", "\ud83d"),)}, "messages[0].parts[0].text"),
        ({"limits": Limits(max_tokens=2**63)}, "limits.max_tokens"),
        ({"limits": Limits(max_steps=2**31)}, "limits.max_steps"),
        ({"limits": Limits(max_tool_calls=2**31)}, "limits.max_tool_calls"),
        ({"run_id": "a b"}, "run_id"),
        ({"run_id": "x" * 129}, "run_id"),
        ({"session_id": "ä"}, "session_id"),
        ({"user_id": "a b"}, "user_id"),
        ({"input": "ä" * 51}, "input"),
        ({"input_data": {"a": "x" * 100}}, "input_data"),
        ({"labels": {"": "x"}}, "labels['']"),
        ({"labels": {"k": "x" * 257}}, "labels['k']"),
        ({"labels": {str(n): "" for n in range(65)}}, "labels"),
        ({"limits": Limits(timeout=0)}, "limits.timeout"),
        ({"limits": Limits(timeout=float("nan"))}, "limits.timeout"),
        ({"limits": Limits(timeout=31 * 86400.0)}, "limits.timeout"),
        ({"limits": Limits(max_tokens=0)}, "limits.max_tokens"),
        ({"limits": Limits(max_cost=float("inf"))}, "limits.max_cost"),
        ({"limits": Limits(max_steps=-1)}, "limits.max_steps"),
        ({"limits": Limits(max_tool_calls=0)}, "limits.max_tool_calls"),
        ({"lease": 1.0}, "lease"),
        ({"session_policy": SessionPolicy.QUEUE}, "session_policy"),
        ({"lease": -1.0, "on_disconnect": DisconnectPolicy.LEASE}, "lease"),
    ],
)
def test_each_mistake_is_named(change: dict[str, object], field: str) -> None:
    """A wrong field is refused by its path, and by nothing else's."""
    with pytest.raises(InvalidArgument) as raised:
        replace(GOOD, **change).check(100)  # type: ignore[arg-type]  # wrong on purpose
    assert [v.field for v in raised.value.violations] == [f"spec.{field}"]


def test_every_mistake_is_named_at_once() -> None:
    """A caller is told of all wrong fields in one answer."""
    with pytest.raises(InvalidArgument) as raised:
        RunSpec("x", run_id="?", user_id="?", limits=Limits(max_tokens=0)).check(10, "")
    fields = [v.field for v in raised.value.violations]
    assert fields == ["runnable", "run_id", "user_id", "limits.max_tokens"]


def test_a_filter_matches_what_has_every_field() -> None:
    """An empty filter matches any run; each field that is set must be equal."""
    run = Run("r", "agents/a", RunState.RUNNING, "s", "u", "p", labels={"k": "v", "l": "w"})
    assert RunFilter().matches(run)
    full = RunFilter("s", "u", "agents/a", "p", frozenset({RunState.RUNNING}), {"k": "v"})
    assert full.matches(run)
    for wrong in (
        replace(full, session_id="x"),
        replace(full, user_id="x"),
        replace(full, runnable="agents/b"),
        replace(full, parent_run_id="x"),
        replace(full, states=frozenset({RunState.FAILED})),
        replace(full, labels={"k": "x"}),
        replace(full, labels={"m": ""}),
    ):
        assert not wrong.matches(run)


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("StorytellerAgent", "storyteller-agent"),
        ("Storytelling Team", "storytelling-team"),
        ("HTTPServer 2", "http-server-2"),
        ("count_up", "count-up"),
    ],
)
def test_ids_are_made_of_names(name: str, id: str) -> None:
    """A name becomes an id that a spec can name."""
    assert slug(name) == id
    RunSpec(f"agents/{slug(name)}").check(1)


def test_a_name_without_letters_makes_no_id() -> None:
    """A name of which nothing can be part of an id is refused with the way out."""
    with pytest.raises(ValueError, match="give an id"):
        slug("故事")
