"""A door for browsers to a server that speaks gRPC only: Connect comes in, gRPC goes out.

It is for servers that play a part: the real one speaks Connect by itself. It knows no message, and
only as much of Connect as a client of RunService sends.
"""

import base64
import contextlib
import json
import select
import socket
import struct
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

_STREAMS = ("Run", "WatchRun", "WatchRuns")
_OURS = ("content-", "connect-", "accept", "sec-", "host", "connection", "origin", "referer")
"""Headers of the request itself, by how they begin; the others are the call's metadata."""
_LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_END = 2


class Door:
    """Listens for a browser; end it, or use it in `with`."""

    def __init__(self, target: str) -> None:
        options = [*_LARGE, ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(target, options)
        channel = self._channel

        class Handler(_Handler):
            pass

        Handler.channel = channel
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="door", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes no more calls."""
        self._server.shutdown()
        self._server.server_close()
        self._channel.close()


class _Handler(BaseHTTPRequestHandler):
    channel: grpc.Channel
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        """Makes one call."""
        body = self.rfile.read(int(self.headers["content-length"]))
        name = self.path.rpartition("/")[2]
        with contextlib.suppress(OSError):
            if name in _STREAMS:
                self._stream(body[5:])
            else:
                self._unary(body)

    def _call(self, multi: Any, body: bytes) -> Any:
        timeout = self.headers.get("connect-timeout-ms")
        metadata = [
            (name.lower(), value)
            for name, value in self.headers.items()
            if not name.lower().startswith((*_OURS, "user-agent"))
        ]
        made = multi(self.path)
        asked = None if timeout is None else int(timeout) / 1000
        return made(body, timeout=asked, metadata=metadata)

    def _unary(self, body: bytes) -> None:
        call = self._call(lambda path: self.channel.unary_unary(path).future, body)
        self._hang_up_with(call)
        try:
            self._answer(200, "application/proto", call.result())
        except (grpc.RpcError, grpc.FutureCancelledError):
            self._answer(500, "application/json", json.dumps(_told(call)).encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, body: bytes) -> None:
        call = self._call(self.channel.unary_stream, body)
        self._hang_up_with(call)
        self.send_response(200)
        self.send_header("content-type", "application/connect+proto")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        end: dict[str, Any] = {}
        try:
            for message in call:
                self._envelope(0, message)
        except grpc.RpcError:
            end["error"] = _told(call)
        except OSError:
            call.cancel()
            raise
        self._envelope(_END, json.dumps(end).encode())
        self.wfile.write(b"0\r\n\r\n")

    def _envelope(self, flags: int, message: bytes) -> None:
        data = struct.pack(">BI", flags, len(message)) + message
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _hang_up_with(self, call: Any) -> None:
        """Cancels the call when the browser leaves, also while nothing is said."""

        def watch() -> None:
            with contextlib.suppress(OSError, ValueError):
                while call.is_active() if hasattr(call, "is_active") else not call.done():
                    ready, _, _ = select.select([self.connection], [], [], 0.05)
                    if ready and not self.connection.recv(1, socket.MSG_PEEK):
                        call.cancel()
                        return
                    if ready:  # the next request, already
                        return

        threading.Thread(target=watch, name="door", daemon=True).start()


def _told(call: Any) -> dict[str, Any]:
    """A refusal as Connect writes it."""
    status = rpc_status.from_call(call) or Status()
    name = call.code().name.lower().replace("cancelled", "canceled")
    return {
        "code": name,
        "message": call.details() or "",
        "details": list(_details(status.details)),
    }


def _details(packed: Iterable[Any]) -> Iterable[dict[str, str]]:
    for detail in packed:
        value = base64.b64encode(detail.value).decode().rstrip("=")
        yield {"type": detail.type_url.rpartition("/")[2], "value": value}
