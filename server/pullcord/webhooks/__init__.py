"""Webhooks: a signed HTTP request to the operator's address when a run has ended or waits.

Its packages are an extra, so only `making` is imported by others, and only if there is an address.
"""
