"""Models of Google, through the official `google-genai` package."""

from pullcord.models.google.gemini import Gemini

__all__ = ["Gemini"]
