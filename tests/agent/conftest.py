"""A scripted provider for the agents of these tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
from pullcord.models.openai import OpenAIChat

from tests.openai_server import OpenAIServer


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
async def model(server: OpenAIServer) -> AsyncIterator[OpenAIChat]:
    model = OpenAIChat(id="gpt-5-mini", base_url=server.base_url)
    yield model
    await model.aclose()
