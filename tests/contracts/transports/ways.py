"""Every way to a server that the scenarios of `test_transports` are played over."""

from tests.contracts.transports.agentos import AgentOS
from tests.contracts.transports.connect import ConnectBinary, ConnectJson, GrpcWeb
from tests.contracts.transports.native import Native
from tests.contracts.transports.over_grpc import Grpc
from tests.contracts.transports.responses import Responses
from tests.contracts.transports.way import Way

WAYS: list[type[Way]] = [
    Grpc,
    ConnectJson,
    ConnectBinary,
    GrpcWeb,
    Native,
    Responses,
    AgentOS,
]
"""Add one here. It says in `lacks` what its protocol has no word for, and its answers are made the
same as everybody's."""

WAYS_BY_EVENT = [way for way in WAYS if way is not Responses]
"""Those whose numbers are the numbers of events; Responses numbers its frames."""
