"""The HTTP transport: one ASGI application of several surfaces, over the same verbs as gRPC.

A *surface* is a module here that has a function `routes(web: Web) -> list[Route]`, and one entry in
`app.SURFACES`. Its handlers get a `Request` and return an `Answer` or a `Stream`, or raise a
PullcordError, which becomes a problem+json, or what the route's `refuse` makes of it. What comes in
was checked before (`guard`): its Host, its Origin, and the size and time of its body.
"""
