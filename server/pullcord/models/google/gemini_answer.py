"""The answers of Google's `generateContent`, streamed or whole.

Every field is read through `reading.values`, so that none can raise. How one is asked for an answer
is not known here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pullcord.models.base import Kept, ModelChunk, ModelError
from pullcord.models.reading import values
from pullcord.models.reading.answer import Answer
from pullcord.models.reading.calls import Calls
from pullcord.models.reading.failures import failure_in, model_error
from pullcord.models.reading.frames import DONE
from pullcord.models.reading.values import Kind
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage

_FAILED = "the model's provider failed"
_NUMBERS = dict(
    enumerate(
        (
            "FINISH_REASON_UNSPECIFIED",
            "STOP",
            "MAX_TOKENS",
            "SAFETY",
            "RECITATION",
            "OTHER",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MALFORMED_FUNCTION_CALL",
        )
    )
)
"""Of the enum of Vertex AI, for servers that write enums as numbers."""
_NO_REASON = (
    "FINISH_REASON_UNSPECIFIED",
    "BLOCK_REASON_UNSPECIFIED",
    "BLOCKED_REASON_UNSPECIFIED",
    "0",
)


class GeminiAnswer(Answer):
    """One answer of a `generateContent` method."""

    def __init__(self, provider: str, names: Iterable[str], secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self.provider = provider
        self._secrets = tuple(secrets)
        self._calls = Calls(frozenset(names))
        self._seen: list[tuple[str, str, str]] = []
        self._parts: list[dict[str, Any]] = []
        self._candidate: int | None = None
        self._is_signed = False
        self._usage: Usage | None = None

    def read(self, event: str, data: Any) -> Iterator[ModelChunk]:
        """The chunks in one frame."""
        if data is DONE:
            self.is_whole = self.is_over = True
            return
        for frame in data if isinstance(data, list) else [data]:
            if frame is None or frame == {}:
                continue
            if isinstance(within := _get(frame, "response"), Mapping) and "candidates" not in frame:
                frame = within  # as some gateways have it
            self._fail_if_told(event, frame)
            for candidate in values.objects(_get(frame, "candidates")):
                index = values.index(candidate.get("index"))
                if self._candidate is None:
                    self._candidate = index
                if index in (None, self._candidate):
                    yield from self._read_candidate(candidate)
            blocked = _get(_get(frame, "promptFeedback"), "blockReason")
            if values.name(blocked) not in ("", *_NO_REASON):
                self.ended(FinishReason.CONTENT_FILTER, values.name(blocked))
            yield from self._told(_get(frame, "usageMetadata"))

    def end(self) -> Iterator[ModelChunk]:
        """The calls, the data to keep, and why it ended."""
        yield from self.flush()
        if not self.is_whole:
            raise self.broke_off()
        if self.reason is None:
            self.check_understood()
        calls = list(self._calls.whole())
        yield from calls
        if self._is_signed and (kept := values.kept(self._whole_parts())):
            yield Kept(kept)
        reason = self.reason or FinishReason.STOP
        if calls and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        yield self.finished(reason, self.words)

    def _fail_if_told(self, event: str, frame: Any) -> None:
        if not isinstance(frame, Mapping):
            raise model_error(_FAILED, failure_in(str(frame)), self.provider, self._secrets)
        is_error = event == "error" or frame.get("error") or frame.get("object") == "error"
        if "candidates" not in frame and _get(frame, "usageMetadata") is None:
            words = ("detail", "errors", "message", "msg", "error_message")
            is_error = is_error or any(frame.get(key) for key in words)
        if is_error:
            raise model_error(_FAILED, failure_in(frame), self.provider, self._secrets)

    def _read_candidate(self, candidate: Mapping[str, Any]) -> Iterator[ModelChunk]:
        content = candidate.get("content")
        parts = _get(content, "parts") if isinstance(content, Mapping) else content
        for part in [parts] if isinstance(parts, str) else values.objects(parts) or _texts(parts):
            yield from self._read_part({"text": part} if isinstance(part, str) else part)
        word = _get(candidate, "finishReason")
        word = _NUMBERS.get(word, str(word)) if type(word) is int else values.name(word)
        ended = values.reason(word) if word not in _NO_REASON else None
        if ended is not None:
            message = values.name(_get(candidate, "finishMessage"))
            words = ": ".join(filter(None, (ended[1], message)))
            self.ended(ended[0], words)

    def _read_part(self, part: Mapping[str, Any]) -> Iterator[ModelChunk]:
        self._keep(part)
        thought = part.get("thought") in (True, "true", 1)
        kind = Kind.REASONING if thought else Kind.TEXT
        for kind_, piece in values.spoken(part.get("text"), kind):
            yield from self.say(kind_, piece)
        for called in values.objects(_get(part, "functionCall")):
            self._read_call(called)

    def _read_call(self, called: Mapping[str, Any]) -> None:
        """A call comes whole; one that comes again with its id is the same."""
        if _get(called, "partialArgs") or _get(called, "willContinue"):
            words = "the model's provider sends the arguments of a call in pieces"
            what = "leave streamFunctionCallArguments out of the request"
            raise ModelError(f"{words}, which cannot be read: {what}", provider=self.provider)
        id, name = values.name(called.get("id")), values.name(called.get("name"))
        arguments = values.arguments(called.get("args", called.get("arguments")))
        self.progress += 1
        if id and (id, name, arguments) in self._seen:
            return
        self._seen.append((id, name, arguments))
        self._calls.add(
            index=len(self._seen),
            id=id,
            name=name,
            arguments=arguments,
            extra={"id": id} if id else {},
            closes=True,
        )

    def _keep(self, part: Mapping[str, Any]) -> None:
        """All parts go back as they came, once one of them is signed."""
        self._is_signed = self._is_signed or bool(_get(part, "thoughtSignature"))
        last = self._parts[-1] if self._parts else {}
        is_text = set(part) <= {"text", "thought"} and isinstance(part.get("text"), str)
        is_more = is_text and set(last) == {"pieces", *(set(part) - {"text"})}
        if is_more and last.get("thought") == part.get("thought"):
            last["pieces"].append(part["text"])
            return
        kept = {key: value for key, value in part.items() if value is not None}
        if is_text:
            kept["pieces"] = [kept.pop("text")]
        self._parts.append(kept)

    def _whole_parts(self) -> list[dict[str, Any]]:
        made = []
        for part in self._parts:
            part = dict(part)
            if "pieces" in part:
                part["text"] = "".join(part.pop("pieces"))
            called = _get(part, "functionCall")
            if isinstance(called, Mapping):
                arguments = called.get("args", {})
                sent = values.sent_arguments(values.whole_arguments(values.arguments(arguments)))
                call = {**called, "name": values.sent_name(values.name(called.get("name")))}
                part["functionCall"] = {**call, "args": json.loads(sent)}
            if part.get("text") != "" or len(part) > 1:
                made.append(part)
        return made

    def _told(self, told: Any) -> Iterator[ModelChunk]:
        sent = values.count(_get(told, "promptTokenCount")) or 0
        sent += values.count(_get(told, "toolUsePromptTokenCount")) or 0
        thought = values.count(_get(told, "thoughtsTokenCount")) or 0
        said = (values.count(_get(told, "candidatesTokenCount")) or 0) + thought
        cached = min(values.count(_get(told, "cachedContentTokenCount")) or 0, sent)
        usage = Usage(sent, said, thought, cached, estimated=not sent or not said)
        if (sent or said) and usage != self._usage:
            self._usage = usage
            yield usage


def _get(value: Any, key: str) -> Any:
    """A field, under its name of JSON or of protobuf."""
    if not isinstance(value, Mapping):
        return None
    if key in value:
        return value[key]
    return value.get("".join(f"_{c.lower()}" if c.isupper() else c for c in key))


def _texts(parts: Any) -> list[str]:
    return [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
