"""Routes: which handler a method and a path have. Nothing is called here."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pullcord.transports.http.messages import Answer, Refused, Request, Stream
from pullcord.transports.http.problems import problem

Handler = Callable[[Request], Awaitable[Answer | Stream]]


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked."""

    method: str
    path: str
    """Segments in braces match anything but a slash: `/v1/runs/{run_id}/events`. A path that ends
    in a slash matches all that begin with it, if no other route does."""
    handle: Handler
    refuse: Callable[[Exception], Answer] = problem
    """Makes the answer of what the handler raises."""
    app: Callable[..., Awaitable[None]] | None = None
    """An ASGI application that answers instead of `handle`, once that has returned."""
    about: Mapping[str, Any] | None = None
    """Its operation for the OpenAPI page, see `openapi`; None: it is not shown there."""


class Router:
    """Finds routes. A path with its own words wins over one with braces."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: dict[int, list[tuple[list[str], dict[str, Route]]]] = {}
        self._prefixes: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._place(route.path)[route.method] = route

    def _place(self, path: str) -> dict[str, Route]:
        if path.endswith("/") and path != "/":
            return self._prefixes.setdefault(path, {})
        if "{" not in path:
            return self._exact.setdefault(path, {})
        segments = path.split("/")
        of_length = self._patterns.setdefault(len(segments), [])
        for known, methods in of_length:
            if known == segments:
                return methods
        of_length.append((segments, {}))
        return of_length[-1][1]

    def methods(self, raw_path: str) -> tuple[Mapping[str, Route], Mapping[str, str]]:
        """The routes of a path by their methods, and what stands for its braces; none: no such."""
        if (found := self._exact.get(raw_path)) is not None:
            return found, {}
        segments = raw_path.split("/")
        for pattern, methods in self._patterns.get(len(segments), ()):
            params: dict[str, str] = {}
            for known, given in zip(pattern, segments, strict=True):
                if known.startswith("{"):
                    if not given:
                        break
                    params[known[1:-1]] = unquote(given)
                elif known != given:
                    break
            else:
                return methods, params
        for prefix, methods in self._prefixes.items():
            if raw_path.startswith(prefix):
                return methods, {}
        return {}, {}

    def find(self, request: Request) -> Route:
        """The route of a request, whose `params` are set. Raises Refused."""
        raw = request.scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1")
        methods, params = self.methods(raw or request.path)
        if not methods:
            raise Refused(404, "NO_SUCH_PATH", f"nothing is served at {request.path[:200]!r}")
        method = "GET" if request.method == "HEAD" else request.method
        route = methods.get(method) or methods.get("*")
        if route is None:
            allowed = ", ".join(sorted(methods))
            raise Refused(
                405,
                "METHOD_NOT_ALLOWED",
                f"{request.path[:200]} takes {allowed}, and not {request.method[:20]}",
                {"allow": allowed},
            )
        request.params = params
        return route
