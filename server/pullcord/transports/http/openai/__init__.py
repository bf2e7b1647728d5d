"""OpenAI's Responses and Chat Completions, as far as an unchanged client of theirs needs them.

`model` is the runnable, a response is a run, and `previous_response_id` is its session. `asked`
reads requests, `items` and `frames` write responses; none of them does anything else. What is
not supported is refused by name.
"""
