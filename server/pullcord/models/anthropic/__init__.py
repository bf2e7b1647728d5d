"""Models of Anthropic, through the official `anthropic` package."""

from pullcord.models.anthropic.claude import Claude

__all__ = ["Claude"]
