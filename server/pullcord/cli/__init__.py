"""The command line: it reads arguments, calls a server through the client, and shows what it hears.

Nothing here decides anything about runs; a program that wants what a command does calls the client.
"""

import os

# gRPC's core writes lines of its own to stderr, about what our errors say in one place and better.
# It reads its environment when it is imported, so this comes first.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from pullcord.cli.app import main

__all__ = ["main"]
