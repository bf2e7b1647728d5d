"""The far side of `--launcher ray`: the process that speaks with Ray, and the actor.

The control process starts the first as a process, and imports nothing from here.
"""
