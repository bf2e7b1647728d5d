"""Which address is served how, and TLS: certificates that are missing, foreign, old or replaced."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pullcord import RunContext, runnable
from pullcord.client import RunClient
from pullcord.doors import check_exposure
from pullcord.probe import _token as probe_token
from pullcord.probe import is_serving, main
from pullcord.run.loopback import stays_here
from pullcord.server import RunServer
from pullcord.settings import SettingsError
from pullcord.transports.tls import TlsFiles, check
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.identity.callers import Authority, bearer, token_of, write_tokens
from tests.steady import PATIENCE
from tests.transports.harness import Signal, make_settings, make_spec, until

HERE = ("127.0.0.1:0", "localhost:1", "[::1]:1", "127.8.8.8:1", "unix:/tmp/x", "unix:x")
ELSEWHERE = ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.com:1", "127.example.com:1")


@runnable
async def echo(input: str) -> str:
    return input


@pytest.mark.parametrize("listen", HERE)
@pytest.mark.parametrize("callers", [True, False])
def test_an_address_of_this_machine_is_served_as_it_is(listen: str, callers: bool) -> None:
    check_exposure(listen, make_settings(), knows_callers=callers)


@pytest.mark.parametrize("listen", ELSEWHERE)
@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("callers", [True, False])
@pytest.mark.parametrize("insecure", [True, False])
def test_an_address_that_others_reach_needs_tls_and_callers(
    listen: str, tls: bool, callers: bool, insecure: bool, tmp_path: Path
) -> None:
    """Or --insecure, in so many words; else the three ways to go on are named."""
    pair = {"tls_certificate": tmp_path / "c", "tls_key": tmp_path / "k"} if tls else {}
    settings = make_settings(insecure=insecure, **pair)
    if (tls and callers) or insecure:
        check_exposure(listen, settings, knows_callers=callers)
        return
    with pytest.raises(SettingsError) as caught:
        check_exposure(listen, settings, knows_callers=callers)
    for way in ("--tls-cert", "--tokens", "127.0.0.1", "--insecure"):
        assert way in str(caught.value)


def test_the_command_refuses_in_words(tmp_path: Path) -> None:
    """`pullcord serve --listen 0.0.0.0:…` exits with 2 and says what to do; with TLS it serves."""
    command = [sys.executable, "-m", "pullcord", "serve", "--in-process", "--listen", "0.0.0.0:0"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert refused.returncode == 2
    assert "three ways" in refused.stderr
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    more = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    more += ["--tokens", str(write_tokens(tmp_path / "tokens"))]
    with subprocess.Popen(
        [*command, *more], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as serving:
        assert serving.stdout is not None
        port = serving.stdout.readline().strip().rpartition(":")[2]
        credentials = grpc.ssl_channel_credentials(authority.path.read_bytes())
        with RunClient(f"localhost:{port}", credentials=credentials, token=token_of("ann")) as ann:
            assert ann.start("agents/storyteller", run_id="mine").owner == "ann"
        environment = {"PULLCORD_CA": str(authority.path), "PULLCORD_TOKEN": token_of("ann")}
        address = f"tls://localhost:{port}"
        for who, code in (("ann", 0), ("bob", 3), ("nobody", 5)):
            environment["PULLCORD_TOKEN"] = token_of(who)
            asked = subprocess.run(
                [sys.executable, "-m", "pullcord", "get", "mine", "--address", address],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert asked.returncode == code, asked.stderr
        with RunClient(f"localhost:{port}", credentials=credentials, token=token_of("bob")) as bob:
            bob.start("agents/storyteller", run_id="mine")
        environment["PULLCORD_TOKEN"] = token_of("olga")
        for more, code, words in (
            (["get", "mine"], 2, "acme/ann, acme/bob"),
            (["--owner", "bob", "get", "mine"], 0, "acme/bob"),
            (["--owner", "ann", "cancel", "mine", "--wait", "30s"], 0, ""),
            (["ps", "--all"], 0, "of acme/bob"),
        ):
            asked = subprocess.run(
                [sys.executable, "-m", "pullcord", *more, "--address", address],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert (asked.returncode, words in asked.stdout + asked.stderr) == (code, True), asked
        serving.terminate()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Tls:
    """A server with TLS and tokens, and a second address for client certificates."""

    def __init__(self, folder: Path, authority: Authority, agents: Any) -> None:
        self.certificate, self.key = authority.issue("server")
        self.server = RunServer(
            agents=agents,
            settings=make_settings(
                tls_certificate=self.certificate,
                tls_key=self.key,
                client_ca=authority.path,
                mtls_listen="127.0.0.1:0",
                tokens=write_tokens(folder / "tokens"),
            ),
        )
        self.address = self.server.start()
        self.mutual = self.server.mtls_address


@pytest.fixture
def waits() -> Any:
    go_on = Signal()

    @runnable(id="waits")
    async def waits(ctx: RunContext) -> None:
        ctx.write("on ")
        await go_on.come()
        ctx.write("and on")

    waits.go_on = go_on
    return waits


@pytest.fixture
def tls(tmp_path: Path, authority: Authority, waits: Any) -> Iterator[Tls]:
    made = Tls(tmp_path, authority, [echo, waits])
    yield made
    waits.go_on.set()
    made.server.stop()


def trusting(authority: Authority, pair: tuple[Path, Path] | None = None) -> Any:
    certificate, key = (None, None) if pair is None else (path.read_bytes() for path in pair)
    return grpc.ssl_channel_credentials(authority.path.read_bytes(), key, certificate)


def list_as(address: str, credentials: Any, metadata: Any = ()) -> Any:
    with grpc.secure_channel(address, credentials) as channel:
        stub = RunServiceStub(channel)
        return stub.ListRunnables(v1.ListRunnablesRequest(), metadata=metadata, timeout=PATIENCE)


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


def test_each_address_asks_for_its_own_credential(tls: Tls, authority: Authority) -> None:
    """Tokens at the first, client certificates at the second, which is who the caller is."""
    plain = trusting(authority)
    ann = authority.issue("ann", uris=["spiffe://acme/ann"], client=True)
    assert list_as(tls.address, plain, bearer("ann")).runnables
    assert code_of(lambda: list_as(tls.address, plain)) is grpc.StatusCode.UNAUTHENTICATED
    assert code_of(lambda: list_as(tls.mutual, plain, bearer("ann"))) is grpc.StatusCode.UNAVAILABLE
    with grpc.secure_channel(tls.mutual, trusting(authority, ann)) as channel:
        stub = RunServiceStub(channel)
        run = stub.StartRun(v1.StartRunRequest(spec=make_spec("echo"))).run
        assert (run.tenant, run.owner) == ("default", "spiffe://acme/ann")
        run = stub.StartRun(v1.StartRunRequest(spec=make_spec("echo")), metadata=bearer("bob")).run
        assert run.owner == "bob", "behind a gateway's certificate the token is the caller"


def test_certificates_that_prove_nothing_are_refused(
    tls: Tls, authority: Authority, tmp_path: Path
) -> None:
    """Of another CA, expired, or made for servers: the handshake fails."""
    other = Authority(tmp_path, "other")
    spiffe = ["spiffe://acme/ann"]
    wrong = [
        other.issue("foreign", uris=spiffe, client=True),
        authority.issue("old", uris=spiffe, client=True, expired=True),
        authority.issue("server2", uris=spiffe),
    ]
    for pair in wrong:
        credentials = trusting(authority, pair)
        code = code_of(lambda credentials=credentials: list_as(tls.mutual, credentials))
        assert code is grpc.StatusCode.UNAVAILABLE
    plaintext = grpc.insecure_channel(tls.address)
    with plaintext:
        stub = RunServiceStub(plaintext)
        call = stub.ListRunnables
        refused = code_of(lambda: call(v1.ListRunnablesRequest(), timeout=PATIENCE))
    assert refused is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_is_replaced_under_load_without_a_broken_stream(
    tls: Tls, authority: Authority, waits: Any, tmp_path: Path
) -> None:
    """New connections see the new one at once, and streams that are open go on."""
    credentials = trusting(authority)
    with RunClient(tls.address, credentials=credentials, token=token_of("ann")) as client:
        streams = [client.run("agents/waits", run_id=f"r{n}") for n in range(20)]
        for stream in streams:
            next(stream)
        successor = Authority(tmp_path, "successor")
        successor.issue("server", into="server")
        until(lambda: _is_trusted(tls.address, successor))
        assert code_of(lambda: list_as(tls.address, credentials, bearer("ann"))) is (
            grpc.StatusCode.UNAVAILABLE
        ), "the old CA is nobody's any more"
        waits.go_on.set()
        for stream in streams:
            assert not stream.reconnecting
            for _ in stream:
                pass
            assert stream.result is not None
            assert stream.result.output == "on and on"


def _is_trusted(address: str, authority: Authority) -> bool:
    try:
        list_as(address, trusting(authority), bearer("ann"))
    except grpc.RpcError:
        return False
    return True


def test_the_ca_of_clients_is_replaced_without_a_broken_stream(
    tls: Tls, authority: Authority, waits: Any, tmp_path: Path
) -> None:
    """New connections need a certificate of the new one; a stream of an old one goes on."""
    successor = Authority(tmp_path, "successor")
    spiffe = ["spiffe://acme/ann"]
    old = authority.issue("old", uris=spiffe, client=True)
    new = successor.issue("new", uris=spiffe, client=True)
    trusted = authority.path.read_bytes()
    old_one, new_one = (
        grpc.ssl_channel_credentials(trusted, key.read_bytes(), certificate.read_bytes())
        for certificate, key in (old, new)
    )
    refused = code_of(lambda: list_as(tls.mutual, new_one))
    assert refused is grpc.StatusCode.UNAVAILABLE
    with RunClient(tls.mutual, credentials=old_one) as client:
        stream = client.run("agents/waits")
        next(stream)
        fresh = tmp_path / "fresh.pem"
        fresh.write_bytes(successor.path.read_bytes())
        fresh.rename(authority.path)

        def is_taken() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return bool(list_as(tls.mutual, new_one).runnables)
            return False

        until(is_taken)
        refused = code_of(lambda: list_as(tls.mutual, old_one))
        assert refused is grpc.StatusCode.UNAVAILABLE
        waits.go_on.set()
        for _ in stream:
            pass
        assert not stream.reconnecting
        assert stream.result is not None
        assert stream.result.output == "on and on"


def test_a_key_that_others_can_read_is_told(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond 0640 the log warns, and the server serves all the same."""
    files = TlsFiles(*authority.issue("server"))
    for mode, is_open in ((0o600, False), (0o640, False), (0o644, True)):
        caplog.clear()
        files.key.chmod(mode)
        check(files)
        assert ("can be read by others" in caplog.text) is is_open


def test_a_broken_certificate_leaves_the_last_one(
    tls: Tls, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    tls.certificate.write_text("nonsense")
    plain = trusting(authority)

    def complained() -> bool:
        assert list_as(tls.address, plain, bearer("ann")).runnables
        return any("the last one stands" in record.getMessage() for record in caplog.records)

    until(complained)


def test_the_probe_speaks_tls(
    tls: Tls, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a token, since health is what it asks; with a client certificate where one is due."""
    assert not is_serving(f"tls://{tls.address}"), "it does not trust everybody"
    monkeypatch.setenv("PULLCORD_CA", str(authority.path))
    assert is_serving(f"tls://{tls.address}", PATIENCE)
    assert not is_serving(tls.address)
    assert not is_serving(f"tls://{tls.mutual}")
    certificate, key = authority.issue("probe", uris=["spiffe://acme/probe"], client=True)
    monkeypatch.setenv("PULLCORD_CLIENT_CERT", str(certificate))
    monkeypatch.setenv("PULLCORD_CLIENT_KEY", str(key))
    assert is_serving(f"tls://{tls.mutual}", PATIENCE)


def test_the_probe_needs_nothing_but_the_servers_own_environment(
    tls: Tls, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PULLCORD_LISTEN and PULLCORD_TLS_CERTIFICATE, also of a certificate that stands for itself.
    A token goes with it where nobody can read it; a file that is not there is named."""
    port = tls.address.rpartition(":")[2]
    monkeypatch.setenv("PULLCORD_LISTEN", f"0.0.0.0:{port}")
    assert main([]) == 1, "it speaks TLS"
    own = Authority(tmp_path, "own")
    monkeypatch.setenv("PULLCORD_TLS_CERTIFICATE", str(own.path))
    assert main([]) == 1, "a certificate of somebody else"
    chain = tmp_path / "chain.pem"
    chain.write_bytes(tls.certificate.read_bytes() + authority.path.read_bytes())
    monkeypatch.setenv("PULLCORD_TLS_CERTIFICATE", str(chain))
    assert main([]) == 0
    monkeypatch.setenv("PULLCORD_TOKEN", "secret")
    assert main([]) == 0
    assert probe_token("tls://example.com:1") == probe_token("127.0.0.1:1") != ()
    assert probe_token("example.com:1") == ()
    monkeypatch.setenv("PULLCORD_CA", str(tmp_path / "nowhere"))
    assert main([]) == 1


def test_a_client_sends_no_token_over_a_plain_line() -> None:
    with pytest.raises(ValueError, match="could be read"):
        RunClient("example.com:50051", token="secret")
    for target in ("localhost:1", "127.0.0.1:1", "unix:/tmp/x", "dns:///localhost:1"):
        RunClient(target, token="secret").close()
    for peer in ("ipv4:127.0.0.1:9", "ipv6:%5B::1%5D:9", "unix:", "ipv6:[::1]:9"):
        assert stays_here(peer)
    for peer in ("ipv4:10.0.0.1:9", "localhost.example.com:1", "ipv6:[::2]:9", ""):
        assert not stays_here(peer)


def test_a_unix_socket_is_its_owners_and_groups(tmp_path: Path) -> None:
    """Everybody who may write to it may do everything."""
    server = RunServer(agents=[], settings=make_settings())
    server.start(f"unix:{tmp_path}/socket")
    try:
        assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o660
    finally:
        server.stop()
