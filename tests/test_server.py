"""The life of a server: signals and draining, ports, TLS, starting and stopping."""

import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pullcord import RunContext, RunServer, runnable
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.transports.harness import (
    PATIENCE,
    Cause,
    Outcome,
    Served,
    Signal,
    State,
    Stream,
    kind_of,
    make_settings,
    make_spec,
    refusal,
    seconds,
    threads_of_ours,
    until,
    v1,
)

SERVICE = "pullcord.v1.RunService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

APP = """
import sys, threading
from pullcord import RunContext, RunServer, runnable
from pullcord.engine.options import EngineOptions
from pullcord.settings import Settings

release = threading.Event()

def listen():
    sys.stdin.readline()
    release.set()

threading.Thread(target=listen, daemon=True).start()

@runnable
async def waits(ctx: RunContext):
    import asyncio
    ctx.write("made so far")
    await asyncio.to_thread(release.wait)
    ctx.write(", and the rest")

@runnable
async def forever(ctx: RunContext):
    import asyncio
    ctx.write("made so far")
    await asyncio.Event().wait()

@runnable
async def tool(ctx: RunContext):
    import asyncio
    ctx.write("made so far")
    with ctx.critical():
        await asyncio.Event().wait()

settings = Settings(
    _env_file=None, listen="127.0.0.1:0", drain_time=float(sys.argv[1]),
    engine=EngineOptions(grace_period=float(sys.argv[2]), abandon_after=1.0),
)
RunServer(agents=[waits, forever, tool], settings=settings).serve(
    on_ready=lambda address: print(address, flush=True)
)
"""


class Process:
    """A server in a process of its own, and a client of it."""

    def __init__(self, app: Path, drain_time: float, grace_period: float = 5.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(app), str(drain_time), str(grace_period)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.channel = grpc.insecure_channel(self.process.stdout.readline().strip())
        self.stub = RunServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def run(self, name: str) -> Stream:
        stream = Stream(self.stub.Run(v1.RunRequest(spec=make_spec(name, run_id=name))))
        stream.until("content_delta")
        return stream

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal, and waits until the server drains."""
        changes = self.health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(changes).status in {SERVING, NOT_SERVING}
        self.process.send_signal(number)
        if next(changes).status != NOT_SERVING:
            raise AssertionError("the server does not drain")
        changes.cancel()

    def release(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def exit_code(self) -> int:
        return self.process.wait(PATIENCE)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    app = tmp_path / "app.py"
    app.write_text(textwrap.dedent(APP))
    made: list[Process] = []

    def start(*args: float) -> Process:
        made.append(Process(app, *args))
        return made[-1]

    yield start
    for one in made:
        one.channel.close()
        one.process.kill()
        one.process.communicate()


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_run_that_ends_within_the_drain_time_completes(
        self, launch: Callable[..., Process], number: int
    ) -> None:
        """After SIGTERM or SIGINT runs may end; new ones are refused, everything else is served."""
        server = launch(60)
        stream = server.run("waits")
        server.signal(number)
        assert server.health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
        new = v1.StartRunRequest(spec=make_spec("forever"))
        refused = refusal(lambda: server.stub.StartRun(new))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert refused.retry.retry_delay.ToNanoseconds() > 0
        assert server.stub.GetRun(v1.GetRunRequest(run_id="waits")).run.output == "made so far"
        again = v1.StartRunRequest(spec=make_spec("waits", run_id="waits"))
        assert server.stub.StartRun(again).run.state == State.RUN_STATE_RUNNING
        other = Stream(server.stub.WatchRun(v1.WatchRunRequest(run_id="waits")))
        other.until("content_delta")
        server.release()
        assert stream.end().run_completed.output == "made so far, and the rest"
        assert kind_of(other.end()) == "run_completed"
        assert server.exit_code() == 0

    def test_a_run_that_does_not_end_is_cancelled_with_its_output(
        self, launch: Callable[..., Process]
    ) -> None:
        """What has not ended in the drain time ends CANCELLED, cause SHUTDOWN, output and all."""
        server = launch(0.2)
        stream = server.run("forever")
        server.signal()
        end = stream.end().run_cancelled
        assert (end.cancellation.cause, end.output) == (
            Cause.CANCEL_CAUSE_SHUTDOWN,
            "made so far",
        )
        assert not end.abandoned
        assert server.exit_code() == 0

    @pytest.mark.parametrize("grace", [None, 3000], ids=["no cancel", "a patient cancel"])
    def test_promise_01_every_watcher_gets_its_end_before_the_port_closes(
        self, launch: Callable[..., Process], grace: float | None
    ) -> None:
        """A run in the middle of a tool is ended by the drain, whoever was more patient with it."""
        server = launch(0.1, 0.2)
        stream = server.run("tool")
        late = Stream(server.stub.WatchRun(v1.WatchRunRequest(run_id="tool")))
        late.until("content_delta")
        if grace is not None:
            patient = v1.CancelRunRequest(run_id="tool", grace_period=seconds(grace))
            server.stub.CancelRun(patient)
        server.signal()
        for followed in (stream, late):
            end = followed.end().run_cancelled
            assert (end.output, end.abandoned) == ("made so far", False)
            cause = Cause.CANCEL_CAUSE_SHUTDOWN if grace is None else Cause.CANCEL_CAUSE_USER
            assert end.cancellation.cause == cause
        assert server.exit_code() == 0

    def test_while_draining_runs_can_be_cancelled(self, launch: Callable[..., Process]) -> None:
        """A cancel while the server drains is served, and the server ends with its last run."""
        server = launch(600)
        stream = server.run("forever")
        server.signal()
        request = v1.CancelRunRequest(run_id="forever", wait=seconds(30))
        assert server.stub.CancelRun(request).outcome == Outcome.CANCEL_OUTCOME_STOPPED
        assert stream.end().run_cancelled.cancellation.cause == Cause.CANCEL_CAUSE_USER
        assert server.exit_code() == 0

    def test_a_second_signal_hurries(self, launch: Callable[..., Process]) -> None:
        """A second signal ends the drain: what is live is cancelled at once."""
        server = launch(600)
        stream = server.run("forever")
        server.signal()
        server.process.send_signal(signal.SIGTERM)
        end = stream.end().run_cancelled
        assert end.cancellation.cause == Cause.CANCEL_CAUSE_SHUTDOWN
        assert server.exit_code() == 0

    def test_a_third_signal_does_not_wait_for_tools(self, launch: Callable[..., Process]) -> None:
        """A third signal interrupts also what a graceful stop would let finish."""
        server = launch(600, 600)
        stream = server.run("tool")
        server.signal()
        server.process.send_signal(signal.SIGTERM)
        stream.until("cancel_requested")
        server.process.send_signal(signal.SIGTERM)
        assert kind_of(stream.end()) == "run_cancelled"
        assert server.exit_code() == 0

    def test_an_idle_server_ends_at_once(self, launch: Callable[..., Process]) -> None:
        """Without runs a signal ends the server, however long it might drain."""
        server = launch(600)
        server.stub.ListRunnables(v1.ListRunnablesRequest())
        server.process.send_signal(signal.SIGTERM)
        assert server.exit_code() == 0


@runnable
async def echo(input: str) -> str:
    return input


def make(*agents: object, **options: object) -> RunServer:
    return RunServer(agents=agents or [echo], settings=make_settings(**options))


class TestInTheBackground:
    def test_with_serves_and_stops(self) -> None:
        """`with server as address:` serves on a free port of the loopback, and ends all of it."""
        before = threads_of_ours()
        with make() as address:
            assert address.startswith("127.0.0.1:")
            with grpc.insecure_channel(address) as channel:
                request = v1.RunRequest(spec=make_spec("echo", "hello"))
                *_, last = RunServiceStub(channel).Run(request)
                assert last.event.run_completed.output == "hello"
        until(lambda: not threads_of_ours() - before)

    def test_stop_ends_runs_and_their_streams(self) -> None:
        """stop() cancels what is live, cause SHUTDOWN, and tells its watchers before it ends."""

        @runnable
        async def forever(ctx: RunContext):
            ctx.write("made")
            await Signal().come()

        served = Served(make(forever))
        stream = served.run("forever")
        stream.until("content_delta")
        stopper = threading.Thread(target=served.server.stop)
        stopper.start()
        end = stream.end().run_cancelled
        assert (end.cancellation.cause, end.output) == (Cause.CANCEL_CAUSE_SHUTDOWN, "made")
        stopper.join(PATIENCE)
        assert not stopper.is_alive()
        served.close()

    def test_stopping_twice_is_stopping_once(self) -> None:
        """A second stop(), and a stop() before any start, do nothing."""
        server = make()
        server.start()
        server.stop()
        server.stop()
        make().stop()

    def test_a_server_serves_once(self) -> None:
        """start() of a server that has served is a RuntimeError, and says to make another one."""
        server = make()
        server.start()
        with pytest.raises(RuntimeError, match="another"):
            server.start()
        server.stop()
        with pytest.raises(RuntimeError, match="another"):
            server.start()

    def test_drain_lets_runs_end(self) -> None:
        """drain() is what the first signal is: runs may end, and then the server does."""
        go = Signal()

        @runnable
        async def waits(ctx: RunContext):
            ctx.write("a")
            await go.come()

        served = Served(make(waits))
        stream = served.run("waits")
        stream.until("content_delta")
        served.server.drain()
        health = health_pb2_grpc.HealthStub(served.channel)
        until(lambda: health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING)
        assert refusal(lambda: served.start("waits")).reason == "DRAINING"
        go.set()
        assert kind_of(stream.end()) == "run_completed"
        served.close()

    def test_a_port_in_use_is_an_os_error(self) -> None:
        """Listening where somebody else does is an OSError with the address; nothing is left."""
        before = threads_of_ours()
        with make() as address:
            with pytest.raises(OSError, match=address):
                make().start(address)
            with pytest.raises(OSError, match=address):
                make().serve(address)
        until(lambda: not threads_of_ours() - before)

    @pytest.mark.parametrize("listen", ["nowhere.invalid:1", "127.0.0.1:x", "[::"])
    def test_an_address_that_is_none_is_an_os_error(self, listen: str) -> None:
        """Listening on what is no address raises OSError with what was given."""
        with pytest.raises(OSError, match="cannot listen"):
            make(insecure=True).start(listen)

    def test_a_socket_of_the_file_system(self, tmp_path: Path) -> None:
        """`unix:path` serves on a socket of the file system."""
        server = make()
        address = server.start(f"unix:{tmp_path}/s")
        assert address == f"unix:{tmp_path}/s"
        with grpc.insecure_channel(address) as channel:
            RunServiceStub(channel).ListRunnables(v1.ListRunnablesRequest())
        server.stop()

    def test_two_runnables_of_one_name_are_refused(self) -> None:
        """Two runnables with one full name are a ValueError when the server is made."""
        with pytest.raises(ValueError, match="agents/echo"):
            make(echo, echo)


class TestTls:
    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("needs the openssl command; install openssl")
        certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        command = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
            " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
        )
        subprocess.run(
            [openssl, *command.split(), "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )
        return certificate, key

    def test_a_certificate_and_its_key_make_it_tls(self, pair: tuple[Path, Path]) -> None:
        """With both files the server speaks TLS, and plaintext callers are not served."""
        certificate, key = pair
        with make(tls_certificate=certificate, tls_key=key) as address:
            credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
            with grpc.secure_channel(address, credentials) as channel:
                request = v1.RunRequest(spec=make_spec("echo", "hello"))
                *_, last = RunServiceStub(channel).Run(request, timeout=PATIENCE)
                assert last.event.run_completed.output == "hello"
            with (
                grpc.insecure_channel(address) as channel,
                pytest.raises(grpc.RpcError) as caught,
            ):
                RunServiceStub(channel).ListRunnables(v1.ListRunnablesRequest(), timeout=PATIENCE)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_a_file_that_is_missing_is_named(self, tmp_path: Path) -> None:
        """A certificate that is not there is an OSError that says which file."""
        missing = tmp_path / "none.pem"
        with pytest.raises(OSError, match=r"none\.pem"):
            make(tls_certificate=missing, tls_key=missing).start()

    def test_a_file_that_is_no_certificate_is_refused(self, tmp_path: Path) -> None:
        """A certificate or key that cannot be read as PEM is an OSError that speaks of it."""
        wrong = tmp_path / "wrong.pem"
        wrong.write_text("not a certificate")
        with pytest.raises(OSError, match=r"wrong\.pem"):
            make(tls_certificate=wrong, tls_key=wrong).start()


class TestStandardParts:
    def test_health_answers_for_the_server_and_for_each_service(self) -> None:
        """Health is SERVING for the whole and for RunService, NOT_FOUND for others."""
        served = Served(make())
        health = health_pb2_grpc.HealthStub(served.channel)
        for name in ("", SERVICE):
            request = health_pb2.HealthCheckRequest(service=name)
            assert health.Check(request).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        served.close()

    def test_reflection_lists_the_services_and_their_files(self) -> None:
        """Reflection lists RunService, health and itself, and gives the API's descriptors."""
        served = Served(make())
        reflect = reflection_pb2_grpc.ServerReflectionStub(served.channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        listed, found = reflect.ServerReflectionInfo(iter(requests))
        assert {service.name for service in listed.list_services_response.service} == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        assert found.file_descriptor_response.file_descriptor_proto
        served.close()

    def test_an_rpc_that_is_none_is_unimplemented(self) -> None:
        """A method that RunService does not have is UNIMPLEMENTED."""
        served = Served(make())
        with pytest.raises(grpc.RpcError) as caught:
            served.channel.unary_unary(f"/{SERVICE}/Restart")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        served.close()


def test_promise_12_a_hundred_servers_leave_nothing_behind() -> None:
    """Servers that were started and stopped leave no thread and no open file."""
    process = psutil.Process()

    def one() -> None:
        with make() as address, grpc.insecure_channel(address) as channel:
            list(RunServiceStub(channel).Run(v1.RunRequest(spec=make_spec("echo"))))

    others = threads_of_ours()  # of the engine that in-process programs share
    for _ in range(3):
        one()
    until(lambda: not threads_of_ours() - others)
    before = process.num_fds()
    for _ in range(15):
        one()
    until(lambda: not threads_of_ours() - others)
    until(lambda: process.num_fds() <= before + 3)
