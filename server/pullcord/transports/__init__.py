"""The ways to the engine. Transports convert through `wire` and decide nothing about runs."""
