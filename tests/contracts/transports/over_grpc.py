"""gRPC, the way that all others are measured against."""

from collections.abc import Iterator
from typing import Any

import grpc
from grpc_status import rpc_status
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.contracts.transports.messages import Messages, refused_of
from tests.steady import PATIENCE


class Grpc(Messages):
    name = "grpc"

    def __init__(self, address: str, url: str, token: str, runnables: dict[str, str]) -> None:
        super().__init__(address, url, token, runnables)
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._stub = RunServiceStub(self._channel)

    @property
    def _who(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token}")] if self.token else []

    def unary(self, rpc: str, request: Any) -> Any:
        try:
            return getattr(self._stub, rpc)(request, metadata=self._who, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise self._refused(error) from None

    def stream(self, rpc: str, request: Any) -> Iterator[Any]:
        call = getattr(self._stub, rpc)(request, metadata=self._who)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._refused(error) from None
        finally:
            call.cancel()

    def _refused(self, error: Any) -> Exception:
        status = rpc_status.from_call(error)
        assert status is not None, error
        return refused_of(status.details, error.code().name, error.details())

    def close(self) -> None:
        self._channel.close()
