"""The environment variables that begin with PULLCORD_: which clients read, and misspelt ones.

Those of a server are the fields of `pullcord.settings`. Nothing is read from the environment here.
"""

import difflib
from collections.abc import Collection, Iterable

PREFIX = "PULLCORD_"
CLIENTS = ("ADDRESS", "TOKEN", "TOKEN_FILE", "CA", "CLIENT_CERT", "CLIENT_KEY")
"""Variables that the command line reads when it calls a server, without the prefix."""
OTHERS = (
    "PROBE",
    "PROBE_NAME",
    "WORKER",
    "WORKER_CONNECT",
    "WORKER_CPU",
    "WORKER_GPU",
    "WORKER_MEMORY",
    "WORKER_SECRET",
    "WORKER_SECRET_FILE",
    "RUN",
)
"""Variables for probes, workers and the programs of a run."""

_OTHER_WORDS = {
    "HOST": "ADDRESS",
    "SERVER": "ADDRESS",
    "TARGET": "ADDRESS",
    "URL": "ADDRESS",
    "API_KEY": "TOKEN",
    "CERT": "CLIENT_CERT",
    "KEY": "CLIENT_KEY",
}
"""Names that others have for what clients read."""


def misspelt(names: Iterable[str], known: Collection[str] = ()) -> dict[str, str]:
    """Finds names that may be misspelt variables of clients; by each, the variable that was meant.

    `known` are variables that a server reads, without the prefix.
    """
    found = {}
    for name in sorted(names):
        word = name.removeprefix(PREFIX)
        if word == name or "__" in word or word in (*CLIENTS, *OTHERS, *known):
            continue  # a group's are a server's, which looks at them itself
        like = difflib.get_close_matches(word, CLIENTS, n=1)
        if meant := _OTHER_WORDS.get(word) or next(iter(like), ""):
            found[name] = PREFIX + meant
    return found
