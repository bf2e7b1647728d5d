"""The API `pullcord.v1` as Python code, generated from protos/pullcord/v1 by `make generate`.

Nothing but this docstring is written by hand here.
"""
