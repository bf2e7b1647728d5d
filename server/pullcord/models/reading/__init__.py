"""Reading what providers send: bytes to frames, frames to validated values, failures to words.

Every model of a provider reads through this package, so that no deviation is handled twice. Nothing
here connects, retries, or knows one provider's protocol.
"""
