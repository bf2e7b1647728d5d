"""The console in a real browser: what a person sees and does, against a real server."""

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from pullcord.run.cancel import CancelMode
from pullcord.run.record import RunFilter
from pullcord.run.state import RunState

from tests.chromium import Window
from tests.console.conftest import Desk

pytestmark = pytest.mark.timeout(300)


def opened(page: Page, run_id: str) -> None:
    """Opens a run by its row."""
    page.locator(f'[data-run="{run_id}"] a').click()
    expect(page.locator(".run .head")).to_be_visible()


def test_start_watch_and_stop(page: Page, desk: Desk) -> None:
    """A run is started by the form, its text arrives, and Stop keeps it: who, why, how long."""
    page.get_by_role("button", name="Help and settings").click()
    page.get_by_label("Your name").fill("ann")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="New run").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Runnable").select_option("agents/play")
    form.get_by_label("Input").fill(json.dumps([{"say": "kept"}, {"wait": "never"}]))
    expect(form.get_by_label("Session")).not_to_be_visible()
    form.get_by_text("Session, user, labels and limits").click()
    form.get_by_label("Session").fill("chat-1")
    form.get_by_label("Tokens").fill("1000")
    form.get_by_role("button", name="As a command").click()
    expect(form.locator(".copy code")).to_contain_text("curl http://127.0.0.1")
    form.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".said .words")).to_have_text("kept")
    expect(page.locator(".head .state")).to_have_text("Running")
    expect(page.locator("meter")).to_have_count(1)

    page.get_by_label("Reason for the stop").fill("that will do")
    page.locator(".pull").get_by_role("button", name="Stop").click()
    receipt = page.locator(".receipt")
    expect(receipt).to_contain_text(re.compile(r"Stopped by ann.*that will do.*took \d+ ms"))
    expect(page.locator(".said .words")).to_have_text("kept")
    receipt.get_by_text("Receipt").click()
    expect(receipt).to_contain_text("somebody asked")
    expect(receipt).to_contain_text(re.compile(r"Code told\d+ ms later"))
    expect(page.locator(".row .state").first).to_have_text("Stopped")
    expect(page.locator("#spoken")).to_contain_text("agents/play: Stopped after")

    (run,) = desk.client.list(RunFilter(session_id="chat-1"))
    assert run.state is RunState.CANCELLED
    assert run.cancellation is not None
    assert (run.cancellation.actor, run.cancellation.reason) == ("ann", "that will do")
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("dialog").get_by_label("Session")).to_have_value("chat-1")


def test_stop_then_stop_now(page: Page, desk: Desk) -> None:
    """Stop waits for a tool call, in words; Stop now, offered then, interrupts it."""
    run = desk.start({"say": "a"}, {"tool": {"name": "print", "steps": [{"wait": "never"}]}})
    opened(page, run.run_id)
    expect(page.locator(".tree")).to_contain_text("print")
    pull = page.locator(".pull")
    pull.get_by_role("button", name="Stop", exact=False).click()
    expect(page.locator(".head .state")).to_have_text("Stopping")
    expect(page.locator(".receipt")).to_contain_text(re.compile(r"Stopping by .*asked \d+ s ago"))
    pull.get_by_role("button", name="Stop now").click()
    expect(page.locator(".head .state")).to_have_text("Stopped")
    expect(page.locator(".tree .state")).to_have_text("Interrupted")
    ended = desk.client.get(run.run_id)
    assert ended.cancellation is not None
    assert ended.cancellation.mode is CancelMode.IMMEDIATE


def test_each_row_has_a_stop_button(page: Page, desk: Desk) -> None:
    """Stop is on the row of a silent run from its first moment, and nothing has to be opened."""
    silent = desk.start({"wait": "never"})
    page.locator(f'[data-run="{silent.run_id}"]').get_by_role("button", name="Stop").click()
    expect(page.locator(f'[data-run="{silent.run_id}"] .state')).to_have_text("Stopped")
    assert desk.client.get(silent.run_id).state is RunState.CANCELLED


def test_reload_in_the_middle(page: Page, desk: Desk) -> None:
    """A page that is loaded again shows all of the run, and follows it to its end."""
    run = desk.start({"say": "one "}, {"wait": "go-on"}, {"say": "two"})
    opened(page, run.run_id)
    expect(page.locator(".said .words")).to_have_text("one ")
    page.reload()
    expect(page.locator(".said .words")).to_have_text("one ")
    desk.open("go-on")
    expect(page.locator(".said .words")).to_have_text("one two")
    expect(page.locator(".head .state")).to_have_text("Completed")


def test_two_tabs(window: Callable[..., Window], desk: Desk) -> None:
    """What one tab stops, the other shows as stopped, with whose words."""
    run = desk.start({"say": "both"}, {"wait": "never"})
    profile = window()
    one, two = (profile.page(f"{desk.url}/?run={run.run_id}") for _ in range(2))
    expect(two.locator(".said .words")).to_have_text("both")
    one.get_by_label("Reason for the stop").fill("from the other tab")
    one.locator(".pull").get_by_role("button", name="Stop").click()
    expect(two.locator(".receipt")).to_contain_text("from the other tab")
    expect(two.locator(".head .state")).to_have_text("Stopped")


def test_a_tree_of_steps(page: Page, desk: Desk) -> None:
    """Steps and children have lines of their own, each with its state, its time and its output."""
    run = desk.client.start("workflows/evening-paper", "3")
    opened(page, run.run_id)
    plan = page.locator(".branch", has_text="Plan").first
    expect(plan.locator(".state").first).to_have_text("Completed")
    plan.locator("summary").click()
    expect(plan.locator("pre")).to_have_text("Tonight: 3")
    expect(page.locator(".branch .mark.running").first).to_be_attached()
    page.locator(".pull").get_by_role("button", name="Stop").click()
    expect(page.locator(".head .state")).to_have_text("Stopped")
    expect(page.locator(".branch .state.running")).to_have_count(0)


def test_steps_within_an_agent(page: Page, desk: Desk) -> None:
    """An agent's own steps have lines by their names, in a run alone and beneath a child; what
    never said its end has that of its run."""
    nodes = [
        {"step": {"id": "n1", "name": "draft"}},
        {"step": {"id": "n2", "name": "gate", "steps": [{"wait": "never"}]}},
    ]
    done = {"step": {"id": "n0", "name": "look"}}
    run = desk.start(done, {"start": {"id": "asks", "steps": nodes}})
    opened(page, run.run_id)
    names = page.locator(".tree .name")
    expect(names).to_have_text(["look", "asks", "draft", "gate"])
    expect(page.locator(".tree .state")).to_have_text(
        ["Completed", "Running", "Completed", "Running"]
    )
    page.locator(".pull").get_by_role("button", name="Stop").click()
    expect(page.locator(".head .state")).to_have_text("Stopped")
    expect(names).to_have_text(["look", "asks", "draft", "gate"])
    expect(page.locator(".tree .state")).to_have_text(
        ["Completed", "Stopped", "Completed", "Stopped"]
    )


def test_a_failure_is_told_from_a_stop(page: Page, desk: Desk) -> None:
    """A run that raised says Failed and why, and keeps what it had said."""
    run = desk.start({"say": "half"}, {"no such step": 1})
    opened(page, run.run_id)
    expect(page.locator(".head .state")).to_have_text("Failed")
    expect(page.locator(".failure")).to_contain_text("KeyError")
    expect(page.locator(".said .words")).to_have_text("half")


def test_approval(page: Page, desk: Desk) -> None:
    """What waits for a decision is counted in the bar, and goes on when it is decided."""
    ask = {"question": "Send it?", "calls": [{"id": "c1", "name": "send", "arguments": "{}"}]}
    run = desk.start({"ask": ask}, {"say": "gone on"})
    page.get_by_role("button", name="1 waits for a decision").click()
    expect(page).to_have_url(re.compile(r"state=waiting"))
    opened(page, run.run_id)
    question = page.locator(".ask")
    expect(question).to_contain_text("Send it?")
    expect(question.get_by_role("button", name="Go on")).to_be_disabled()
    question.get_by_label("Decline").check()
    question.get_by_label("Note").fill("not today")
    question.get_by_role("button", name="Go on").click()
    expect(page.locator(".said .words")).to_have_text("gone on")
    (call,) = desk.client.get(run.run_id).tool_calls
    assert call.state.name == "DECLINED"


def test_stop_many(page: Page, desk: Desk) -> None:
    """Many runs are stopped by a filter: first which they are, then one confirmation."""
    ours = [desk.start({"wait": "never"}, labels={"team": "red"}) for _ in range(3)]
    other = desk.start({"wait": "never"}, labels={"team": "blue"})
    page.get_by_role("button", name="Stop many").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Which runs").click()
    expect(dialog.get_by_role("alert")).to_be_visible()  # no field at all
    dialog.get_by_label("Labels").fill("team=red")
    dialog.get_by_role("button", name="Which runs").click()
    expect(dialog.get_by_text("3 live runs will stop")).to_be_visible()
    expect(dialog.locator(".preview li")).to_have_count(3)
    dialog.get_by_label("Reason").fill("the whole team")
    dialog.get_by_role("button", name="Stop 3 runs").click()
    expect(dialog.get_by_role("status")).to_contain_text("3 runs are stopping.")
    for run in ours:
        ended = desk.client.wait(run.run_id, 30)
        assert ended.cancellation is not None
        assert ended.cancellation.reason == "the whole team"
    assert desk.client.get(other.run_id).state is RunState.RUNNING


def test_stop_many_stops_no_more_than_were_shown(page: Page, desk: Desk) -> None:
    """A run that came after the preview is not stopped unseen: nothing is, and the list is new."""
    desk.start({"wait": "never"}, labels={"team": "green"})
    page.get_by_role("button", name="Stop many").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Labels").fill("team=green")
    dialog.get_by_role("button", name="Which runs").click()
    expect(dialog.get_by_text("1 live run will stop")).to_be_visible()
    late = desk.start({"wait": "never"}, labels={"team": "green"})
    dialog.get_by_role("button", name="Stop 1 run").click()
    expect(dialog.get_by_role("alert")).to_contain_text("nothing was stopped")
    expect(dialog.locator(".preview li")).to_have_count(2)
    assert desk.client.get(late.run_id).state is RunState.RUNNING


def test_keys_alone(page: Page, desk: Desk) -> None:
    """A run is found, opened, stopped and stopped now without a pointer; keys can be off."""
    run = desk.start({"say": "a"}, {"tool": {"name": "slow", "steps": [{"wait": "never"}]}})
    expect(page.locator(f'[data-run="{run.run_id}"]')).to_be_visible()
    keys = page.keyboard
    keys.press("/")
    expect(page.locator(".fields input").first).to_be_focused()
    keys.type("agents/play")
    expect(page).to_have_url(re.compile("runnable=agents"))
    page.locator("body").evaluate("() => document.activeElement.blur()")
    keys.press("j")
    expect(page.locator(f'[data-run="{run.run_id}"] a')).to_be_focused()
    keys.press("Enter")
    expect(page.locator(".head h1")).to_have_text("agents/play")
    keys.press("s")
    expect(page.locator(".head .state")).to_have_text("Stopping")
    keys.press("Shift+S")
    expect(page.locator(".head .state")).to_have_text("Stopped")
    keys.press("Escape")
    expect(page.locator(".head")).to_have_count(0)
    expect(page.locator(f'[data-run="{run.run_id}"] a')).to_be_focused()
    keys.press("?")
    page.get_by_label("Single keys do something").uncheck()
    keys.press("Escape")
    keys.press("n")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_view_can_be_sent(page: Page, desk: Desk) -> None:
    """The filter and the open run are in the address: a colleague sees the same."""
    run = desk.start({"wait": "never"}, session_id="chat-9", labels={"tier": "gold"})
    hidden = desk.start({"wait": "never"}, session_id="chat-8")
    page.goto(f"{desk.url}/?state=live&session=chat-9&label=tier%3Dgold&run={run.run_id}")
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator(".head .facts")).to_contain_text(run.run_id)
    expect(page.locator(f'[data-run="{hidden.run_id}"]')).to_have_count(0)


def test_the_list_does_not_jump(page: Page, desk: Desk) -> None:
    """While the pointer is over the list, rows stay where they are and newer ones are counted."""
    first = desk.start({"wait": "never"})
    line = page.locator(f'[data-run="{first.run_id}"]')
    line.hover()
    before = line.bounding_box()
    second = desk.start({"wait": "never"})
    newer = page.get_by_role("button", name="newer run")
    expect(newer).to_be_visible()
    expect(page.locator(f'[data-run="{second.run_id}"]')).to_have_count(0)
    desk.client.cancel(first.run_id)
    expect(line.locator(".state")).to_have_text("Stopped")  # its state is fresh all the same
    after = line.bounding_box()
    assert before is not None
    assert after is not None
    assert after["y"] == before["y"]
    newer.click()
    expect(page.locator(f'[data-run="{second.run_id}"]')).to_be_visible()


def test_text_follows_its_end(page: Page, desk: Desk) -> None:
    """Long text follows its end, unless one scrolls up; a button goes back to it."""
    lines = {"repeat": {"times": 200, "text": "line #\n"}}
    run = desk.start(lines, {"wait": "more"}, {"say": "the last line"}, {"wait": "never"})
    opened(page, run.run_id)
    box = page.locator(".said")
    expect(box).to_contain_text("line 199")
    end = "box => box.scrollHeight - box.scrollTop - box.clientHeight"
    assert box.evaluate(end) < 24
    box.hover()
    page.mouse.wheel(0, -2000)
    to_end = page.get_by_role("button", name="To the end")
    expect(to_end).to_be_visible()
    desk.open("more")
    expect(box).to_contain_text("the last line")
    assert box.evaluate(end) > 24
    to_end.click()
    expect(to_end).to_have_count(0)
    assert box.evaluate(end) < 24


def test_an_event_as_json(page: Page, desk: Desk) -> None:
    """Each event can be seen as the JSON that a client gets."""
    run = desk.start({"emit": {"name": "mark", "data": {"here": True}}})
    opened(page, run.run_id)
    page.get_by_text("Events: 3").click()
    page.get_by_role("button", name="custom").click()
    expect(page.locator(".raw pre")).to_contain_text('"here": true')


def test_how_far_it_has_come(page: Page, desk: Desk) -> None:
    """A run that counts its own progress has a bar for it, with its own words."""
    run = desk.client.start("agents/copies")
    opened(page, run.run_id)
    expect(page.locator(".bars")).to_contain_text("copying 3 of 10")
    expect(page.locator("progress")).to_have_js_property("value", 3)


def test_a_gap_is_shown_as_one(page: Page, desk: Desk) -> None:
    """Where the server no longer keeps the first events, the page says which; the text is whole."""
    long = {
        "repeat": {"times": 3000, "text": "one of many lines of a long log, number #\n", "long": 3}
    }
    run = desk.start(long, {"say": "the end"})
    desk.client.wait(run.run_id, 60)
    opened(page, run.run_id)
    expect(page.locator(".gap")).to_contain_text("are no longer kept")
    expect(page.locator(".said")).to_contain_text("number 0\n")
    expect(page.locator(".said")).to_contain_text("the end")
