"""Turns a credential into a verified caller. What that caller may do is decided elsewhere."""
