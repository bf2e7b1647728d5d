"""The files of TLS, for every transport: what a listener shows, and what is wrong with it in words.

How a listener uses them, and reads them again, is its transport's business.
"""

import contextlib
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger("pullcord.tls")
_OPEN_TO_OTHERS = 0o037
"""Modes beyond 0640."""


class TlsError(OSError):
    """The certificate, its key or the client CA cannot be used."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a listener: its certificate, its key, and the CA of client certificates."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """None: clients show no certificate. gRPC knows no certificates that may be left out."""


def check(files: TlsFiles) -> None:
    """Raises TlsError in words; gRPC would only say that it cannot listen."""
    certificate, key = files.certificate, files.key
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        raise TlsError(
            f"{certificate} and {key} are no certificate and its key: {error}"
        ) from error
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except ssl.SSLError as error:
            raise TlsError(f"{files.client_ca} is no certificate of a CA: {error}") from error
    with contextlib.suppress(OSError):
        if key.stat().st_mode & _OPEN_TO_OTHERS:
            _log.warning("%s can be read by others on this machine; chmod 600 it", key)
