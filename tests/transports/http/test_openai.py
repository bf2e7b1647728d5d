"""OpenAI's own client, unchanged, against a real server: Responses, and Chat Completions."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from pullcord import RunContext, needs_approval, runnable
from pullcord.agent import Agent
from pullcord.models.base import Finished, Model, ModelChunk, ModelRequest, Text, ToolRequest
from pullcord.run.events import Custom
from pullcord.run.finish import FinishReason
from pullcord.run.message import Part
from pullcord.run.takes import EVERYTHING

from tests.identity.callers import token_of, write_tokens
from tests.transports.harness import Cause, Served
from tests.transports.http.agents import TEXT, failing, make_waiter, speaker
from tests.transports.http.web import Browser

_STOPPED = {"CANCEL_OUTCOME_REQUESTED", "CANCEL_OUTCOME_STOPPED"}
Both = Callable[..., tuple[Served, Browser]]

IMAGE = {"type": "input_image", "file_id": "of an upload, which there is none of here"}


class Scripted(Model):
    """Answers in turn, with a text or with a call of a tool, and keeps what it was asked."""

    def __init__(self, answers: Sequence[str | ToolRequest]) -> None:
        self._answers = list(answers)
        self.asked: list[ModelRequest] = []

    @property
    def id(self) -> str:
        return "scripted"

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        self.asked.append(request)
        answer = self._answers.pop(0)
        yield Text(answer) if isinstance(answer, str) else answer
        calls = not isinstance(answer, str)
        yield Finished(FinishReason.TOOL_CALLS if calls else FinishReason.STOP)

    def told(self) -> list[str]:
        """The texts of the last conversation it was sent."""
        return [str(message.text) for message in self.asked[-1].messages]


@pytest.fixture
def clients() -> Iterator[Callable[..., OpenAI]]:
    made: list[OpenAI] = []

    def make(browser: Browser, key: str = "none", **options: Any) -> OpenAI:
        made.append(OpenAI(base_url=browser.url + "/v1", api_key=key, max_retries=0, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def _text(events: Any) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


def test_a_response_is_answered_whole_and_streamed(serve_http: Both, clients: Any) -> None:
    _, browser = serve_http(speaker)
    client = clients(browser)
    whole = client.responses.create(model="agents/speaker", input="hello", metadata={"a": "b"})
    assert (whole.status, whole.output_text, whole.metadata) == ("completed", 3 * TEXT, {"a": "b"})
    events = list(client.responses.create(model="agents/speaker", input="hello", stream=True))
    assert events[0].type == "response.created"
    assert _text(events) == events[-1].response.output_text == 3 * TEXT
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    with client.responses.stream(model="agents/speaker", input="hello") as stream:
        assert stream.get_final_response().output_text == 3 * TEXT  # it keeps books of all items


def test_a_background_response_is_followed_resumed_and_cancelled(
    serve_http: Both, clients: Any
) -> None:
    """Also while it is silent; who comes back gets what it has not seen, and nothing twice."""
    waiter, _ = make_waiter()
    _, browser = serve_http(waiter)
    client = clients(browser)
    stream = client.responses.create(model="agents/waiter", input="", background=True, stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    stream.close()
    run_id = seen[0].response.id
    assert client.responses.retrieve(run_id).status == "in_progress"
    rest = client.responses.retrieve(run_id, stream=True, starting_after=seen[-1].sequence_number)
    stopped = client.responses.cancel(run_id)
    assert stopped.pullcord["receipt"]["outcome"] in _STOPPED
    later = list(rest)
    assert _text(later) == ""
    assert later[0].sequence_number > seen[-1].sequence_number
    assert (later[-1].type, later[-1].response.status) == ("response.incomplete", "cancelled")
    assert later[-1].response.output_text == "first"
    again = client.responses.cancel(run_id)
    assert (again.status, again.output_text) == ("cancelled", "first")
    assert again.pullcord["receipt"]["outcome"] == "CANCEL_OUTCOME_STOPPED"


def test_every_place_to_come_back_to_gives_the_same_rest(serve_http: Both, clients: Any) -> None:
    """However deltas were merged when they were first sent."""
    _, browser = serve_http(speaker)
    client = clients(browser)
    events = list(client.responses.create(model="agents/speaker", input="", stream=True))
    run_id = events[0].response.id
    for index, event in enumerate(events):
        rest = list(
            client.responses.retrieve(run_id, stream=True, starting_after=event.sequence_number)
        )
        assert _text(events[: index + 1]) + _text(rest) == 3 * TEXT
        assert [e.type for e in rest if "delta" not in e.type] == [
            e.type for e in events[index + 1 :] if "delta" not in e.type
        ]


def test_a_response_in_the_foreground_stops_when_its_client_leaves(
    serve_http: Both, clients: Any
) -> None:
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter)
    client = clients(browser)
    stream = client.responses.create(
        model="agents/waiter", input="", stream=True, extra_body={"run_id": "r"}
    )
    next(event for event in stream if event.type == "response.output_text.delta")
    stream.close()
    run = served.wait("r")
    assert run.cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT
    assert client.responses.retrieve("r").status == "cancelled"


def test_a_failed_run_is_a_failed_response(serve_http: Both, clients: Any) -> None:
    _, browser = serve_http(failing)
    client = clients(browser)
    *_, end = client.responses.create(model="agents/failing", input="", stream=True)
    assert end.type == "response.failed"
    assert end.response.error.message.startswith("LookupError")
    assert end.response.output_text == "before "


def test_conversations_go_on_by_the_response_before(serve_http: Both, clients: Any) -> None:
    """The model gets what was said before, and the instructions of this turn."""
    model = Scripted(["one", "two", "three"])
    _, browser = serve_http(Agent(id="a", model=model))
    client = clients(browser)
    first = client.responses.create(model="agents/a", input="1")
    second = client.responses.create(model="agents/a", input="2", previous_response_id=first.id)
    third = client.responses.create(
        model="agents/a",
        input=[{"role": "user", "content": [{"type": "input_text", "text": "3"}]}],
        instructions="be brief",
        previous_response_id=second.id,
    )
    assert third.output_text == "three"
    assert model.told() == ["be brief", "1", "one", "2", "two", "3"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="agents/a", input="4", previous_response_id=first.id)
    assert caught.value.param == "previous_response_id"


def test_files_reach_the_runnable(serve_http: Both, clients: Any) -> None:
    @runnable
    def shown(context: RunContext) -> Iterator[str]:
        """Says what it was given."""
        yield f"{context.input} {[(p.media_type, p.data, p.uri) for p in context.parts]}"

    shown.takes = EVERYTHING
    _, browser = serve_http(shown)
    answer = clients(browser).responses.create(
        model="agents/shown",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "look"},
                    {
                        "type": "input_image",
                        "image_url": "data:image/png;base64,aGk=",
                        "detail": "auto",
                    },
                    {"type": "input_file", "file_url": "https://example.org/a.pdf"},
                ],
            }
        ],
    )
    part = Part(data=b"hi", media_type="image/png")
    linked = ("application/pdf", None, "https://example.org/a.pdf")
    assert answer.output_text == f"look {[(part.media_type, part.data, None), linked]}"


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"temperature": 0.3}, "temperature"),
        ({"max_output_tokens": 10}, "max_output_tokens"),
        ({"store": False}, "store"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            "input[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"metadata": {"a": "x" * 500}}, "metadata['a']"),
        ({"extra_body": {"limits": {"max_steps": "two"}}}, "limits.max_steps"),
        ({"extra_body": {"run_id": "a b"}}, "run_id"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    serve_http: Both, clients: Any, asked: dict[str, Any], param: str
) -> None:
    _, browser = serve_http(speaker)
    with pytest.raises(openai.BadRequestError) as caught:
        clients(browser).responses.create(**{"model": "agents/speaker", "input": "", **asked})
    assert caught.value.param == param
    assert caught.value.code == "INVALID_ARGUMENT"


def test_an_unknown_response_is_not_found_and_a_foreign_one_likewise(
    serve_http: Both, clients: Any, tmp_path: Path
) -> None:
    waiter, _ = make_waiter()
    _, browser = serve_http(waiter, tokens=write_tokens(tmp_path / "tokens"))
    ann, bob = (clients(browser, token_of(name)) for name in ("ann", "bob"))
    run = ann.responses.create(model="agents/waiter", input="", background=True)
    said = []
    for run_id in (run.id, "unknown"):
        for ask in (bob.responses.retrieve, bob.responses.cancel):
            with pytest.raises(openai.NotFoundError) as caught:
                ask(run_id)
            said.append(str(caught.value).replace(run_id, "ID"))
    assert len(set(said)) == 1
    assert ann.responses.cancel(run.id).status in ("in_progress", "cancelled")
    with pytest.raises(openai.AuthenticationError):
        clients(browser, "wrong").responses.retrieve(run.id)


def test_a_chat_is_answered_and_stops_when_its_client_leaves(
    serve_http: Both, clients: Any
) -> None:
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter, speaker, failing)
    client = clients(browser)
    assert {m.id for m in client.models.list()} == {
        "agents/waiter",
        "agents/speaker",
        "agents/failing",
    }
    say = [{"role": "user", "content": "hello"}]
    whole = client.chat.completions.create(model="agents/speaker", messages=say)
    assert whole.choices[0].message.content == 3 * TEXT
    assert whole.choices[0].finish_reason == "stop"
    chunks = list(
        client.chat.completions.create(
            model="agents/speaker",
            messages=say,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == 3 * TEXT
    assert chunks[-1].usage is not None
    with pytest.raises(openai.UnprocessableEntityError, match="LookupError"):
        client.chat.completions.create(model="agents/failing", messages=say)
    with pytest.raises(openai.APIError, match="LookupError"):
        list(client.chat.completions.create(model="agents/failing", messages=say, stream=True))
    stream = client.chat.completions.create(
        model="agents/waiter", messages=say, stream=True, extra_body={"run_id": "r"}
    )
    next(c for c in stream if c.choices[0].delta.content)
    stream.close()
    assert served.wait("r").cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT


def test_tools_are_shown_and_approved(serve_http: Both, clients: Any) -> None:
    """A call of the server's is an item of its own; one that waits is approved by the next
    request, and the same response goes on."""
    calls = [ToolRequest("c1", "publish", '{"text": "x"}'), "done"]

    @needs_approval
    def publish(text: str) -> str:
        """Publishes a text."""
        return f"published {text}"

    agent = Agent(id="a", model=Scripted(calls), tools=[publish])
    _, browser = serve_http(agent)
    client = clients(browser)
    stream = client.responses.create(
        model="agents/a", input="", background=True, stream=True, extra_body={"run_id": "r"}
    )
    asked = next(
        event.item
        for event in stream
        if event.type == "response.output_item.done" and event.item.type == "mcp_approval_request"
    )
    assert (asked.name, asked.arguments) == ("publish", '{"text": "x"}')
    shown = client.responses.retrieve("r")
    assert shown.status == "in_progress"
    assert "mcp_approval_request" in {item.type for item in shown.output}
    answer = client.responses.create(
        previous_response_id="r",
        input=[
            {
                "type": "mcp_approval_response",
                "approval_request_id": asked.id,
                "approve": True,
            }
        ],
    )
    assert (answer.id, answer.output_text) == ("r", "done")
    (call,) = (item for item in answer.output if item.type == "mcp_call")
    assert (call.name, call.output, call.status) == ("publish", "published x", "completed")
    *_, end = stream
    assert end.response.output_text == "done"
    assert [item.type for item in end.response.output].count("mcp_call") == 1


def test_a_conversation_has_a_name_of_the_callers_too(serve_http: Both, clients: Any) -> None:
    """And what a response was given can be read."""
    model = Scripted(["one", "two"])
    _, browser = serve_http(Agent(id="a", model=model))
    client = clients(browser)
    first = client.responses.create(model="agents/a", input="1", conversation="talk", user="ann")
    assert first.conversation is not None
    assert (first.conversation.id, first.user) == ("talk", "ann")
    client.responses.create(model="agents/a", input="2", conversation="talk")
    assert model.told() == ["1", "one", "2"]
    (given,) = client.responses.input_items.list(first.id).data
    assert given.content[0].text == "1"


def test_a_request_that_is_sent_again_starts_nothing_twice(serve_http: Both, clients: Any) -> None:
    """With a run_id of the client's; another spec of that id is a conflict, not to be retried."""
    _, browser = serve_http(speaker)
    client = clients(browser)
    named = {"model": "agents/speaker", "extra_body": {"run_id": "mine"}, "background": True}
    conversation = {"conversation": "talk"}  # else each request would begin one of its own
    first = client.responses.create(input="a", **named, **conversation)
    assert client.responses.create(input="a", **named, **conversation).id == first.id == "mine"
    with pytest.raises(openai.ConflictError) as caught:
        client.responses.create(input="b", **named, **conversation)
    assert caught.value.code == "RUN_EXISTS"
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_limits_end_a_response(serve_http: Both, clients: Any) -> None:
    @runnable
    def many(context: RunContext) -> Iterator[str]:
        """Calls a tool again and again."""
        for number in range(9):
            with context.tool_call(f"c{number}", "look"):
                yield f"{number}"

    _, browser = serve_http(many)
    for limit in ({"max_tool_calls": 2}, {"extra_body": {"limits": {"max_tool_calls": 2}}}):
        made = clients(browser).responses.create(model="agents/many", input="", **limit)
        assert (made.status, made.output_text) == ("cancelled", "01")
        assert made.pullcord["cancellation"]["limit"] == "max_tool_calls"


def test_a_client_that_comes_back_too_late_is_told_what_it_missed(
    serve_http: Both, clients: Any
) -> None:
    """And gets the text so far; one that comes for the first time gets all of it as text."""

    @runnable
    def long(context: RunContext) -> Iterator[str]:
        """Says so much that the beginning is not kept, in turns that do not merge."""
        for number in range(40):
            context.emit(Custom("beat", {"n": number}))
            yield f"{number} "

    _, browser = serve_http(long, max_log_records=10)
    client = clients(browser)
    whole = client.responses.create(model="agents/long", input="", extra_body={"run_id": "r"})
    first, *rest = client.responses.retrieve("r", stream=True, starting_after=0)
    assert (first.type, rest[-1].type) == ("response.in_progress", "response.completed")
    assert first.response.pullcord["missed"]["from"] == 2
    assert first.response.output_text + _text(rest) == whole.output_text
    fresh = list(client.responses.retrieve("r", stream=True))
    assert fresh[0].type == "response.created"
    assert _text(fresh) == fresh[-1].response.output_text == whole.output_text
