"""A Ray of this machine, and what its own actors take: the baseline of workers that it places."""

import json
import os
import sys
import threading
from statistics import median
from time import perf_counter

from tests.bench.process import answer, end_with_parent


def main() -> None:
    out = os.dup(1)
    os.dup2(2, 1)  # whatever Ray prints is no answer
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 16, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, logging_level="error")

    class Actor:
        def answer(self) -> str:
            return "here"

        def wait(self) -> None:
            sum(range(10**15))

    remote = ray.remote(num_cpus=0.1)(Actor)
    starts, kills = [], []
    for _ in range(json.loads(sys.argv[1]) + 1):
        began = perf_counter()
        actor = remote.remote()
        ray.get(actor.answer.remote())
        starts.append(perf_counter() - began)
        call = actor.wait.remote()
        began = perf_counter()
        ray.kill(actor)
        try:
            ray.get(call)
        except ray.exceptions.RayActorError:
            kills.append(perf_counter() - began)
    os.dup2(out, 1)
    told = {"start": median(starts[1:]), "kill": median(kills[1:])}
    answer({"address": cluster.address, **told})
    end_with_parent()
    os.dup2(2, 1)
    threading.Event().wait()


if __name__ == "__main__":
    main()
