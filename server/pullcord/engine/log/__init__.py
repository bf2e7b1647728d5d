"""The log of a run: its numbered events, and the watchers who read them.

It is decided elsewhere who may watch, and what state a run is in.
"""
