"""The answers of Chat Completions, from OpenAI and from whatever calls itself compatible.

Every field is read through `reading.values`, so that none can raise. How one is asked for an answer
is not known here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pullcord.models.base import Kept, ModelChunk, ModelError, ToolRequest
from pullcord.models.reading import values
from pullcord.models.reading.answer import Answer
from pullcord.models.reading.calls import Calls
from pullcord.models.reading.failures import failure_in, fit, model_error, words_of
from pullcord.models.reading.frames import DONE
from pullcord.models.reading.thinking import ThinkTags
from pullcord.models.reading.values import Kind
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage

_FAILED = "the model's provider failed"

_REASONING = ("reasoning_content", "reasoning", "thinking", "thoughts", "thought")
"""Fields in which servers put the model's thinking; the first that holds any is shown."""
_DETAILS = ("reasoning_details", "thinking_blocks")

# Fields of a message that are about the answer and mean nothing in a request. All others that are
# not ours the provider gets back: `reasoning_content`, `extra_content` and their like.
_NOT_KEPT = frozenset(
    word
    for words in (
        "role content tool_calls function_call refusal audio annotations citations search_results",
        "images channel logprobs name id object index type text stop_reason finish_reason usage",
        "token_ids prompt_token_ids context padding message delta obfuscation",
    )
    for word in words.split()
)
_CALL = frozenset({"index", "id", "type", "function", "name", "arguments", "custom"})
_FUNCTION = frozenset({"name", "arguments", "description", "parameters", "strict"})


class ChatAnswer(Answer):
    """One answer of `/chat/completions`, streamed or whole."""

    def __init__(
        self,
        provider: str,
        names: Iterable[str],
        secrets: Iterable[str] = (),
        *,
        think_tags: ThinkTags = "split",
    ) -> None:
        super().__init__(think_tags)
        self.provider = provider
        self._secrets = tuple(secrets)
        self._calls = Calls(frozenset(names))
        self._choice: int | None = None
        self._usage: Usage | None = None
        self._kept: dict[str, Any] = {}
        self._kept_text: dict[str, list[str]] = {}
        self._parts: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._has_thinking_parts = False
        self._odd = ""
        """The beginning of choices that are none."""

    def read(self, event: str, data: Any) -> Iterator[ModelChunk]:
        """The chunks in one frame."""
        if data is DONE:
            self.is_whole = self.is_over = True
            return
        for frame in data if isinstance(data, list) else [data]:
            self._fail_if_told(event, frame)
            for choice in self._choices(frame):
                if self._is_ours(choice):
                    yield from self._read_choice(choice)
            if values.mapping(frame).get("object") == "chat.completion":
                self.is_whole = True
            yield from self._read_usage(frame)

    def end(self) -> Iterator[ModelChunk]:
        """The calls, the data to keep, and why it ended."""
        yield from self.flush()
        if not self.is_whole:
            raise self.broke_off()
        calls = list(self._calls.whole())
        if self._odd and not calls and not self._texts:
            said = fit(self._odd, self._secrets)
            words = f"{_FAILED}: what it sent cannot be understood"
            raise ModelError(words, said=said, provider=self.provider)
        yield from calls
        if kept := self._to_keep():
            yield Kept(kept)
        yield self.finished(self._why(calls), self.words)

    def _fail_if_told(self, event: str, frame: Any) -> None:
        if frame is None or frame == [] or frame == {}:
            return
        if not isinstance(frame, Mapping):
            raise model_error(_FAILED, failure_in(str(frame)), self.provider, self._secrets)
        error = frame.get("error")
        is_error = event == "error" or frame.get("object") == "error"
        if not error and "choices" not in frame:  # other shapes of the same
            is_error = is_error or frame.get("type") == "error"
            words = ("detail", "errors", "message", "msg", "error_message")
            is_error = is_error or any(frame.get(key) for key in words)
        if error or is_error:
            raise model_error(_FAILED, failure_in(frame), self.provider, self._secrets)

    def _choices(self, frame: Any) -> Sequence[Mapping[str, Any]]:
        found = values.mapping(frame).get("choices")
        choices = values.objects(found)
        if found and not choices and found != [None]:
            self._odd = str(found)[:300]
        return choices

    def _is_ours(self, choice: Mapping[str, Any]) -> bool:
        """Several answers can be asked for by `extra`; the first to speak is the one."""
        index = values.index(choice.get("index"))
        if self._choice is None:
            self._choice = index
        return index is None or index == self._choice

    def _read_choice(self, choice: Mapping[str, Any]) -> Iterator[ModelChunk]:
        if choice.get("error"):
            failure = failure_in(choice["error"])
            raise model_error(_FAILED, failure, self.provider, self._secrets)
        message = values.mapping(choice.get("delta"))
        if not message:  # all of it at once, perhaps after its pieces
            message = dict(values.mapping(choice.get("message")))
            if isinstance(text := choice.get("message"), str) and choice.get("delta") is None:
                message = {"content": text}
            if isinstance(whole := message.get("content"), str):
                message["content"] = whole.removeprefix("".join(self._texts))
        yield from self._read_message(message)
        if "delta" not in choice and "message" not in choice:
            yield from self._say(values.spoken(choice.get("text")))
        ended = values.reason(choice.get("finish_reason"))
        if ended is not None:
            reason, words = ended
            if reason is FinishReason.ERROR:
                words = ": ".join(filter(None, (words, words_of(choice.get("message")))))
            self.ended(reason, words)
        yield from self._read_usage(choice)

    def _read_message(self, message: Mapping[str, Any]) -> Iterator[ModelChunk]:
        yield from self._say(self._thoughts(message))
        content = message.get("content")
        if isinstance(content, list | Mapping):
            self._keep_parts(content)
        elif isinstance(content, str) and content and self._parts:
            self._keep_parts([{"type": "text", "text": content}])
        yield from self._say(values.spoken(content))
        yield from self._say(values.spoken(message.get("refusal"), Kind.REFUSAL))
        for number, piece in enumerate(values.objects(message.get("tool_calls"))):
            self._read_call(piece, number)
        if legacy := values.mapping(message.get("function_call")):
            self._read_call({"function": legacy}, 0)
        for key, value in message.items():
            if key in _NOT_KEPT or value is None:
                continue
            if isinstance(value, str) and key not in self._kept:
                self._kept_text.setdefault(key, []).append(value)
            else:
                self._kept[key] = values.merged(self._kept.get(key), value)

    def _thoughts(self, message: Mapping[str, Any]) -> Iterator[tuple[Kind, str]]:
        for key in (*_REASONING, *_DETAILS):
            if found := list(values.spoken(message.get(key), Kind.REASONING)):
                yield from found
                return

    def _say(self, pieces: Iterable[tuple[Kind, str]]) -> Iterator[ModelChunk]:
        for kind, piece in pieces:
            if kind is Kind.TEXT:
                self._texts.append(piece)
            yield from self.say(kind, piece)

    def _read_call(self, piece: Mapping[str, Any], number: int) -> None:
        function = values.mapping(piece.get("function")) or piece
        extra = {k: v for k, v in piece.items() if k not in _CALL and v is not None}
        inner = {
            k: v
            for k, v in values.mapping(piece.get("function")).items()
            if k not in _FUNCTION and v is not None
        }
        if inner:
            extra["function"] = inner
        if (kind := values.name(piece.get("type"))) not in ("", "function"):
            extra["type"] = kind  # such as Moonshot's builtin_function
        name = values.name(function.get("name"))
        arguments = values.arguments(function.get("arguments"))
        self.progress += bool(name or arguments)
        self._calls.add(
            index=values.index(piece.get("index")),
            id=values.name(piece.get("id")),
            name=name,
            arguments=arguments,
            extra=extra,
        )

    def _read_usage(self, frame: Any) -> Iterator[ModelChunk]:
        frame = values.mapping(frame)
        told = values.usage(frame.get("usage"))
        if told is None:
            told = values.usage(values.mapping(frame.get("x_groq")).get("usage"))
        if told is not None and told != self._usage:
            self._usage = told
            yield told

    def _keep_parts(self, content: Any) -> None:
        """Thinking that came as parts of the content goes back so."""
        for part in values.objects(content):
            kind = values.text(part.get("type"))
            self._has_thinking_parts = self._has_thinking_parts or kind in ("thinking", "reasoning")
            last = self._parts[-1] if self._parts else {}
            field = "text" if kind == "text" else kind
            have, more = last.get(field), part.get(field)
            if last.get("type") != kind:
                self._parts.append(dict(part))
            elif isinstance(have, str) and isinstance(more, str):
                last[field] = have + more
            elif isinstance(have, list) and isinstance(more, list):
                last[field] = [*have, *more]
            else:
                self._parts.append(dict(part))

    def _to_keep(self) -> Any:
        kept = {key: "".join(pieces) for key, pieces in self._kept_text.items()} | self._kept
        if self._has_thinking_parts:
            kept["content"] = self._parts
        return values.kept(kept)

    def _why(self, calls: list[ToolRequest]) -> FinishReason:
        if self.reason is None:  # some servers say no more than [DONE]
            return FinishReason.TOOL_CALLS if calls else FinishReason.STOP
        if self.reason is FinishReason.STOP and calls:
            return FinishReason.TOOL_CALLS
        return self.reason
