"""The official A2A client, unchanged, against a real server, over every binding."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from a2a.client import ClientCallContext, ClientConfig, create_client
from a2a.client.interceptors import ClientCallInterceptor
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    InvalidParamsError,
    ListTasksRequest,
    Message,
    Part,
    PushNotificationNotSupportedError,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskNotCancelableError,
    TaskNotFoundError,
    TaskPushNotificationConfig,
    TaskState,
    UnsupportedOperationError,
    a2a_pb2_grpc,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pullcord import RunContext, runnable
from pullcord.run.events import ToolCall
from pullcord.run.takes import Takes
from pullcord.settings import SettingsError

from tests.identity.callers import token_of, write_tokens
from tests.steady import PATIENCE
from tests.transports.harness import Cause, Served, State, in_both_modes
from tests.transports.http.agents import TEXT, failing, make_waiter, speaker

Both = Callable[..., tuple[Served, Any]]
BINDINGS = ["JSONRPC", "HTTP+JSON", "GRPC"]
WORKING, PAUSED = TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_INPUT_REQUIRED
COMPLETED, CANCELED = TaskState.TASK_STATE_COMPLETED, TaskState.TASK_STATE_CANCELED

each_binding = pytest.mark.parametrize("binding", BINDINGS)


@runnable
def maker(context: RunContext) -> None:
    """Makes data, and says what it was given."""
    files = [f"{part.name}={(part.data or b'').decode()}" for part in context.parts]
    context.set_output(f"{context.input} {files}", {"got": dict(context.input_data or {})})


maker.takes = Takes(parts=True, data_types=("text/plain",))


@runnable
async def asker(context: RunContext) -> Any:
    """Asks, and says what it was told."""
    yield "Let me ask. "
    for question in ("Where to?", "Sure?"):
        (made,) = await context.ask(question, [ToolCall("call-1", "where", '{"a":1}')])
        yield f"[{made.approved} {made.answer}]"


@pytest.fixture
def serve_http(serve_http: Both) -> Both:
    """As everywhere, with A2A over gRPC, too."""

    def start(*agents: Any, **options: Any) -> tuple[Served, Any]:
        served, browser = serve_http(*agents, a2a_grpc="grpc.test:1", **options)
        browser.grpc_address = served.address
        return served, browser

    return start


@asynccontextmanager
async def _client(
    browser: Any, binding: str = "JSONRPC", path: str = "", **config: Any
) -> AsyncIterator[Any]:
    card = f"{path}/.well-known/agent-card.json"
    token = browser.headers.get("authorization", "")
    async with httpx.AsyncClient(timeout=PATIENCE, headers=browser.headers) as http:
        asked = ClientConfig(
            httpx_client=http,
            supported_protocol_bindings=[binding],
            # The card cannot name a port that is found when the server listens.
            grpc_channel_factory=lambda url: grpc.aio.insecure_channel(browser.grpc_address),
            **config,
        )
        made = await create_client(browser.url, asked, [_Token(token)], relative_card_path=card)
        try:
            yield made
        finally:
            if binding == "GRPC":  # the others close with theirs
                await made.close()


class _Token(ClientCallInterceptor):
    """Sends a token with each call, in the way that all bindings have."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def before(self, args: Any) -> None:
        if self._token:
            args.context = ClientCallContext(service_parameters={"authorization": self._token})

    async def after(self, args: Any) -> None:
        pass


def _play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scene)


def _message(*parts: Part | str, id: str = "m-1", **fields: Any) -> Message:
    made = [Part(text=part) if isinstance(part, str) else part for part in parts]
    return Message(message_id=id, role=Role.ROLE_USER, parts=made, **fields)


def _data(value: Any) -> Part:
    return Part(data=ParseDict(value, Value()))


def _send(message: Message, **configuration: Any) -> SendMessageRequest:
    asked = SendMessageConfiguration(**configuration)
    return SendMessageRequest(message=message, configuration=asked)


async def _sent(client: Any, message: Message, **configuration: Any) -> Task:
    """The task of a client that does not stream."""
    (told,) = [one async for one in client.send_message(_send(message, **configuration))]
    task: Task = told.task
    return task


def _ours(update: Any) -> dict[str, Any]:
    said: dict[str, Any] = MessageToDict(update.metadata)["pullcord"]
    return said


def _text(task: Task) -> str:
    return "".join(part.text for one in task.artifacts for part in one.parts)


def _told(stream: Sequence[StreamResponse]) -> str:
    """The text that a client has in the end, by A2A's rules."""
    text = ""
    for one in stream:
        if one.HasField("task"):
            text = _text(one.task)
        elif one.HasField("artifact_update"):
            update = one.artifact_update
            piece = "".join(part.text for part in update.artifact.parts)
            text = text + piece if update.append else piece
    return text


def _states(stream: Sequence[StreamResponse]) -> list[TaskState]:
    return [one.status_update.status.state for one in stream if one.HasField("status_update")]


@each_binding
def test_an_agent_is_found_by_its_card_asked_and_streamed(serve_http: Both, binding: str) -> None:
    served, browser = serve_http(speaker)

    async def scene() -> None:
        async with _client(browser, binding, streaming=False) as client:
            task = await _sent(client, _message("hello", context_id="talk-1"))
            assert task.status.state == COMPLETED
            assert (task.context_id, _text(task)) == ("talk-1", 3 * TEXT)
            (said,) = task.history
            assert (said.message_id, said.parts[0].text) == ("m-1", "hello")
            again = await client.get_task(GetTaskRequest(id=task.id))
            assert again == task
            bare = await client.get_task(GetTaskRequest(id=task.id, history_length=0))
            assert not bare.history
        async with _client(browser, binding) as client:
            asked = _send(_message("hello", id="m-2"))
            stream = [one async for one in client.send_message(asked)]
            first, last = stream[0].task, stream[-1].status_update
            assert first.status.state == TaskState.TASK_STATE_SUBMITTED
            assert not first.artifacts
            assert _told(stream) == 3 * TEXT
            assert _states(stream) == [WORKING, COMPLETED]
            assert _ours(last)["sequence"] == served.get(first.id).last_sequence

    _play(scene())


def test_cards_say_what_a_runnable_takes_and_where_it_is(serve_http: Both) -> None:
    """The root's is that of the only one, or of the one that is set."""
    _, browser = serve_http(speaker)
    reply = browser.get("/.well-known/agent-card.json")
    card = reply.json()
    assert (card["name"], card["description"]) == ("speaker", "Says three words.")
    assert card["capabilities"]["streaming"] is True
    *over_http, over_grpc = card["supportedInterfaces"]
    assert {one["url"] for one in over_http} == {f"{browser.url}/a2a/agents/speaker"}
    assert [one["protocolBinding"] for one in over_http] == BINDINGS[:2]
    assert over_grpc["protocolBinding"] == "GRPC"
    assert (over_grpc["url"], over_grpc["tenant"]) == ("grpc.test:1", "agents/speaker")
    assert "securitySchemes" not in card
    tag = reply.headers["etag"]
    assert browser.get("/.well-known/agent-card.json", if_none_match=tag).status == 304

    _, browser = serve_http(speaker, maker)
    reply = browser.get("/.well-known/agent-card.json")
    assert reply.status == 404
    assert "/a2a/agents/maker/.well-known/agent-card.json" in reply.json()["detail"]
    card = browser.get("/a2a/agents/maker/.well-known/agent-card.json").json()
    assert card["defaultInputModes"] == ["text/plain", "application/json"]
    assert browser.get("/a2a/agents/nobody/.well-known/agent-card.json").status == 404

    _, browser = serve_http(speaker, maker, a2a_agent="agents/maker")
    assert browser.get("/.well-known/agent-card.json").json()["name"] == "maker"


@each_binding
def test_a_silent_task_is_stopped_and_a_pullcord_client_sees_it(
    serve_http: Both, binding: str
) -> None:
    """It is one run: what the one client starts and stops, the other one watches."""
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter)

    async def scene() -> None:
        async with _client(browser, binding) as client:
            stream = client.send_message(_send(_message("go")))
            told = [await anext(stream)]
            run_id = told[0].task.id
            while not told[-1].HasField("artifact_update"):
                told.append(await anext(stream))
            watching = await asyncio.to_thread(served.watch, run_id)
            await asyncio.to_thread(watching.until, "content_delta")
            asked = CancelTaskRequest(id=run_id)
            asked.metadata.CopyFrom(ParseDict({"pullcord": {"reason": "enough"}}, Struct()))
            task = await client.cancel_task(asked)
            assert task.status.state == CANCELED
            assert task.status.message.parts[0].text == "enough"
            assert _text(task) == "first"
            receipt = _ours(task)["receipt"]
            assert receipt["outcome"] == "CANCEL_OUTCOME_STOPPED"
            told += [one async for one in stream]
            assert _told(told) == "first"
            assert _states(told)[-1] == CANCELED
            assert _states(told).count(CANCELED) == 1
            end = await asyncio.to_thread(watching.end)
            assert end.run_cancelled.cancellation.reason == "enough"
            assert end.run_cancelled.cancellation.cause == Cause.CANCEL_CAUSE_USER
            with pytest.raises(TaskNotCancelableError):
                await client.cancel_task(CancelTaskRequest(id=run_id))
            with pytest.raises(UnsupportedOperationError):
                _ = [one async for one in client.subscribe(SubscribeToTaskRequest(id=run_id))]

    _play(scene())


@each_binding
def test_a_client_that_has_left_subscribes_and_misses_nothing(
    serve_http: Both, binding: str
) -> None:
    """Leaving a task does not stop it, and a message that is sent again starts nothing."""
    waiter, going = make_waiter()
    served, browser = serve_http(waiter)

    async def scene() -> None:
        async with _client(browser, binding) as client:
            stream = client.send_message(_send(_message("go")))
            told = await anext(stream)
            run_id = told.task.id
            while not told.HasField("artifact_update"):
                told = await anext(stream)
            await stream.aclose()
        async with _client(browser, binding) as client:
            stream = client.subscribe(SubscribeToTaskRequest(id=run_id))
            seen = [await anext(stream)]
            assert _text(seen[0].task) == "first"
            assert _ours(seen[0].task)["sequence"] > 1
            going.set()
            seen += [one async for one in stream]
            assert _told(seen) == "first last"
            assert _states(seen) == [COMPLETED]
        async with _client(browser, binding, streaming=False) as client:
            again = await _sent(client, _message("go"))
            assert (again.id, _text(again)) == (run_id, "first last")
        assert len(served.list().runs) == 1

    _play(scene())


@each_binding
def test_a_message_that_does_not_wait_is_answered_at_once_and_polled(
    serve_http: Both, binding: str
) -> None:
    waiter, going = make_waiter()
    served, browser = serve_http(waiter)

    async def scene() -> None:
        async with _client(browser, binding, streaming=False, polling=True) as client:
            task = await _sent(client, _message("go"))
            assert task.status.state in (TaskState.TASK_STATE_SUBMITTED, WORKING)
            going.set()
            await asyncio.to_thread(served.wait, task.id)
            task = await client.get_task(GetTaskRequest(id=task.id))
            assert (task.status.state, _text(task)) == (COMPLETED, "first last")

    _play(scene())


@each_binding
def test_a_task_that_asks_is_answered_by_a_message(serve_http: Both, binding: str) -> None:
    """A text is the answer of the call that waits, and yes or no a decision; data is exact."""
    served, browser = serve_http(asker)

    async def scene() -> None:
        async with _client(browser, binding) as client:
            stream = [one async for one in client.send_message(_send(_message("go")))]
            run_id = stream[0].task.id
            assert _states(stream)[-1] == PAUSED
            question = stream[-1].status_update.status.message
            assert question.parts[0].text == "Where to?"
            (call,) = MessageToDict(question.parts[1].data)["toolCalls"]
            assert call == {"toolCallId": "call-1", "toolName": "where", "arguments": {"a": 1}}
            assert served.get(run_id).state == State.RUN_STATE_PAUSED
            seen = await client.get_task(GetTaskRequest(id=run_id))
            assert seen.status.state == PAUSED
            other = _send(_message("Oslo", task_id=run_id, context_id="other"))
            with pytest.raises(InvalidParamsError, match="contextId"):
                _ = [one async for one in client.send_message(other)]
            answer = _message("Oslo", id="m-2", task_id=run_id)
            stream = [one async for one in client.send_message(_send(answer))]
            assert _told(stream) == "Let me ask. [False Oslo]"
            assert _states(stream) == [WORKING, PAUSED]
        async with _client(browser, binding, streaming=False) as client:
            wrong = _data({"decisions": [{"toolCallId": "other", "approved": True}]})
            with pytest.raises(InvalidParamsError, match="call that waits"):
                await _sent(client, _message(wrong, id="m-3", task_id=run_id))
            right = _data({"decisions": [{"toolCallId": "call-1", "approved": True}]})
            task = await _sent(client, _message(right, id="m-4", task_id=run_id))
            assert task.status.state == COMPLETED
            assert _text(task) == "Let me ask. [False Oslo][True None]"
            with pytest.raises(UnsupportedOperationError):
                await _sent(client, _message("more", id="m-5", task_id=run_id))
            task = await _sent(client, _message("go", id="m-6"))
            task = await _sent(client, _message("No.", id="m-7", task_id=task.id))
            task = await _sent(client, _message("yes", id="m-8", task_id=task.id))
            assert _text(task) == "Let me ask. [False None][True None]"

    _play(scene())


@each_binding
@in_both_modes
def test_parts_are_given_and_artifacts_come_back(serve_http: Both, binding: str) -> None:
    _, browser = serve_http(maker)

    async def scene() -> None:
        async with _client(browser, binding) as client:
            file = Part(raw=b"inside", filename="a.txt", media_type="text/plain")
            asked = _message("hello", _data({"city": "Oslo"}), file)
            stream = [one async for one in client.send_message(_send(asked))]
            text, data = [one.artifact_update for one in stream if one.HasField("artifact_update")]
            assert text.artifact.parts[0].text == "hello ['a.txt=inside']"
            assert MessageToDict(data.artifact.parts[0].data) == {"got": {"city": "Oslo"}}
            assert data.last_chunk
            image = Part(raw=b"x", filename="a.png", media_type="image/png")
            with pytest.raises(Exception, match="image/png") as refused:
                _ = [one async for one in client.send_message(_send(_message("x", image, id="i")))]
            assert type(refused.value).__name__ == "ContentTypeNotSupportedError"

    _play(scene())


@each_binding
def test_a_task_says_what_is_missing(serve_http: Both, binding: str) -> None:
    """Events that are no longer kept are named, and a whole artifact replaces their text."""

    @runnable
    def long(context: RunContext) -> Iterator[str]:
        for number in range(400):
            yield f"{number} " + 200 * "x"
            context.emit("tick", {"number": number})

    served, browser = serve_http(long, max_log_bytes=16 * 1024)

    async def scene() -> None:
        async with _client(browser, binding, streaming=False) as client:
            task = await _sent(client, _message("go"))
        async with _client(browser, binding) as client:
            again = [one async for one in client.send_message(_send(_message("go")))]
            assert again[0].task.id == task.id
            assert _told(again) == _text(task) == served.get(task.id).output
            statuses = [one.status_update for one in again if one.HasField("status_update")]
            missed = [_ours(one)["missed"] for one in statuses if "missed" in _ours(one)]
            assert [one["from"] for one in missed] == [1]
            assert _states(again)[-1] == COMPLETED
            assert _states(again).count(COMPLETED) == 1

    _play(scene())


@each_binding
def test_tasks_are_listed_in_pages(serve_http: Both, binding: str) -> None:
    _, browser = serve_http(speaker, failing)

    async def scene() -> None:
        path = "/a2a/agents/speaker"
        async with _client(browser, binding, path, streaming=False) as client:
            for number in range(3):
                talk = f"talk-{number % 2}"
                await _sent(client, _message("x", id=f"m-{number}", context_id=talk))
            page = await client.list_tasks(ListTasksRequest(page_size=2))
            assert (len(page.tasks), page.page_size) == (2, 2)
            assert not page.tasks[0].artifacts
            rest = await client.list_tasks(
                ListTasksRequest(page_size=2, page_token=page.next_page_token)
            )
            assert (len(rest.tasks), rest.next_page_token) == (1, "")
            of_talk = await client.list_tasks(
                ListTasksRequest(context_id="talk-1", include_artifacts=True, status=COMPLETED)
            )
            assert [_text(task) for task in of_talk.tasks] == [3 * TEXT]
            assert not (await client.list_tasks(ListTasksRequest(status=PAUSED))).tasks
            with pytest.raises(InvalidParamsError, match="pageSize"):
                await client.list_tasks(ListTasksRequest(page_size=101))
        async with _client(browser, binding, "/a2a/agents/failing", streaming=False) as client:
            assert not (await client.list_tasks(ListTasksRequest())).tasks
            task = await _sent(client, _message("x"))
            assert task.status.state == TaskState.TASK_STATE_FAILED
            assert task.status.message.parts[0].text == "LookupError: nothing there"
            assert _text(task) == "before "

    _play(scene())


@each_binding
def test_a_task_of_another_caller_or_agent_is_not_there(
    serve_http: Both, binding: str, tmp_path: Path
) -> None:
    """It is refused in the same words as one that never was."""
    waiter, going = make_waiter()
    _, browser = serve_http(waiter, speaker, tokens=write_tokens(tmp_path / "tokens"))
    path = "/a2a/agents/waiter"

    def acts_as(name: str) -> None:
        browser.headers["authorization"] = f"Bearer {token_of(name)}"

    async def refused(path: str, run_id: str) -> set[str]:
        words = set()
        async with _client(browser, binding, path) as client:
            with pytest.raises(TaskNotFoundError) as error:
                await client.get_task(GetTaskRequest(id=run_id))
            words.add(str(error.value))
            with pytest.raises(TaskNotFoundError) as error:
                await client.cancel_task(CancelTaskRequest(id=run_id))
            words.add(str(error.value))
            with pytest.raises(TaskNotFoundError) as error:
                _ = [one async for one in client.subscribe(SubscribeToTaskRequest(id=run_id))]
            words.add(str(error.value))
            more = _send(_message("x", task_id=run_id))
            with pytest.raises(TaskNotFoundError) as error:
                _ = [one async for one in client.send_message(more)]
            words.add(str(error.value))
            if path.endswith("waiter"):
                assert not (await client.list_tasks(ListTasksRequest())).tasks
        return {said.replace(run_id, "ID") for said in words}

    async def scene() -> None:
        acts_as("ann")
        async with _client(browser, binding, path) as client:
            stream = client.send_message(_send(_message("go")))
            run_id = (await anext(stream)).task.id
            foreign = await refused("/a2a/agents/speaker", run_id)
            acts_as("bob")
            assert await refused(path, run_id) == await refused(path, "never-was") == foreign
            acts_as("ann")
            going.set()
            assert _states([one async for one in stream])[-1] == COMPLETED

    _play(scene())
    browser.headers["authorization"] = "Bearer nobody"
    assert browser.get(f"{path}/.well-known/agent-card.json").status == 401
    reply = browser.post(path, {"jsonrpc": "2.0", "id": 1, "method": "GetTask"}, a2a_version="1.0")
    assert (reply.status, reply.json()["id"]) == (401, 1)
    assert reply.headers["www-authenticate"] == "Bearer"
    acts_as("ann")
    card = browser.get(f"{path}/.well-known/agent-card.json").json()
    assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "Bearer"


@each_binding
def test_there_are_no_push_notifications(serve_http: Both, binding: str) -> None:
    _, browser = serve_http(speaker)

    async def scene() -> None:
        async with _client(browser, binding) as client:
            config = TaskPushNotificationConfig(task_id="x", url="http://127.0.0.1:9/")
            with pytest.raises(PushNotificationNotSupportedError):
                await client.create_task_push_notification_config(config)
            asked = _send(_message("x"), task_push_notification_config=config)
            with pytest.raises(PushNotificationNotSupportedError):
                _ = [one async for one in client.send_message(asked)]

    _play(scene())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'{"id": 1, "method": "GetTask"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/get"}', -32601),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": []}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": 7}}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {}}', -32602),
    ],
)
def test_a_wrong_request_is_the_callers_mistake(serve_http: Both, body: bytes, code: int) -> None:
    _, browser = serve_http(speaker)
    path = "/a2a/agents/speaker"
    kind = "application/json"
    reply = browser.ask("POST", path, body, content_type=kind, a2a_version="1.0")
    assert (reply.status, reply.json()["error"]["code"]) == (200, code)
    reply = browser.ask("POST", f"{path}/", body, content_type=kind, a2a_version="1.0")
    assert (reply.status, reply.json()["error"]["code"]) == (200, code)


def test_a_body_of_another_kind_is_refused(serve_http: Both) -> None:
    _, browser = serve_http(speaker)
    path, kind = "/a2a/agents/speaker", "text/plain"
    reply = browser.ask("POST", path, b"{}", content_type=kind, a2a_version="1.0")
    assert reply.json()["error"]["code"] == -32005
    path = f"{path}/message:send"
    reply = browser.ask("POST", path, b"{}", content_type=kind, a2a_version="1.0")
    assert reply.status == 400
    assert reply.json()["error"]["details"][0]["reason"] == "CONTENT_TYPE_NOT_SUPPORTED"
    reply = browser.ask("POST", path, b"{", content_type="application/json", a2a_version="1.0")
    assert (reply.status, reply.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_the_fields_that_are_wrong_are_named(serve_http: Both) -> None:
    _, browser = serve_http(speaker)
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}
    ours = {"pullcord": {"limits": {"maxTokens": -1}, "runId": "mine"}}
    for told, named in (
        ({"message": {**message, "parts": []}}, "message.parts"),
        ({"message": {**message, "parts": [{}]}}, "message.parts[0]"),
        ({"message": {**message, "role": "ROLE_AGENT"}}, "message.role"),
        ({"message": {**message, "contextId": "a b"}}, "message.contextId"),
        ({"message": message, "metadata": ours}, "metadata.pullcord.runId"),
        (
            {"message": message, "metadata": {"pullcord": {"limits": {"timeout": "-1s"}}}},
            "metadata.pullcord.limits.timeout",
        ),
    ):
        path = "/a2a/agents/speaker/message:send"
        reply = browser.post(path, told, a2a_version="1.0")
        assert reply.status == 400, reply.body
        info, bad = reply.json()["error"]["details"]
        assert (info["reason"], info["domain"]) == ("INVALID_PARAMS", "a2a-protocol.org")
        assert bad["fieldViolations"][0]["field"] == named


def test_no_request_is_a_mistake_of_the_servers(serve_http: Both) -> None:
    _, browser = serve_http(speaker)
    head = {"content_type": "application/json", "a2a_version": "1.0"}
    path = "/a2a/agents/speaker"
    for told in (
        '{"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "\\ud800"}]}}',
        '{"message": {"messageId": "\\ud800", "role": "ROLE_USER", "parts": [{"text": "x"}]}}',
        '{"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"data": 1e999}]}}',
        '{"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"raw": "?"}]}}',
        '{"message": 5, "metadata": {"pullcord": 5}}',
        f'{{"message": {20_000 * "["}',
        f'{{"metadata": {90 * "["}{90 * "]"}}}',
        '{"tenant": "x", "id": ""}',
    ):
        rpc = f'{{"jsonrpc": "2.0", "id": "\\ud800", "method": "SendMessage", "params": {told}}}'
        asked = [("", rpc), ("/message:send", told), ("/message:stream", told)]
        for rest, body in (*asked, ("/tasks/x:cancel", told)):
            reply = browser.ask("POST", f"{path}{rest}", body.encode(), **head)
            assert reply.json()["error"]["code"] not in (500, -32603, -32000), (told, reply.body)


def test_another_version_of_the_protocol_is_refused(serve_http: Both) -> None:
    """A client that says none speaks 0.3."""
    _, browser = serve_http(speaker)
    body = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}
    for headers in ({}, {"a2a_version": "0.3"}, {"a2a_version": "2.0"}):
        reply = browser.post("/a2a/agents/speaker", body, **headers)
        assert reply.json()["error"]["code"] == -32009
    assert browser.post("/a2a/agents/speaker?A2A-Version=1.0", body).json()["error"]["code"] == (
        -32001
    )


def test_a_budget_comes_in_the_metadata(serve_http: Both) -> None:
    waiter, _ = make_waiter()
    _, browser = serve_http(waiter)
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}
    asked = {"message": message, "metadata": {"pullcord": {"limits": {"timeout": "0.2s"}}}}
    task = browser.post("/a2a/agents/waiter/message:send", asked, a2a_version="1.0").json()["task"]
    assert task["status"]["state"] == "TASK_STATE_CANCELED"
    assert task["metadata"]["pullcord"]["cancellation"]["cause"] == "CANCEL_CAUSE_BUDGET"


def test_without_the_extra_there_is_none_of_it(
    serve_http: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullcord.transports.http.a2a.find_spec", lambda name: None)
    _, browser = serve_http(speaker)
    assert browser.get("/.well-known/agent-card.json").status == 404
    assert browser.get("/healthz").status == 200


def test_over_grpc_a_call_names_its_agent_unless_there_is_one_or_a_default(
    serve_http: Both,
) -> None:
    """Both services are served on one port, and reflection and health tell of both."""

    def ask(served: Served, **metadata: str) -> Any:
        stub = a2a_pb2_grpc.A2AServiceStub(served.channel)
        asked = GetTaskRequest(id="x")
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetTask(asked, timeout=PATIENCE, metadata=list(metadata.items()))
        return refused.value

    one, _ = serve_http(speaker)
    assert ask(one).code() is grpc.StatusCode.NOT_FOUND
    error = ask(one, **{"a2a-version": "0.3"})
    assert (error.code(), "'0.3'" in error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    checks = health_pb2_grpc.HealthStub(one.channel)
    for name in ("lf.a2a.v1.A2AService", "pullcord.v1.RunService"):
        found = checks.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE)
        assert found.status == health_pb2.HealthCheckResponse.SERVING
    two, _ = serve_http(speaker, failing)
    error = ask(two)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith("tenant: must name the runnable")
    default, _ = serve_http(speaker, failing, a2a_agent="agents/failing")
    assert ask(default).code() is grpc.StatusCode.NOT_FOUND


def test_over_grpc_it_needs_its_extra(serve_http: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pullcord.server.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="PULLCORD_A2A_GRPC: needs the extra 'a2a'"):
        serve_http(speaker)
