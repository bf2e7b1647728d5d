"""The A2A protocol 1.0 over the verbs, whatever its binding: a task is a run, a context a session.

`cards`, `asked`, `tasks` and `updates` are values, `agent` does what is asked for, and `refusals`
says why something was refused. JSON-RPC, HTTP+JSON and gRPC are in the transports that have them.
All of it needs the extra a2a, of which only the messages and the errors are imported.
"""
