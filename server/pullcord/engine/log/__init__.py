"""What a run has said: its events, numbered and kept, and the watchers who read them.

It is decided elsewhere who may watch, and what state a run is in.
"""
