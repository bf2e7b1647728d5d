"""Asking again where that may help, with waits that a cancel ends at once.

For every provider. The ModelError says whether trying again may help; how one try goes is not
known here.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from pullcord.models.base import ModelChunk, ModelError
from pullcord.run.blame import log_place
from pullcord.run.usage import Usage

_log = logging.getLogger("pullcord.models")

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
LONGEST_RETRY_AFTER = 120.0
"""Seconds; a provider that wants us to stay away longer has refused."""


async def retried(
    attempt: Callable[[], AsyncGenerator[ModelChunk, None]], max_retries: int, provider: str
) -> AsyncGenerator[ModelChunk, None]:
    """The chunks of the first try that says anything; one that fails before that is repeated.

    Raises:
        ModelError: and nothing else, whatever a provider does.
    """
    tries = 0
    while True:
        begun = False
        try:
            async with aclosing(attempt()) as chunks:
                async for chunk in chunks:
                    begun = begun or not isinstance(chunk, Usage)
                    yield chunk
            return
        except ModelError as error:
            error.provider = error.provider or provider
            wait = _wait(error, tries)
            if begun or wait is None or tries >= max_retries:
                raise
        except Exception as error:
            log_place(_log, "reading a provider's answer failed", error)
            raise ModelError(
                f"the model's provider sent what cannot be read: {type(error).__name__}",
                provider=provider,
            ) from error
        tries += 1
        await asyncio.sleep(wait)


def _wait(error: ModelError, tries: int) -> float | None:
    """Seconds to wait before trying again; None: trying again is of no use."""
    if not error.may_pass:
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= LONGEST_RETRY_AFTER else None
    wait = min(_FIRST_WAIT * 2.0**tries, _LONGEST_WAIT)
    return wait * random.uniform(0.75, 1.0)  # many runs fail together; they must not return so
