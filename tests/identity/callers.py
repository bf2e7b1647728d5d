"""Callers with tokens, a server that knows them, and certificates of a CA made for one test."""

import datetime
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pullcord import RunServer
from pullcord.client import RunClient
from pullcord.identity.tokens import digest_of
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.transports.harness import make_settings

CALLERS = {
    "ann": "acme user",
    "bob": "acme user",
    "vic": "acme viewer",
    "olga": "acme operator",
    "una": "umbrella operator",
    "eve": "umbrella user",
    "root": "ops admin",
    "robot": "acme user,act_as",
}
"""Their tenant and grants, by subject. The token of each is its name and a word."""


def token_of(subject: str) -> str:
    return f"{subject}-s3cret"


def line_of(subject: str, who: str) -> str:
    tenant, grants = who.split()
    return f"{digest_of(token_of(subject))} {tenant} {subject} {grants}\n"


def write_tokens(path: Path, callers: dict[str, str] = CALLERS) -> Path:
    path.write_text("# test\n" + "".join(line_of(name, who) for name, who in callers.items()))
    return path


class Guarded:
    """A server that knows callers by tokens."""

    def __init__(self, folder: Path, agents: Iterable[Any], **settings: Any) -> None:
        self.tokens = write_tokens(folder / "tokens")
        arguments = {
            name: settings.pop(name)
            for name in ("authenticator", "policy", "observer", "store")
            if name in settings
        }
        settings.setdefault("tokens", self.tokens)
        self.server = RunServer(agents=agents, settings=make_settings(**settings), **arguments)
        self.address = self.server.start()
        self._open: list[Any] = []

    def client(self, subject: str, **more: Any) -> RunClient:
        client = RunClient(self.address, token=token_of(subject), **more)
        self._open.append(client)
        return client

    def stub(self) -> RunServiceStub:
        channel = grpc.insecure_channel(self.address)
        self._open.append(channel)
        return RunServiceStub(channel)

    def close(self) -> None:
        for one in self._open:
            one.close()
        self.server.stop()


def bearer(subject: str) -> tuple[tuple[str, str], ...]:
    """The metadata of this caller; of nobody for an empty name."""
    return (("authorization", f"Bearer {token_of(subject)}"),) if subject else ()


@contextmanager
def guarded(folder: Path, *agents: Any, **settings: Any) -> Iterator[Guarded]:
    served = Guarded(folder, agents, **settings)
    try:
        yield served
    finally:
        served.close()


class Authority:
    """A CA of one test."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key, is_ca=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(_pem(self.certificate))

    def issue(
        self,
        name: str,
        *,
        uris: Iterable[str] = (),
        client: bool = False,
        expired: bool = False,
        into: str = "",
    ) -> tuple[Path, Path]:
        """A certificate and its key, written by rename."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        if not client:
            names += [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, names=names, client=client, expired=expired)
        into = into or name
        paths = self._folder / f"{into}.crt", self._folder / f"{into}.key"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        for path, data in zip(paths, (_pem(certificate), secret), strict=True):
            new = path.with_suffix(".new")
            new.write_bytes(data)
            new.chmod(0o600)
            new.rename(path)
        return paths

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        names: Iterable[x509.GeneralName] = (),
        is_ca: bool = False,
        client: bool = False,
        expired: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        end = now - datetime.timedelta(hours=1) if expired else now + datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not is_ca:
            usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names := list(names):
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
