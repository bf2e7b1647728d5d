"""The common part of both OpenAI models: whom to ask, and with which key.

Nothing here knows what a request or an answer looks like.
"""

import os
from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlsplit

from pullcord.extras import missing
from pullcord.models.base import Media, Price

try:
    import openai
except ImportError as error:
    raise missing("an OpenAI model", "openai", error) from error

from pullcord.models.http import CannotAsk
from pullcord.models.reading.thinking import ThinkTags
from pullcord.models.stainless import StainlessModel
from pullcord.models.throttle import Throttle


class OpenAIModel(StainlessModel):
    """A model of OpenAI or of a compatible server; how it is asked is the subclass's business."""

    provider = "openai"
    key_variable = "OPENAI_API_KEY"
    _sdk = openai

    def __init__(
        self,
        id: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        temperature: float | None = None,
        max_output_tokens: int | None = None,
        timeout: float | None = None,
        max_retries: int = 2,
        price: Price | None = None,
        extra: Mapping[str, Any] | None = None,
        throttle: Throttle | None = None,
        media: Media | None = None,
        think_tags: ThinkTags = "split",
    ) -> None:
        """Describes the model; nothing is connected before the first call.

        Args:
            id: the provider's name of the model.
            api_key: None reads OPENAI_API_KEY; a `base_url` of your own works without any.
            base_url: of a compatible server; None reads OPENAI_BASE_URL, then means OpenAI.
            temperature: None leaves it to the provider.
            max_output_tokens: the most tokens one answer may have, reasoning included.
            timeout: seconds that the model may say nothing, before its answer and within it; None
                is ten minutes. Comments, which only keep the connection alive, count as silence.
            max_retries: how often a call that failed before its first chunk is tried again.
            price: of its tokens; None looks it up in the price list of genai-prices.
            extra: more fields of the request's JSON body, such as `{"reasoning_effort": "low"}`.
                None as a value leaves the field out: `{"stream_options": None}`.
            throttle: turns that this model shares with others; None: it waits for none.
            media: the files that it takes: `Media(data=["image/*"])`, or `Media()` for none;
                None: all that the API takes.
            think_tags: what `<think>…</think>` means, which some servers leave in the text:
                `"split"` takes it for thinking if the answer begins with it, `"begun"` takes all
                for thinking up to `</think>`, and `"text"` leaves it in the text.

        Raises:
            ValueError: the timeout is not more than 0, or `think_tags` is none of these words.
        """
        if think_tags not in get_args(ThinkTags):
            words = ", ".join(map(repr, get_args(ThinkTags)))
            raise ValueError(f"think_tags must be one of {words}, not {think_tags!r}")
        self._think_tags = think_tags
        super().__init__(
            id,
            api_key=api_key or os.environ.get("OPENAI_API_KEY"),
            base_url=base_url or os.environ.get("OPENAI_BASE_URL") or None,
            temperature=temperature,
            max_output_tokens=max_output_tokens,
            timeout=timeout,
            max_retries=max_retries,
            price=price,
            extra=extra,
            throttle=throttle,
            media=media,
        )

    @property
    def _is_openai(self) -> bool:
        """Whether OpenAI itself is asked."""
        host = urlsplit(self._base_url).hostname or "" if self._base_url else "api.openai.com"
        return host.endswith((".openai.com", ".openai.azure.com"))

    def _make_client(self) -> openai.AsyncOpenAI:
        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if not key and self._base_url is not None:
            key = "none"  # the SDK insists on one; local servers ignore it
        try:
            return openai.AsyncOpenAI(
                api_key=key,
                base_url=self._base_url,
                max_retries=0,  # ours can be interrupted and stop at the first chunk
                http_client=self._http_client(),
            )
        except openai.OpenAIError as error:
            raise CannotAsk(str(error)) from error
