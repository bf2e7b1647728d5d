"""The table of who may do what with whose run, as data, for every transport and every client."""

import tomllib
from pathlib import Path

_READ = tomllib.loads((Path(__file__).parent / "table.toml").read_text())
ROLES: list[str] = _READ["roles"]
TABLE: dict[str, list[str]] = _READ["outcomes"]
"""By rpc, in the order in which they are played; a cell for each role."""
OK, EMPTY, DENIED, UNKNOWN, STRANGER = "ok", "empty", "denied", "unknown", "stranger"

REASONS = {
    "RUN_NOT_PAUSED": OK,  # it came as far as the run
    "RUN_NOT_FOUND": UNKNOWN,
    "RUNNABLE_NOT_FOUND": UNKNOWN,
    "PERMISSION_DENIED": DENIED,
    "UNAUTHENTICATED": STRANGER,
}
"""What a refusal is in the table, by its reason."""


def cells(role: str) -> dict[str, str]:
    """What a role is answered, by rpc."""
    return {rpc: outcomes[ROLES.index(role)] for rpc, outcomes in TABLE.items()}
