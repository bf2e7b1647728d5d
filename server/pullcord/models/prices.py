"""The cost of tokens, by the price list of the genai-prices package.

No network and no prices of our own: where the package is not installed, or does not know the
model, the cost is unknown, which is not 0.
"""

from pullcord.run.usage import Usage

try:
    import genai_prices
except ImportError:
    genai_prices = None  # type: ignore[assignment]  # an optional part of an optional extra


def cost(
    model_id: str, usage: Usage, base_url: str | None, provider: str = "openai"
) -> float | None:
    """US dollars for these tokens of this model; None where no price is known.

    A provider's own models cost the same behind a gateway, so their names come first; others are
    looked up by the address they are asked at. A model on your own machine has neither.
    """
    if genai_prices is None:
        return None
    tokens = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=min(usage.cached_tokens, usage.input_tokens),
    )
    try:
        return float(genai_prices.calc_price(tokens, model_id, provider_id=provider).total_price)
    except LookupError:
        pass
    if base_url is None:
        return None
    try:
        return float(
            genai_prices.calc_price(tokens, model_id, provider_api_url=base_url).total_price
        )
    except LookupError:
        return None
