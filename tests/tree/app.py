"""What the workers of the tree's tests import: the programs, and one that tells their effects.

Nothing is stopped or checked here.
"""

from typing import Any

from pullcord import RunServer, runnable

from tests.tree.programs import PROGRAMS, effects


@runnable(id="effects")
def told() -> dict[str, int]:
    """What the programs of this process have done to the world since it was asked last."""
    said = dict(effects)
    effects.clear()
    return said


def server() -> RunServer:
    """All programs."""
    kinds: dict[str, list[Any]] = {"agents": [told], "teams": [], "workflows": []}
    for program in PROGRAMS.values():
        kinds[f"{program.kind.value}s"].append(program)
    return RunServer(**kinds)
