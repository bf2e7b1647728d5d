"""What a run has said: its events, numbered and kept, and the watchers who read them.

Who may watch, and what state a run is in, is decided elsewhere.
"""
