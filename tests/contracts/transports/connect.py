"""Connect in both encodings, and gRPC-Web, over HTTP."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any, ClassVar

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.status_pb2 import Status
from pullcord.v1 import run_service_pb2 as v1

from tests.contracts.transports.messages import Messages, refused_of
from tests.contracts.transports.over_http import Http, closing
from tests.contracts.transports.way import Refused

SERVICE = "/pullcord.v1.RunService/"


class _Connect(Http, Messages):
    kind: ClassVar[str]
    """Of the media type, such as `json`."""

    def unary(self, rpc: str, request: Any) -> Any:
        media = f"application/{self.kind}"
        response = self.ask("POST", SERVICE + rpc, self.write(request), content_type=media)
        with_body = response.read()
        response.line.close()
        if response.status != 200:
            raise _of_connect(json.loads(with_body))
        return self.read(rpc, with_body)

    def stream(self, rpc: str, request: Any) -> Iterator[Any]:
        media = f"application/connect+{self.kind}"
        body = _envelope(self.write(request))
        response = self.ask("POST", SERVICE + rpc, body, content_type=media)
        assert response.status == 200, response.read()
        for flags, message in closing(response, _envelopes(response)):
            if flags & 2:
                if "error" in (end := json.loads(message)):
                    raise _of_connect(end["error"])
                return
            yield self.read(rpc, message)
        raise AssertionError("the stream was cut off")

    def write(self, request: Any) -> bytes:
        raise NotImplementedError

    def read(self, rpc: str, message: bytes) -> Any:
        raise NotImplementedError


def _envelope(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def _envelopes(response: Any) -> Iterator[tuple[int, bytes]]:
    while head := response.read(5):
        flags, size = struct.unpack(">BI", head)
        yield flags, response.read(size)


def _of_connect(error: Any) -> Refused:
    details = [
        Packed(
            type_url=f"type.googleapis.com/{detail['type']}",
            value=base64.b64decode(detail["value"] + "=="),
        )
        for detail in error["details"]
    ]
    return refused_of(details, error["code"], error["message"])


class ConnectJson(_Connect):
    name, kind = "connect-json", "json"

    def write(self, request: Any) -> bytes:
        return json_format.MessageToJson(request).encode()

    def read(self, rpc: str, message: bytes) -> Any:
        return json_format.Parse(message, getattr(v1, f"{rpc}Response")())


class ConnectBinary(_Connect):
    name, kind = "connect-binary", "proto"

    def write(self, request: Any) -> bytes:
        data: bytes = request.SerializeToString()
        return data

    def read(self, rpc: str, message: bytes) -> Any:
        return getattr(v1, f"{rpc}Response").FromString(message)


class GrpcWeb(Http, Messages):
    name = "grpc-web"

    def unary(self, rpc: str, request: Any) -> Any:
        (answer,) = self.stream(rpc, request)
        return answer

    def stream(self, rpc: str, request: Any) -> Iterator[Any]:
        body = _envelope(request.SerializeToString())
        media = "application/grpc-web+proto"
        response = self.ask("POST", SERVICE + rpc, body, content_type=media)
        assert response.status == 200, response.read()
        if response.getheader("grpc-status") not in (None, "0"):
            raise _of_trailers(dict(response.getheaders()))
        for flags, message in closing(response, _envelopes(response)):
            if flags & 128:
                lines = message.decode().strip().split("\r\n")
                trailers = dict(line.replace(": ", ":", 1).split(":", 1) for line in lines)
                if trailers["grpc-status"] != "0":
                    raise _of_trailers(trailers)
                return
            yield getattr(v1, f"{rpc}Response").FromString(message)
        raise AssertionError("the stream was cut off")


def _of_trailers(trailers: dict[str, str]) -> Refused:
    packed = trailers["grpc-status-details-bin"]
    status = Status.FromString(base64.b64decode(packed + "=="))
    return refused_of(status.details, trailers["grpc-status"], status.message)
