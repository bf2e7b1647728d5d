"""Runs are admitted, found, followed, stopped and drained here.

The engine knows no network and no protobuf. It is safe to call from any thread, and nothing that
a caller may ask of it ever waits for an author's code.
"""
