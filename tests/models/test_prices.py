"""What tokens cost."""

import pytest
from pullcord.models.base import Price
from pullcord.models.openai import OpenAIChat
from pullcord.models.prices import cost
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


def test_an_unknown_price_is_not_a_price_of_nothing() -> None:
    """A model without a known price has an unknown cost."""
    assert cost("my-own", USAGE, None) is None
    assert cost("my-own", USAGE, "http://127.0.0.1:8000/v1") is None


def test_an_author_can_give_a_price() -> None:
    """A price that the author gives holds, also for a model that is in the list."""
    model = OpenAIChat(id="gpt-5-mini", price=Price(input=2, output=10, cached=1))
    assert model.cost(Usage(1_000_000, 1_000_000, cached_tokens=500_000)) == 11.5
    assert OpenAIChat(id="my-own", price=Price(0, 0)).cost(USAGE) == 0


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_a_price_is_a_number_of_dollars(amount: float) -> None:
    """What is no amount of money is refused where it is written down."""
    with pytest.raises(ValueError, match="price"):
        Price(input=amount, output=1)
