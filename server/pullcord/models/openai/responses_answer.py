"""The answers of the Responses API, from OpenAI and from whatever calls itself compatible.

The same text can come up to four times: in deltas, in its own end, in its item, in the response. It
is said once, whichever of them come. How one is asked for an answer is not known here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pullcord.models.base import Kept, ModelChunk
from pullcord.models.reading import values
from pullcord.models.reading.answer import Answer
from pullcord.models.reading.calls import Calls
from pullcord.models.reading.failures import failure_in, model_error, words_of
from pullcord.models.reading.frames import DONE
from pullcord.models.reading.text import encodable
from pullcord.models.reading.thinking import ThinkTags
from pullcord.models.reading.values import Kind
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage

_FAILED = "the model's provider failed"
_CALL = frozenset(
    {"id", "type", "call_id", "name", "arguments", "status", "index", "parsed_arguments"}
)

_DELTAS = {
    "response.output_text.delta": Kind.TEXT,
    "response.text.delta": Kind.TEXT,
    "response.refusal.delta": Kind.REFUSAL,
    "response.reasoning_text.delta": Kind.REASONING,
    "response.reasoning.delta": Kind.REASONING,
    "response.reasoning_summary_text.delta": Kind.REASONING,
    "response.reasoning_summary.delta": Kind.REASONING,
}
_PARTS = {
    "response.output_text.done": Kind.TEXT,
    "response.refusal.done": Kind.REFUSAL,
    "response.reasoning_text.done": Kind.REASONING,
    "response.reasoning_summary_text.done": Kind.REASONING,
}
_ENDS = frozenset(
    {"response.completed", "response.incomplete", "response.done", "response.cancelled"}
)


class _Said:
    """The text of one kind so far: of this part, of this item, of all."""

    def __init__(self) -> None:
        self.part: list[str] = []
        self.item: list[str] = []
        self.all: list[str] = []

    def add(self, piece: str) -> None:
        for level in (self.part, self.item, self.all):
            level.append(piece)

    def missing(self, level: list[str], whole: str) -> str:
        """The rest of the whole, after the text so far."""
        said, whole = encodable("".join(level)), encodable(whole)
        return whole.removeprefix(said) if whole.startswith(said) else ""

    def has_said(self, whole: str) -> bool:
        """Whether this is all that was said of the item, though its place is another one."""
        return encodable("".join(self.item)) == encodable(whole)


class ResponsesAnswer(Answer):
    """One answer of `/responses`, streamed or whole."""

    def __init__(
        self,
        provider: str,
        names: Iterable[str],
        secrets: Iterable[str] = (),
        *,
        keeps_reasoning: bool = False,
        think_tags: ThinkTags = "split",
    ) -> None:
        """Begins with nothing; `keeps_reasoning`: items of it go back though not encrypted."""
        super().__init__(think_tags)
        self.provider = provider
        self._secrets = tuple(secrets)
        self._keeps_reasoning = keeps_reasoning
        self._calls = Calls(frozenset(names))
        self._ids: dict[str, str] = {}  # an item's own id, by which its arguments come
        self._whole_calls: set[tuple[str, str, str]] = set()
        self._said = {kind: _Said() for kind in Kind}
        self._place: dict[str, int] = {}
        self._usage: Usage | None = None
        self._kept: list[Any] = []
        self._announced: list[tuple[Kind, str]] = []
        """The text with which items and parts began, for servers that never say it again."""

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
            type_ = values.name(frame.get("type")) or event
            if not type_ and values.name(frame.get("object")).startswith("response."):
                type_ = values.name(frame.get("object"))
            yield from self._read_event(type_, frame)

    def end(self) -> Iterator[ModelChunk]:
        """The calls, the data to keep, and why it ended."""
        if not any(said.all for said in self._said.values()):
            for kind, piece in self._announced:
                yield from self.say(kind, piece)
        yield from self.flush()
        if not self.is_whole:
            raise self.broke_off()
        if self.reason is None:
            self.check_understood()
        calls = list(self._calls.whole())
        yield from calls
        if kept := values.kept(self._kept):
            yield Kept(kept)
        reason = self.reason or FinishReason.STOP
        if calls and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        yield self.finished(reason, self.words)

    def _read_event(self, type_: str, frame: Mapping[str, Any]) -> Iterator[ModelChunk]:
        """The chunks in an event; most of the API's many events only repeat others."""
        item, index = values.mapping(frame.get("item")), values.index(frame.get("output_index"))
        if type_ in _DELTAS:
            self._enter(frame)
            yield from self._delta(_DELTAS[type_], frame.get("delta", frame.get("text")))
        elif type_ in _PARTS:
            self._enter(frame)
            whole = frame.get("text") or frame.get("refusal")
            yield from self._rest(_PARTS[type_], whole, "part")
        elif type_ == "response.content_part.done":
            self._enter(frame)
            for kind, whole in values.spoken(frame.get("part")):
                yield from self._rest(kind, whole, "part")
        elif type_ == "response.content_part.added":
            self._enter(frame)
            self._announced += values.spoken(frame.get("part"))
        elif type_ == "response.output_item.added":
            self._begin_item(item, index)
        elif type_ == "response.output_item.done":
            yield from self._item(item, index)
        elif type_.startswith("response.function_call_arguments."):
            self._arguments(type_, frame)
        elif type_ in _ENDS:
            yield from self._end(type_, frame.get("response"))
        elif type_ == "response.failed" or type_ == "error" or frame.get("error"):
            response = values.mapping(frame.get("response"))
            yield from self._told(response.get("usage"))
            raise self._failure(response.get("error") or frame)
        elif frame.get("object") == "response" or isinstance(frame.get("output"), list):
            yield from self._end("", frame)
        elif not type_ and any(frame.get(key) for key in ("detail", "errors", "message", "msg")):
            raise self._failure(frame)
        else:
            yield from self._told(values.mapping(frame.get("response")).get("usage"))

    def _failure(self, told: Any) -> Exception:
        return model_error(_FAILED, failure_in(told), self.provider, self._secrets)

    # --- text

    def _enter(self, frame: Mapping[str, Any]) -> None:
        """Notices that another part has begun."""
        place = dict(self._place)  # a place that an event leaves out is the same as before
        for key in ("output_index", "content_index", "summary_index"):
            if (index := values.index(frame.get(key))) is not None:
                place[key] = index
        if place != self._place:
            self._place = place
            for said in self._said.values():
                said.part = []

    def _delta(self, kind: Kind, value: Any) -> Iterator[ModelChunk]:
        for kind_, piece in values.spoken(value, kind):
            self._said[kind_].add(piece)
            yield from self.say(kind_, piece)

    def _rest(self, kind: Kind, whole: Any, level: str) -> Iterator[ModelChunk]:
        said = self._said[kind]
        whole = "".join(piece for _, piece in values.spoken(whole, kind))
        if level == "part" and not said.part and said.has_said(whole):
            return  # in another place than its deltas, as some servers count
        yield from self._delta(kind, said.missing(getattr(said, level), whole))

    def _item(self, item: Mapping[str, Any], index: int | None) -> Iterator[ModelChunk]:
        """An item that has ended, of which some, all or nothing has come before."""
        type_ = values.name(item.get("type"))
        if type_ == "function_call":
            self._call(item, index)
        elif type_ == "reasoning":
            yield from self._rest(Kind.REASONING, _thoughts(item), "item")
            self._keep(item)
        elif type_ in ("message", "") or "content" in item:
            for kind in (Kind.TEXT, Kind.REFUSAL):
                yield from self._rest(kind, _all_said(item.get("content"), kind), "item")
        self.progress += 1
        for said in self._said.values():
            said.part, said.item = [], []

    # --- calls

    def _begin_item(self, item: Mapping[str, Any], index: int | None) -> None:
        self.progress += 1
        if values.name(item.get("type")) == "message":
            self._announced += values.spoken(item.get("content"))
        if item.get("type") == "function_call":
            call_id = values.name(item.get("call_id")) or values.name(item.get("id"))
            if item.get("id"):
                self._ids[values.name(item.get("id"))] = call_id
            self._calls.add(
                index=index,
                id=call_id,
                name=values.name(item.get("name")),
                arguments=values.arguments(item.get("arguments")),
            )

    def _arguments(self, type_: str, frame: Mapping[str, Any]) -> None:
        is_whole = type_.endswith(".done")
        told = frame.get("arguments" if is_whole else "delta")
        self.progress += bool(told) or is_whole
        self._calls.add(
            index=values.index(frame.get("output_index")),
            id=self._ids.get(values.name(frame.get("item_id")), ""),
            name=values.name(frame.get("name")),
            arguments=values.arguments(told),
            closes=is_whole,
        )

    def _call(self, item: Mapping[str, Any], index: int | None) -> None:
        call_id = values.name(item.get("call_id")) or values.name(item.get("id"))
        told = item.get("arguments") or item.get("parsed_arguments")
        name, arguments = values.name(item.get("name")), values.arguments(told)
        if (call_id, name, arguments) in self._whole_calls:
            return
        self._whole_calls.add((call_id, name, arguments))
        extra = {k: v for k, v in item.items() if k not in _CALL and v is not None}
        self._calls.add(
            index=index, id=call_id, name=name, arguments=arguments, extra=extra, closes=True
        )

    def _keep(self, item: Mapping[str, Any]) -> None:
        """OpenAI looks for reasoning that is not encrypted in its store, where we put nothing."""
        if (item.get("encrypted_content") or self._keeps_reasoning) and item not in self._kept:
            self._kept.append(item)

    # --- the end

    def _end(self, type_: str, response: Any) -> Iterator[ModelChunk]:
        response = values.mapping(response)
        yield from self._told(response.get("usage"))
        status = values.name(response.get("status"))
        if response.get("error") or status in ("failed", "error"):
            raise self._failure(response.get("error") or response)
        output = values.objects(response.get("output"))
        for number, item in enumerate(output):
            if item.get("type") == "function_call":
                self._call(item, number)
            elif item.get("type") == "reasoning":
                self._keep(item)
        for kind in Kind:
            whole = "".join(_of_item(item, kind) for item in output)
            if not whole and kind is Kind.TEXT:
                whole = _all_said(response.get("output_text") or response.get("output"), kind)
            yield from self._rest(kind, whole, "all")
        self.ended(*_reason(type_, status, response))
        self.is_over = True

    def _told(self, usage: Any) -> Iterator[ModelChunk]:
        told = values.usage(usage)
        if told is not None and told != self._usage:
            self._usage = told
            yield told


def _reason(type_: str, status: str, response: Mapping[str, Any]) -> tuple[FinishReason, str]:
    if type_ == "response.incomplete" or status == "incomplete":
        details = response.get("incomplete_details")
        told = values.reason(values.mapping(details).get("reason") or words_of(details))
        return told or (FinishReason.LENGTH, "incomplete")
    if type_ == "response.cancelled" or status in ("cancelled", "canceled"):
        return FinishReason.ERROR, "cancelled"
    return FinishReason.STOP, status or "completed"


def _of_item(item: Mapping[str, Any], kind: Kind) -> str:
    if item.get("type") == "reasoning":
        return _thoughts(item) if kind is Kind.REASONING else ""
    return _all_said(item.get("content"), kind)


def _all_said(content: Any, kind: Kind) -> str:
    return "".join(piece for kind_, piece in values.spoken(content) if kind_ is kind)


def _thoughts(item: Mapping[str, Any]) -> str:
    for key in ("summary", "content", "text"):
        if found := "".join(p for _, p in values.spoken(item.get(key), Kind.REASONING)):
            return found
    return ""
