"""Runnables that another Pullcord serves, for teams, workflows and servers here."""

from pullcord.adapters.remote.runnable import RemoteRunnable

__all__ = ["RemoteRunnable"]
