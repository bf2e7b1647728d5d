"""A local server that speaks OpenAI's wire protocol, and says what its script tells it to.

It serves `/chat/completions` and `/responses`, streamed, over HTTP/1.1 with nothing but the
standard library, in a thread with a loop of its own; so tests, demos and benchmarks of any kind
can use it with the real client. It knows nothing of Pullcord.

    with OpenAIServer() as server:
        server.script("Hello", Silence())
        model = OpenAIChat(id="gpt-5-mini", base_url=server.base_url)
        ...
        assert server.exchange(0).left.wait(30)
"""

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Say:
    """One delta of the answer. A plain string in a script is one for each word."""

    text: str


@dataclass(frozen=True)
class Think:
    """One delta of reasoning."""

    text: str


@dataclass(frozen=True)
class Call:
    """A tool call, whose arguments (an object, or raw text) come in two pieces."""

    name: str
    arguments: dict[str, Any] | str = field(default_factory=dict)
    id: str = ""

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True)
class Pace:
    """`count` deltas of filler (None: until the client leaves), `pause` seconds apart."""

    pause: float
    count: int | None = None


@dataclass(frozen=True)
class Silence:
    """Says nothing until the client leaves."""


class Gate:
    """Says nothing until it is opened, from any thread, or the client leaves."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        """Set when the script has come here."""
        self._lock = threading.Lock()
        self._is_open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        with self._lock:
            self._is_open = True
            for loop, event in self._waiting:
                with contextlib.suppress(RuntimeError):  # the server is gone
                    loop.call_soon_threadsafe(event.set)

    async def pass_through(self) -> None:
        event = asyncio.Event()
        with self._lock:
            if not self._is_open:
                self._waiting.append((asyncio.get_running_loop(), event))
            else:
                event.set()
        self.reached.set()
        await event.wait()


@dataclass(frozen=True)
class Count:
    """The usage to tell instead of the default: 10 in, 1 out a delta. None tells nothing."""

    input_tokens: int | None
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Stop:
    """Why the answer ends, other than by itself; chat's `length`, for both protocols."""

    reason: str


@dataclass(frozen=True)
class Refuse:
    """Answers with an HTTP error instead of a stream. First in its script."""

    status: int
    message: str = "refused"
    retry_after: str = ""


@dataclass(frozen=True)
class Fail:
    """Tells of an error in the middle of the stream."""

    message: str


@dataclass(frozen=True)
class Hang:
    """Does not even answer with headers until the client leaves. First in its script."""


@dataclass(frozen=True)
class Break:
    """Ends the stream without an end, politely or (torn) in the middle of a chunk."""

    torn: bool = False


Step = (
    str | Say | Think | Call | Pace | Silence | Gate | Count | Stop | Refuse | Fail | Hang | Break
)


class Exchange:
    """One request and what became of it. Its events are for any thread."""

    def __init__(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.begun = threading.Event()
        """Set when the answer's headers are sent."""
        self.left = threading.Event()
        """Set when the client closed its connection before the answer's end."""
        self.left_time = 0.0
        """When, on time.monotonic's scale."""
        self.ended = threading.Event()
        """Set when the server is done with it, either way."""


class OpenAIServer:
    """A scripted server; each request takes the next script, or the default one."""

    def __init__(
        self, default: Sequence[Step] = ("Hello there",), *, keep_alive: bool = True
    ) -> None:
        """Without `keep_alive` each connection serves one request."""
        self.base_url = ""
        self._keep_alive = keep_alive
        self.exchanges: list[Exchange] = []
        self._default = tuple(default)
        self._scripts: deque[tuple[Step, ...]] = deque()
        self._arrived = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="openai-server", daemon=True)
        self._ready = threading.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self.open_connections = 0

    def script(self, *steps: Step) -> None:
        """Says what the next request that has no script yet is answered."""
        self._scripts.append(steps)

    def exchange(self, number: int, timeout: float = 30.0) -> Exchange:
        """The request of that number, from 0; waits for it. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.exchanges) > number, timeout):
                raise TimeoutError(f"only {len(self.exchanges)} requests came")
            return self.exchanges[number]

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.base_url = f"http://{host}:{port}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.open_connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left, between requests or in the middle of one
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.open_connections -= 1
            self._connections.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; False if the connection is to close."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
        path = head[0].split(" ")[1]
        exchange = Exchange(path, headers, body)
        steps = self._scripts.popleft() if self._scripts else self._default
        with self._arrived:
            self.exchanges.append(exchange)
            self._arrived.notify_all()
        # The client has nothing more to say; what can be read now is only its leaving.
        leaving = asyncio.ensure_future(reader.read(1))
        answering = asyncio.ensure_future(_answer(exchange, steps, writer, self._keep_alive))
        try:
            await asyncio.wait({leaving, answering}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done() and not isinstance(answering.exception(), ConnectionError):
                return answering.result() and self._keep_alive
            exchange.left_time = time.monotonic()
            exchange.left.set()
            return False
        finally:
            for task in (leaving, answering):
                task.cancel()
            await asyncio.gather(leaving, answering, return_exceptions=True)
            exchange.ended.set()


async def _answer(
    exchange: Exchange, steps: Sequence[Step], writer: asyncio.StreamWriter, keep_alive: bool
) -> bool:
    if steps and isinstance(steps[0], Hang):
        await asyncio.Event().wait()
    if steps and isinstance(steps[0], Refuse):
        await _refuse(steps[0], writer, keep_alive)
        return True
    if not exchange.body.get("stream"):
        await _answer_whole(exchange, steps, writer, keep_alive)
        return True
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        + (b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    )
    await writer.drain()
    exchange.begun.set()
    protocol = _Responses(exchange.body) if "/responses" in exchange.path else _Chat(exchange.body)
    events = protocol.begin()
    count: Count | None = None
    reason = ""
    deltas = 0
    for step in _words(steps):
        match step:
            case Silence():
                await _send(writer, events)
                await asyncio.Event().wait()
            case Gate():
                await _send(writer, events)
                events = []
                await step.pass_through()
            case Pace(pause, most):
                for number in itertools.count() if most is None else range(most):
                    await _send(writer, [*events, *protocol.say(f"w{number} ")])
                    events = []
                    deltas += 1
                    await asyncio.sleep(pause)
            case Say(text):
                events += protocol.say(text)
                deltas += 1
            case Think(text):
                events += protocol.think(text)
                deltas += 1
            case Call():
                events += protocol.call(step)
            case Count():
                count = step
            case Stop():
                reason = step.reason
            case Fail(message):
                await _send(writer, [*events, *protocol.fail(message)])
                writer.write(b"0\r\n\r\n")
                return True
            case Break(torn):
                await _send(writer, events)
                writer.write(b"ff\r\ndata: {" if torn else b"0\r\n\r\n")
                await writer.drain()
                return not torn
        await _send(writer, events)
        events = []
    count = count or Count(10, max(1, deltas))
    await _send(writer, [*events, *protocol.end(count, reason)])
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _answer_whole(
    exchange: Exchange, steps: Sequence[Step], writer: asyncio.StreamWriter, keep_alive: bool
) -> None:
    """Answers /chat/completions in one piece, for clients that do not ask for a stream."""
    exchange.begun.set()
    text, calls = "", []
    for step in steps:
        match step:
            case str():
                text += step
            case Say(said):
                text += said
            case Call():
                function = {"name": step.name, "arguments": step.text}
                id = step.id or f"call_{len(calls)}"
                calls.append({"id": id, "type": "function", "function": function})
            case Silence() | Pace():
                await asyncio.Event().wait()
            case Gate():
                await step.pass_through()
    message = {"role": "assistant", "content": text or None, "tool_calls": calls or None}
    reason = "tool_calls" if calls else "stop"
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": exchange.body.get("model", ""),
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
        }
    )
    close = "" if keep_alive else "connection: close\r\n"
    writer.write(
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{close}"
        f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )
    await writer.drain()


def _words(steps: Sequence[Step]) -> Sequence[Step]:
    """The same script, each plain string as one delta a word."""
    flat: list[Step] = []
    for step in steps:
        if isinstance(step, str):
            first, *rest = step.split(" ")
            flat += [Say(first), *(Say(f" {word}") for word in rest)]
        else:
            flat.append(step)
    return flat


async def _refuse(refusal: Refuse, writer: asyncio.StreamWriter, keep_alive: bool) -> None:
    body = json.dumps({"error": {"message": refusal.message, "type": "error", "code": None}})
    close = "" if keep_alive else "connection: close\r\n"
    after = f"retry-after: {refusal.retry_after}\r\n" if refusal.retry_after else ""
    writer.write(
        f"HTTP/1.1 {refusal.status} No\r\ncontent-type: application/json\r\n{after}{close}"
        f"content-length: {len(body.encode())}\r\n\r\n{body}".encode()
    )
    await writer.drain()


async def _send(writer: asyncio.StreamWriter, events: Sequence[str]) -> None:
    """Each event in a chunk of its own, as providers do."""
    for event in events:
        data = event.encode()
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()


class _Chat:
    """The events of /chat/completions."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._model = body.get("model", "")
        self._with_usage = (body.get("stream_options") or {}).get("include_usage", False)
        self._calls = 0

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": self._model,
            "choices": choices,
            **more,
        }
        return f"data: {json.dumps(chunk)}\n\n"

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> str:
        return self._event([{"index": 0, "delta": delta, "finish_reason": finish_reason}])

    def begin(self) -> list[str]:
        return [self._delta({"role": "assistant", "content": ""})]

    def say(self, text: str) -> list[str]:
        return [self._delta({"content": text})]

    def think(self, text: str) -> list[str]:
        return [self._delta({"reasoning_content": text})]

    def call(self, call: Call) -> list[str]:
        index, self._calls = self._calls, self._calls + 1
        text, half = call.text, len(call.text) // 2
        first = {
            "index": index,
            "id": call.id or f"call_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": text[:half]},
        }
        second = {"index": index, "function": {"arguments": text[half:]}}
        return [self._delta({"tool_calls": [piece]}) for piece in (first, second)]

    def fail(self, message: str) -> list[str]:
        return [f"data: {json.dumps({'error': {'message': message, 'code': None}})}\n\n"]

    def end(self, count: Count, reason: str) -> list[str]:
        events = [self._delta({}, reason or ("tool_calls" if self._calls else "stop"))]
        if self._with_usage and count.input_tokens is not None:
            usage = {
                "prompt_tokens": count.input_tokens,
                "completion_tokens": count.output_tokens,
                "total_tokens": count.input_tokens + count.output_tokens,
                "prompt_tokens_details": {"cached_tokens": count.cached_tokens},
                "completion_tokens_details": {"reasoning_tokens": count.reasoning_tokens},
            }
            events.append(self._event([], usage=usage))
        return [*events, "data: [DONE]\n\n"]


class _Responses:
    """The events of /responses."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._model = body.get("model", "")
        self._sequence = itertools.count()
        self._items = 0

    def _event(self, type: str, **more: Any) -> str:
        event = {"type": type, "sequence_number": next(self._sequence), **more}
        return f"event: {type}\ndata: {json.dumps(event)}\n\n"

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": self._model,
            "status": status,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": None,
            **more,
        }

    def begin(self) -> list[str]:
        return [self._event("response.created", response=self._response("in_progress"))]

    def say(self, text: str) -> list[str]:
        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
        return [self._event("response.output_text.delta", delta=text, **at)]

    def think(self, text: str) -> list[str]:
        at = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
        return [self._event("response.reasoning_summary_text.delta", delta=text, **at)]

    def call(self, call: Call) -> list[str]:
        index, self._items = self._items, self._items + 1
        text, half = call.text, len(call.text) // 2
        item_id = f"fc_{index}"
        item = {
            "type": "function_call",
            "id": item_id,
            "call_id": call.id or f"call_{index}",
            "name": call.name,
        }
        at = {"item_id": item_id, "output_index": index}
        begun = {**item, "arguments": "", "status": "in_progress"}
        done = {**item, "arguments": text, "status": "completed"}
        return [
            self._event("response.output_item.added", output_index=index, item=begun),
            self._event("response.function_call_arguments.delta", delta=text[:half], **at),
            self._event("response.function_call_arguments.delta", delta=text[half:], **at),
            self._event("response.function_call_arguments.done", arguments=text, **at),
            self._event("response.output_item.done", output_index=index, item=done),
        ]

    def fail(self, message: str) -> list[str]:
        error = {"code": "server_error", "message": message}
        return [self._event("response.failed", response=self._response("failed", error=error))]

    def end(self, count: Count, reason: str) -> list[str]:
        usage = count.input_tokens and {
            "input_tokens": count.input_tokens,
            "output_tokens": count.output_tokens,
            "total_tokens": count.input_tokens + count.output_tokens,
            "input_tokens_details": {"cached_tokens": count.cached_tokens},
            "output_tokens_details": {"reasoning_tokens": count.reasoning_tokens},
        }
        if reason == "length":
            details = {"reason": "max_output_tokens"}
            response = self._response("incomplete", usage=usage, incomplete_details=details)
            return [self._event("response.incomplete", response=response)]
        return [
            self._event("response.completed", response=self._response("completed", usage=usage))
        ]
