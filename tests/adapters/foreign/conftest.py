"""The frameworks that the contract is held for, and a model's server for each test."""

import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.openai_server import OpenAIServer
from tests.transports.conftest import serve

__all__ = ["serve"]

KINDS = (
    "pydantic_ai",
    "langgraph",
    "agno",
    "openai_agents",
    "llama_index",
    "agent_framework",
)
# `make apart` names those whose packages do not fit beside the others.
CHOSEN = os.environ.get("KINDS", "").split() or KINDS


@pytest.fixture(params=CHOSEN)
def kind(request: pytest.FixtureRequest) -> Any:
    """One framework; imported here, so that nobody else has to."""
    return importlib.import_module(f"tests.adapters.foreign.kinds.{request.param}_kind")


@pytest.fixture
def model() -> Iterator[OpenAIServer]:
    """A model's server. No connection outlives its request: the frameworks' clients never close
    those that they keep, and the loop of a test ends."""
    with OpenAIServer(keep_alive=False) as server:
        yield server
