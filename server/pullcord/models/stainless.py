"""Sending through the SDKs that Stainless makes, which are alike: OpenAI's and Anthropic's.

The SDK makes the request and checks the key; everything after that is `http`'s.
"""

from typing import Any

import httpx2

from pullcord.models.http import CannotAsk, HttpModel
from pullcord.models.reading.answer import Interrupted


class StainlessModel(HttpModel):
    """A model that an SDK of this make asks; the subclass names the SDK and the path."""

    _sdk: Any
    """The module."""
    _path: str

    async def _send(self, client: Any, body: dict[str, Any]) -> Any:
        sdk = self._sdk
        try:
            stream = await client.post(
                self._path,
                body=body,
                cast_to=object,
                stream=True,
                stream_cls=sdk.AsyncStream[object],
            )
        except sdk.APIStatusError as error:
            return error.response
        except sdk.APITimeoutError as error:
            raise httpx2.ConnectTimeout("too late") from error
        except sdk.APIConnectionError as error:
            if isinstance(error.__cause__, httpx2.UnsupportedProtocol):
                raise error.__cause__ from error
            raise Interrupted from error
        except (self._error, TypeError) as error:  # Anthropic's says so of a missing key
            raise CannotAsk(str(error)) from error
        return stream.response

    @property
    def _error(self) -> Any:
        """The root of the SDK's own errors."""
        return getattr(self._sdk, "OpenAIError", None) or self._sdk.AnthropicError

    async def _close_client(self, client: Any) -> None:
        await client.close()
