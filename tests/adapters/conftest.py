"""Servers for one test each; what they check at the end is said where they are made."""

from tests.transports.conftest import serve

__all__ = ["serve"]
