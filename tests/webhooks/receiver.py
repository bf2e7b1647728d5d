"""A receiver of webhooks, as somebody else would write one: a real server on a socket."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.steady import PATIENCE

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        return str(self.said["type"])

    @property
    def run(self) -> Any:
        return self.said["data"]["run"]

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def is_signed(self, key: bytes = KEY) -> bool:
        """As the specification of Standard Webhooks says it."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        made = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{made}" in self.headers["webhook-signature"].split()


class Receiver:
    """Answers with a status, and remembers what came."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.status = 204
        self.answer_headers: dict[str, str] = {}
        self.before_answer = threading.Event()
        """Whoever wants slow answers clears it."""
        self.before_answer.set()
        self.got: list[Got] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hooks/here"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver._changed:
                    receiver.got.append(Got(self.path, headers, body))
                    receiver._changed.notify_all()
                receiver.before_answer.wait(PATIENCE)
                self.send_response(receiver.status)
                for name, value in receiver.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def wait(self, count: int) -> list[Got]:
        """What came, once so many did."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.got) >= count, PATIENCE)
            assert came, f"{len(self.got)} of {count} webhooks came"
            return list(self.got)

    def of(self, kind: str, count: int = 1) -> list[Got]:
        """Those of a type, once so many came."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: sum(got.type == kind for got in self.got) >= count, PATIENCE
            )
            assert came, f"no {count} {kind} among {[got.type for got in self.got]}"
            return [got for got in self.got if got.type == kind]

    def close(self) -> None:
        self.before_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
