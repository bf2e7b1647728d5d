"""The models of every provider whose extra is installed, each pointed at a local server."""

import importlib
from typing import Any

from tests.models.misbehaving import MisbehavingServer

_PATHS = {
    "chat": "pullcord.models.openai:OpenAIChat",
    "responses": "pullcord.models.openai:OpenAIResponses",
    "claude": "pullcord.models.anthropic:Claude",
    "gemini": "pullcord.models.google:Gemini",
}


def _found() -> dict[str, Any]:
    found = {}
    for name, path in _PATHS.items():
        module, _, kind = path.partition(":")
        try:
            found[name] = getattr(importlib.import_module(module), kind)
        except ImportError:  # `make install` brings them all
            continue
    return found


KINDS = _found()


def model_of(name: str, server: MisbehavingServer, **options: Any) -> Any:
    """A model that asks this server."""
    own = name in ("chat", "responses")
    options.setdefault("api_key", "not-a-key-but-secret")
    return KINDS[name](id="m", base_url=server.base_url if own else server.address, **options)
