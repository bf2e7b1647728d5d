"""The code of runs executes here: threads, event loops, and worker processes.

An executor starts a run's code, delivers its stop, and reports its end. What a stop means for the
run, and what its end is, the engine decides.
"""
