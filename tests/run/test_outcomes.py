"""The list of what runs beneath came to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pullcord.run.events import RunError
from pullcord.run.outcomes import MAX_BYTES, Outcomes, with_ends, with_pauses
from pullcord.run.plain import plain
from pullcord.run.record import Run
from pullcord.run.state import RunState


def run(output: str = "", **more: object) -> Run:
    return Run("r", "agents/a", RunState.COMPLETED, output=output, **more)  # type: ignore[arg-type]


def test_an_entry_says_how_far_it_has_come() -> None:
    """An entry is not started, running, and then in the state of its run, in its first place."""
    outcomes = Outcomes("steps")
    outcomes.expect(1, {"path": "a"})
    outcomes.expect(2, {"path": "b"})
    assert [e["state"] for e in outcomes.data()["steps"]] == ["not_started", "not_started"]
    outcomes.begin(1, {"path": "a"}, "r")
    assert outcomes.data()["steps"][0] == {
        "path": "a", "run_id": "r", "state": "running", "output": ""
    }  # fmt: skip
    outcomes.keep(1, {"path": "a"}, run("made", output_data={"n": 1}))
    outcomes.refuse(2, {"path": "b"}, RunError("ServerBusy", "full"))
    first, second = outcomes.data()["steps"]
    assert (first["state"], first["output"], first["output_data"]) == (
        "completed",
        "made",
        {"n": 1},
    )
    assert (second["state"], second["error"]["type"]) == ("failed", "ServerBusy")


@given(st.lists(st.tuples(st.text(), st.sampled_from([0, 10, 30_000, 150_000])), max_size=8))
def test_the_list_fits_a_message(parts: list[tuple[str, int]]) -> None:
    """Whatever was made, the list is never larger than its bound; what was cut is marked."""
    outcomes = Outcomes("members")
    for key, (text, repeat) in enumerate(parts):
        made = run((text or "é") * max(1, repeat // max(1, len(text))), output_data={"t": text})
        outcomes.keep(key, {"member": "m"}, made)
        plain(outcomes.data(), "data", MAX_BYTES + 256)
        entry = outcomes.data()["members"][-1]
        assert made.output.startswith(entry["output"])
        assert entry.get("truncated") or entry["output"] == made.output


def test_the_oldest_entries_make_room() -> None:
    """A list with more entries than fit drops the oldest, and says how many."""
    outcomes = Outcomes("steps")
    for key in range(3000):
        outcomes.keep(key, {"path": f"loop/{key}"}, run("x"))
    data = outcomes.data()
    assert data["dropped"] + len(data["steps"]) == 3000
    assert data["steps"][-1]["path"] == "loop/2999"
    with pytest.raises(ValueError, match="at most"):
        plain(data, "data", 1024)


def test_data_of_an_authors_own_is_left_as_it_is() -> None:
    """Only a list that an Outcomes has made says of its runs that they wait, or have ended."""
    for data in (
        {"steps": 3},
        {"steps": [{"run_id": "r", "state": "running"}]},
        {"members": ["r"]},
        {"made": [{"path": "a", "run_id": "r", "state": "running", "output": ""}]},
    ):
        assert with_pauses(data, {"r"}) == data
        assert with_ends(data, {"r": run("made")}) == data


def test_a_list_learns_of_ends_from_outside() -> None:
    """An entry whose run has ended says so; the others stay, and what belongs to the data."""
    outcomes = Outcomes("members")
    outcomes.begin("r", {"member": "m"}, "r")
    outcomes.begin("other", {"member": "m"}, "other")
    before = outcomes.data()
    waits = {**before["members"][0], "state": "paused"}
    assert with_pauses(before, {"r"}) == {"members": [waits, before["members"][1]]}
    outcomes.keep("r", {"member": "m"}, run("made"))
    assert with_ends({**before, "more": 1}, {"r": run("made")}) == {**outcomes.data(), "more": 1}
    assert before["members"][0]["state"] == "running"
