"""What tokens cost."""

import pytest
from pullcord.models.openai.prices import cost
from pullcord.run.usage import Usage

USAGE = Usage(input_tokens=1_000_000, output_tokens=1_000_000)


def test_openai_models_cost_the_same_everywhere() -> None:
    """A model of OpenAI costs what OpenAI asks, also behind a gateway."""
    assert cost("gpt-5-mini", USAGE, None) == pytest.approx(2.25)
    assert cost("gpt-5-mini", USAGE, "http://gateway.example/v1") == pytest.approx(2.25)


def test_cached_input_is_cheaper() -> None:
    """Input that the provider had in its cache costs less."""
    cached = Usage(input_tokens=1_000_000, output_tokens=1_000_000, cached_tokens=1_000_000)
    assert cost("gpt-5-mini", cached, None) < cost("gpt-5-mini", USAGE, None)


def test_other_providers_are_known_by_their_address() -> None:
    """Another provider's model is priced by the address it is asked at."""
    assert cost("mistral-large-latest", USAGE, "https://api.mistral.ai/v1") > 0


def test_unknown_models_cost_nothing() -> None:
    """A model without a known price costs 0."""
    assert cost("my-own", USAGE, None) == 0
    assert cost("my-own", USAGE, "http://127.0.0.1:8000/v1") == 0
