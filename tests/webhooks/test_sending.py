"""One request: over TLS with the name's certificate, to the address that was checked."""

import datetime
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pullcord.webhooks import addresses
from pullcord.webhooks.sending import Outcome, Sender

from tests.webhooks.receiver import KEY, Receiver


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate and key of `hooks.test`, in one file that is trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "hooks.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


class Names:
    """A name server that changes its mind: a name is public once, and private from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self._look_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)
        monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")

    def _answer(self, host: Any, port: Any, *args: Any, **named: Any) -> Any:
        if host in ("hooks.test", "other.test"):
            self.asked += 1
            host = "127.0.0.1" if self.asked == 1 else "127.0.0.2"
        return self._look_up(host, port, *args, **named)


async def test_a_name_is_looked_up_once_and_its_certificate_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    """The address that was checked is connected to, and TLS verifies the name of the URL."""
    names, asked_for = Names(monkeypatch), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda made, name, _: asked_for.append(name)
    receiver = Receiver(context=context)
    sender = Sender(f"https://hooks.test:{receiver.port}/x", [KEY], private=False, most=2)
    other = Sender(f"https://other.test:{receiver.port}/x", [KEY], private=False, most=2)
    try:
        assert (await sender.send("msg_1", b"{}")).outcome is Outcome.DELIVERED
        assert (names.asked, asked_for) == (1, ["hooks.test"])
        refused = await other.send("msg_2", b"{}")
        assert (refused.outcome, "127.0.0.2, which is not public" in refused.words) == (
            Outcome.FAILED,
            True,
        )
        names.asked = 0  # now its address is public, but the certificate is not its own
        refused = await other.send("msg_2", b"{}")
        assert "CERTIFICATE_VERIFY_FAILED" in refused.words
        assert [got.id for got in receiver.got] == ["msg_1"]
    finally:
        await sender.close()
        await other.close()
        receiver.close()
