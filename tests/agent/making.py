"""Models of a server that misbehaves, for the tests of agents."""

from typing import Any

from pullcord.models.base import Model
from pullcord.models.openai import OpenAIChat

from tests.models.misbehaving import MisbehavingServer

_made: list[Model] = []


def made(server: MisbehavingServer, kind: Any = OpenAIChat, **options: Any) -> Any:
    """A model of this server that asks once; `closed` closes it."""
    model = kind(id="m", base_url=server.base_url, max_retries=0, **options)
    _made.append(model)
    return model


async def closed() -> None:
    """Closes the connections of all models that were made here."""
    while _made:
        await _made.pop().aclose()
