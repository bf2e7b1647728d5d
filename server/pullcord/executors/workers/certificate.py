"""The certificate by which workers elsewhere know their control process. It is made at its start,
lives as long as it, and is signed by nobody: workers are told its fingerprint.
"""

import datetime
import os
import ssl
import tempfile
from pathlib import Path

from pullcord.extras import needed
from pullcord.link.greeting import fingerprint_of


def own_certificate() -> tuple[ssl.SSLContext, str]:
    """A server's context with a fresh certificate, and the fingerprint of that.

    Raises MissingExtra where the package that makes it is not installed.
    """
    with needed("workers", "PULLCORD_WORKER_COMMAND"):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pullcord")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + 3650 * day)  # nobody looks at that: the fingerprint is compared
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    fd, path = tempfile.mkstemp()  # the ssl module reads keys of files only; nobody else reads this
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(pem)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
    return context, fingerprint_of(made.public_bytes(serialization.Encoding.DER))
