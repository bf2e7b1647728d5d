"""TLS for the listeners of a gRPC server: certificates that are read again when their files change.

New connections get the new certificate; those that are open keep theirs, and no stream breaks. A
pair that cannot be used leaves the last one standing, and the log says so.
"""

import contextlib
import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from pullcord.identity.changes import Changes

_log = logging.getLogger("pullcord.grpc")
_OPEN_TO_OTHERS = 0o037
"""Modes beyond 0640."""


class TlsError(OSError):
    """The certificate, its key or the client CA cannot be used."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a listener shows, and whose client certificates it asks for. PEM files."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    """None: clients show no certificate. gRPC knows no certificates that may be left out."""


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a listener. Raises TlsError."""
    reading = _Reading(files)
    first = reading.read()
    if first is None:  # never: the first look reads or raises
        raise TlsError("the certificate was not read")
    return grpc.dynamic_ssl_server_credentials(
        first,
        reading.read,  # type: ignore[arg-type]  # it may return None, as gRPC's documentation says
        require_client_authentication=files.client_ca is not None,
    )


class _Reading:
    """Reads the files for gRPC, which asks in a thread of its own for each new connection."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        paths = [files.certificate, files.key, files.client_ca]
        self._changes = Changes([path for path in paths if path is not None])
        self._first = True

    def read(self) -> grpc.ServerCertificateConfiguration | None:
        """What has changed; None: nothing has. The first time it raises what is wrong."""
        with self._lock:
            if self._first:
                made = self._read()
                self._first = False
                return made
            if not self._changes.seen():
                return None
            try:
                made = self._read()
            except (OSError, ValueError) as error:
                _log.error("the certificate is not read again, the last one stands: %s", error)
                return None
            _log.info("%s was read again, for new connections", self._files.certificate)
            return made

    def _read(self) -> grpc.ServerCertificateConfiguration:
        files = self._files
        key, certificate = files.key.read_bytes(), files.certificate.read_bytes()
        ca = None if files.client_ca is None else files.client_ca.read_bytes()
        check(files)
        if (key, certificate) != (files.key.read_bytes(), files.certificate.read_bytes()):
            raise TlsError("the files change while they are read; replace each by a rename")
        return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)


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
