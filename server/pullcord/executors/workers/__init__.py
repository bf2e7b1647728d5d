"""The control side of worker processes: it starts, feeds, watches and kills them.

Nothing of an author's is imported here. Everything happens on one event loop, that of the RPCs;
calls from other threads are handed over to it.
"""
