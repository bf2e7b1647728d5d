"""Common to agents, teams and workflows: the in-process face, the loop of a model with tools.

Nothing here is served by itself, and nothing here starts or stops a run: that is the engine's.
"""
