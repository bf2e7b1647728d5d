"""`make demo-cluster`: what an operator runs before there is a second machine."""

import subprocess
import sys

from tests.postgres import Postgres
from tests.steady import steady


@steady
def test_the_cluster(postgres: Postgres) -> None:
    """A run of one replica is stopped through the other; a killed replica's run ends LOST with its
    text; the demo exits with 0."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo_cluster"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "B answered STOPPED",
        "CANCELLED, by the editor",
        "the run has ended FAILED, cause LOST",
        "“1 2 3 ",
    ):
        assert words in done.stdout
