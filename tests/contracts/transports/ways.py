"""Every way to a server that the scenarios of `test_transports` are played over."""

from tests.contracts.transports.a2a import A2A
from tests.contracts.transports.agentos import AgentOS
from tests.contracts.transports.agui import AgUi
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

WAYS_BY_ATTENDING = [*WAYS, AgUi, A2A]
"""And those whose clients do no more than start a run and follow it."""

WAYS_BY_LEAVING = [way for way in WAYS_BY_ATTENDING if way is not A2A]
"""Those whose clients stop what they leave."""
