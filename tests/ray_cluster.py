"""`python -m tests.ray_cluster`: a real Ray cluster of two nodes on this machine.

Ray stays out of the tests' own process. A line on stdin kills the node that is not the head, and
the end of stdin ends everything.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CPUS = (5, 6)
"""Of the head, which has the GPU, and of the other node."""


class RayCluster:
    """The cluster, as a test has it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.address = self._told()

    def _told(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the Ray cluster did not begin"
        return line.strip()

    def kill_node(self) -> None:
        """Kills the node that is not the head, with all that runs on it."""
        assert self._process.stdin is not None
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        assert self._told() == "killed"


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster, while this lasts."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.ray_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | quiet,
    ) as process:
        try:
            yield RayCluster(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


def main() -> None:
    """Serves the test at stdin and stdout."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Ray prints is no answer
    from ray.cluster_utils import Cluster

    head, other = CPUS
    given = {"num_cpus": head, "num_gpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=given)
    node = cluster.add_node(num_cpus=other)
    print(cluster.address, file=out, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(node, allow_graceful=False)
        print("killed", file=out, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
