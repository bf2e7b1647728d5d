"""TLS for the listeners of a gRPC server: certificates that are read again when their files change.

New connections get the new certificate; those that are open keep theirs, and no stream breaks. A
pair that cannot be used leaves the last one standing, and the log says so.
"""

import logging
import threading

import grpc

from pullcord.identity.changes import Changes
from pullcord.transports.tls import TlsError, TlsFiles, check

_log = logging.getLogger("pullcord.grpc")


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
        """The certificates if they have changed, else None. At first, errors in them raise."""
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
