"""Language models behind one port. Nothing here knows of agents, runs in progress or the engine."""
