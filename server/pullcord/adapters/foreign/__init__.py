"""Agents, teams and workflows that were written with another framework, served as they are.

Each adapter translates one framework's events; `driver` and `report` are what they share. A
framework is imported by its own adapter only, and only where an object of it is served.
"""
