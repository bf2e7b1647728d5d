"""A run that has not ended: its rules, which decide, and the live run around them, which acts.

Which runs there are, and who finds them, is the engine's business.
"""
