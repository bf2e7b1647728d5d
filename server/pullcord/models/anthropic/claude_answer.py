"""The answers of Anthropic's Messages API, from Anthropic and from whatever is compatible.

Every field is read through `reading.values`, so that none can raise. How one is asked for an answer
is not known here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pullcord.models.base import Kept, ModelChunk, ToolRequest
from pullcord.models.reading import values
from pullcord.models.reading.answer import Answer
from pullcord.models.reading.calls import Calls
from pullcord.models.reading.failures import failure_in, model_error
from pullcord.models.reading.frames import DONE
from pullcord.models.reading.values import Kind
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage

_FAILED = "the model's provider failed"
_CALL = frozenset({"type", "id", "name", "input", "index", "caller"})
_THOUGHTS = ("thinking", "redacted_thinking")


class ClaudeAnswer(Answer):
    """One answer of `/v1/messages`, streamed or whole."""

    def __init__(self, provider: str, names: Iterable[str], secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self.provider = provider
        self._secrets = tuple(secrets)
        self._calls = Calls(frozenset(names))
        self._blocks: list[dict[str, Any]] = []  # as they go back, in their order
        self._by_index: dict[int | None, int] = {}
        self._counts: dict[str, int] = {}
        self._usage: Usage | None = None

    def read(self, event: str, data: Any) -> Iterator[ModelChunk]:
        """The chunks in one frame."""
        if data is DONE:
            self.is_whole = self.is_over = True
            return
        for frame in data if isinstance(data, list) else [data]:
            if frame is None or frame == {}:
                continue
            if not isinstance(frame, Mapping):
                raise self._failure(str(frame))
            yield from self._read_event(values.name(frame.get("type")) or event, frame)

    def end(self) -> Iterator[ModelChunk]:
        """The calls, the data to keep, and why it ended."""
        yield from self.flush()
        if not self.is_whole:
            raise self.broke_off()
        if self.reason is None:
            self.check_understood()
        calls = list(self._calls.whole())
        yield from calls
        if kept := self._to_keep(calls):
            yield Kept(kept)
        reason = self.reason or FinishReason.STOP
        if calls and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        yield self.finished(reason, self.words)

    def _read_event(self, type_: str, frame: Mapping[str, Any]) -> Iterator[ModelChunk]:
        index = values.index(frame.get("index"))
        match type_:
            case "message_start":
                yield from self._begin(values.mapping(frame.get("message")))
            case "content_block_start":
                yield from self._block(index, values.mapping(frame.get("content_block")))
            case "content_block_delta":
                delta = frame.get("delta")
                delta = {"text": delta} if isinstance(delta, str) else values.mapping(delta)
                yield from self._delta(index, delta)
            case "message_delta":
                self._ended(values.mapping(frame.get("delta")).get("stop_reason"))
                self._ended(frame.get("stop_reason"))
                yield from self._told(frame.get("usage"))
            case "message_stop":
                self._ended(frame.get("stop_reason"))
                self.is_whole = self.is_over = True
            case "message":  # all of it at once
                yield from self._begin(frame)
                self.is_whole = self.is_over = True
            case "ping" | "content_block_stop":
                pass
            case _ if type_ == "error" or frame.get("error"):
                raise self._failure(frame)
            case "" if frame.get("role") and "content" in frame:
                yield from self._begin(frame)
                self.is_whole = self.is_over = True
            case "" if any(frame.get(key) for key in ("detail", "errors", "message", "msg")):
                raise self._failure(frame)

    def _failure(self, told: Any) -> Exception:
        return model_error(_FAILED, failure_in(told), self.provider, self._secrets)

    def _begin(self, message: Mapping[str, Any]) -> Iterator[ModelChunk]:
        content = message.get("content")
        if isinstance(content, str):
            content = {"type": "text", "text": content}
        for number, block in enumerate(values.objects(content)):
            yield from self._block(number, block)
        self._ended(message.get("stop_reason"))
        yield from self._told(message.get("usage"))

    def _ended(self, told: Any) -> None:
        ended = values.reason(told)
        if ended is not None:
            self.refused = self.refused or ended[0] is FinishReason.REFUSAL
            self.ended(*ended)

    # --- blocks

    def _block(self, index: int | None, block: Mapping[str, Any]) -> Iterator[ModelChunk]:
        type_ = values.name(block.get("type"))
        id, name = values.name(block.get("id")), values.name(block.get("name"))
        place = self._begun(index, type_, id)
        self.progress += 1
        if type_ == "tool_use":
            given = block.get("input")
            self._blocks[place] |= {"is_call": bool(id or name or given), "id": id}
            self._calls.add(
                index=place,
                id=id,
                name=name,
                arguments=values.arguments(given) if given else "",
                extra={k: v for k, v in block.items() if k not in _CALL and v is not None},
            )
            return
        for key, value in block.items():
            if value is not None and key not in ("text", "thinking", "index"):
                self._blocks[place][key] = value
        yield from self._say(place, Kind.TEXT, "text", block.get("text"))
        yield from self._say(place, Kind.REASONING, "thinking", block.get("thinking"))

    def _delta(self, index: int | None, delta: Mapping[str, Any]) -> Iterator[ModelChunk]:
        self.progress += any(value for key, value in delta.items() if key != "type")
        if delta.get("partial_json") is not None:
            place = self._place(index, "tool_use")
            if self._blocks[place].get("is_call"):  # and not a tool of the provider's own
                self._calls.add(index=place, arguments=values.arguments(delta.get("partial_json")))
        if delta.get("signature"):
            place = self._place(index, "thinking")
            self._blocks[place]["signature"] = values.merged(
                self._blocks[place].get("signature") or None, values.text(delta.get("signature"))
            )
        if delta.get("thinking") is not None:
            place = self._place(index, "thinking")
            yield from self._say(place, Kind.REASONING, "thinking", delta.get("thinking"))
        if delta.get("text") is not None:
            yield from self._say(self._place(index, "text"), Kind.TEXT, "text", delta.get("text"))

    def _place(self, index: int | None, type_: str) -> int:
        """The block's index; without a number of its own, that of the last block of its kind."""
        if index in self._by_index:
            return self._by_index[index]
        if index is None and self._blocks and self._blocks[-1]["type"] == type_:
            return len(self._blocks) - 1
        return self._begun(index, type_, "")

    def _begun(self, index: int | None, type_: str, id: str) -> int:
        """The place of a block that begins; some servers give all of them one number."""
        place = self._by_index.get(index)
        if place is not None:
            block = self._blocks[place]
            if block["type"] == type_ and block.get("id", "") == id:
                return place
        self._blocks.append({"type": type_ or "text"})
        place = len(self._blocks) - 1
        if index is not None:
            self._by_index[index] = place
        return place

    def _say(self, place: int, kind: Kind, field: str, value: Any) -> Iterator[ModelChunk]:
        for kind_, piece in values.spoken(value, kind):
            self._blocks[place].setdefault(f"{field}_pieces", []).append(piece)
            yield from self.say(kind_, piece)

    def _to_keep(self, calls: list[ToolRequest]) -> Any:
        """The blocks as they came, where there is thinking that is signed; a call is its id."""
        if not any(block["type"] in _THOUGHTS for block in self._blocks):
            return None
        ids = iter(calls)
        kept: list[Any] = []
        for block in self._blocks:
            if block["type"] == "tool_use":
                if not block.get("is_call"):
                    continue
                call = next(ids, None)
                if call is not None:
                    kept.append(call.id)
                continue
            for field in ("text", "thinking"):
                if pieces := block.pop(f"{field}_pieces", None):
                    block[field] = "".join(pieces)
            if block["type"] == "text" and not str(block.get("text", "")).strip():
                continue
            if block["type"] == "thinking" and not block.get("signature"):
                continue  # the provider would refuse it
            kept.append(block)
        return values.kept(kept)

    # --- usage

    def _told(self, told: Any) -> Iterator[ModelChunk]:
        """Adds up the counts of two events; tokens that the cache gave or took are input, too."""
        told = values.mapping(told)
        for key in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ):
            if (counted := values.count(told.get(key))) is not None:
                self._counts[key] = counted
        read = self._counts.get("cache_read_input_tokens", 0)
        sent = self._counts.get("input_tokens", 0) + read
        sent += self._counts.get("cache_creation_input_tokens", 0)
        said = self._counts.get("output_tokens", 0) if self.is_whole else 0
        usage = Usage(sent, said, cached_tokens=read, estimated=not sent or not said)
        if (sent or said) and usage != self._usage:
            self._usage = usage
            yield usage
