"""Runnables as the tools of an MCP server, whatever carries the protocol and wherever runs live.

`offering` makes the server, over a `Runs` that fills it: the verbs behind HTTP, a client in the
bridge of the command line. Nothing here listens or connects.
"""
