"""An MCP server as an author names it: where it is, and which of its tools an agent may call.

A frozen value. The SDK of MCP is not imported here, and nothing is connected.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pullcord.extras import needed

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server: `McpServer("uvx mcp-server-git")` or `McpServer(url="https://…/mcp")`.

    Each run has a connection of its own, and of a command a process of its own.
    """

    command: str | Sequence[str] = ()
    """The program and its arguments, which speak MCP on stdin and stdout: a list, or one text that
    is split as a shell would."""
    _: KW_ONLY
    url: str = ""
    """Of a server that speaks streamable HTTP."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each request to the url, such as `authorization`."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the command's environment, which has no more than HOME, PATH and the like: the keys
    of your program are not for everybody's server."""
    cwd: str | Path | None = None
    """The command's working directory; None: that of this process."""
    name: str = ""
    """Says in errors which server it was, and begins a tool's name if two tools share one. Made of
    the command or the url if it is not given."""
    tools: Sequence[str] | None = None
    """The tools that the model may call, by the server's names; None: all."""
    needs_approval: bool | Sequence[str] = ()
    """The tools whose calls wait for somebody's approval; True: all."""
    start_timeout: float = 30.0
    """Seconds until the server must have said which tools it has."""
    call_timeout: float | None = None
    """Seconds after which a call is cancelled, and the model reads so; None: the run's own limits
    are the only ones."""

    def __post_init__(self) -> None:
        """Raises ValueError or TypeError, which names the field."""
        if isinstance(self.command, str):
            object.__setattr__(self, "command", tuple(shlex.split(self.command)))
        elif not all(isinstance(word, str) for word in self.command):
            raise TypeError("McpServer.command must be one text or a list of texts")
        if bool(self.command) == bool(self.url):
            raise ValueError("McpServer takes either a command or a url=")
        if self.url and (urlsplit(self.url).scheme not in ("http", "https")):
            raise ValueError(f"McpServer.url must begin with http:// or https://, not {self.url!r}")
        for name, wrong in (
            ("headers", self.headers and not self.url),
            ("env", self.env and self.url),
            ("cwd", self.cwd and self.url),
        ):
            if wrong:
                raise ValueError(f"McpServer.{name} does not go with this kind of server")
        if not self.name:
            object.__setattr__(self, "name", self._made_name())
        elif not _NAME.fullmatch(self.name):
            raise ValueError(
                f"McpServer.name must be 1 to 32 letters, digits, _ and -, not {self.name!r}"
            )
        for name in ("tools", "needs_approval"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"McpServer.{name} must be a list of names, not one text")
        for name, bound in (("start", self.start_timeout), ("call", self.call_timeout)):
            if bound is not None and not bound > 0:
                raise ValueError(f"McpServer.{name}_timeout must be above 0 seconds, not {bound}")

    def _made_name(self) -> str:
        if self.url:
            made = urlsplit(self.url).hostname or "mcp"
        else:
            words = [word for word in self.command if not word.startswith("-")]
            launched = len(words) > 1 and Path(words[0]).stem.startswith(_LAUNCHERS)
            made = Path(words[launched] if words else "mcp").stem
        return _OTHER.sub("-", made).strip("-")[:32] or "mcp"

    def asks_about(self, tool: str) -> bool:
        """Whether calls of this tool wait for approval."""
        if isinstance(self.needs_approval, bool):
            return self.needs_approval
        return tool in self.needs_approval

    def offers(self, tool: str) -> bool:
        """Whether the model may call this tool."""
        return self.tools is None or tool in self.tools


_LAUNCHERS = ("npx", "uv", "python", "node", "docker", "bunx", "pipx", "deno")
"""Programs that start another one, which the server is better named by."""


def checked_servers(servers: Sequence[McpServer]) -> tuple[McpServer, ...]:
    """The servers of an agent, once the SDK of MCP is known to be here.

    Raises:
        TypeError: one is no McpServer.
        ValueError: two have one name, so that errors and tools would be ambiguous.
        MissingExtra: the extra `mcp` is not installed.
    """
    if isinstance(servers, McpServer):
        raise TypeError("mcp must be a list: [McpServer(…)]")
    names: set[str] = set()
    for server in servers:
        if not isinstance(server, McpServer):
            raise TypeError(f"mcp takes McpServer objects, not {type(server).__name__}")
        if server.name in names:
            raise ValueError(f"two MCP servers are called {server.name!r}: give them a name=")
        names.add(server.name)
    if servers:
        connecting()  # now: it takes a second, in which nothing else of a run's loop would go on
    return tuple(servers)


def connecting() -> Any:
    """The module `connecting`, which needs the SDK. A type checker need not read all of that for
    every agent, so it is imported by its name."""
    with needed("mcp", "Agent(mcp=…)"):
        return import_module("pullcord.agent.mcp.connecting")
