"""`python -m tests.ray_cluster`: a real Ray cluster of two nodes on this machine, beside its head.

Ray stays out of the tests' own process. The nodes are told apart by the CPUs that they have; a line
on stdin, such as `2`, kills a node without a farewell, and the end of stdin ends everything.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CPUS = (6, 5)
"""Of the nodes, the first and the second."""


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

    def kill(self, number: int) -> None:
        """Kills the first or the second node, with all that runs on it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        assert self._told() == f"killed {number}"


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

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    first, second = CPUS
    nodes = {
        1: cluster.add_node(num_cpus=first, wait=False),
        2: cluster.add_node(num_cpus=second, num_gpus=1, wait=False),
    }
    cluster.wait_for_nodes()
    print(cluster.address, file=out, flush=True)
    for line in sys.stdin:
        cluster.remove_node(nodes.pop(int(line)), allow_graceful=False)
        print(f"killed {line.strip()}", file=out, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
