"""The worker process: it imports an author's module and executes runs for the control process.

It holds no run's state. What a run's code does goes to the control process as frames, and stops
come back the same way.
"""
