"""Why a server is out of reach, in words that say what to do; gRPC's own words are for its authors.

What is not known stays as it is, without the words around it that say nothing.
"""

import re

_RUNNING = "is `pullcord serve` running, and is --address (or PULLCORD_ADDRESS) right?"
_NOISE = re.compile(
    r"failed to connect to all addresses; last error: |\b(?:UNKNOWN|UNAVAILABLE): |\bipv[46]:"
    r"|Failed to connect to remote host: (?:connect: )?"
)
_ADDRESS = re.compile(r"\bipv[46]:(\S+:\d+): ")
_MEANT = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted: name the CA that signed it, "
    "`pullcord --ca FILE …` (or PULLCORD_CA)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: write --address (or PULLCORD_ADDRESS) "
    "without tls://",
    "Socket closed": "it closed the connection: if it speaks TLS, write --address "
    "(or PULLCORD_ADDRESS) with tls:// before the host",
}
"""By a sign in gRPC's words, what it means and what to do."""


def unreachable(words: str) -> str:
    """The error of a connection that gRPC describes in these words."""
    found = _ADDRESS.search(words)
    server = f"the server at {found[1]}" if found else "the server"
    for sign, meant in _MEANT.items():
        if sign in words:
            return f"{server} cannot be reached: {meant}"
    return f"the server cannot be reached: {_RUNNING} ({bare(words)})"


def bare(words: str) -> str:
    """gRPC's words without those that say nothing: `127.0.0.1:50051: Connection refused`."""
    return _NOISE.sub("", words)
