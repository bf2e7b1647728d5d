"""The only place that knows both the domain and protobuf, and the one table of errors.

Each module turns one kind of value into its message and back. Nothing here opens a channel or
serves one, and nothing here decides what a run may do.
"""
