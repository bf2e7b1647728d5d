"""The client: `RunClient` for threads, `AsyncRunClient` for asyncio, the same verbs on both.

It knows the wire and the vocabulary of runs, and nothing of how a server does its work.
"""

from pullcord.client.aio import AsyncRunClient, AsyncRunStream
from pullcord.client.resume import Pace
from pullcord.client.sync import RunClient, RunStream
from pullcord.client.tokens import FileToken
from pullcord.client.verbs import RunChange, RunToken

__all__ = [
    "AsyncRunClient",
    "AsyncRunStream",
    "FileToken",
    "Pace",
    "RunChange",
    "RunClient",
    "RunStream",
    "RunToken",
]
