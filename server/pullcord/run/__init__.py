"""The vocabulary of runs and its rules: states, events, the cancel token, limits, the context.

Standard library only, and no input or output: everything here can be tested without a server.
"""
