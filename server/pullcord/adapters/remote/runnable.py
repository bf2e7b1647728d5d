"""The RemoteRunnable: what an author writes down about a runnable that another Pullcord serves.

It is a value; one object serves any number of runs, on several event loops, at a time. How one
remote run goes is in `call`.
"""

from collections.abc import Iterable

import grpc

from pullcord.adapters.remote.call import RemoteCall, spec_options
from pullcord.adapters.remote.clients import LoopClients
from pullcord.adapters.remote.joining import Joining
from pullcord.client import AsyncRunClient, Pace
from pullcord.client.tokens import Token
from pullcord.native.in_process import Native
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind
from pullcord.run.record import DisconnectPolicy, is_runnable_name
from pullcord.run.takes import EVERYTHING


class RemoteRunnable(Native):
    """Something that another Pullcord serves, as a member, a step, or a runnable served here."""

    is_async = True
    name = ""
    members: tuple[str, ...] = ()

    def __init__(
        self,
        target: str,
        name: str,
        *,
        id: str | None = None,
        description: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Iterable[tuple[str, str | bytes]] = (),
        token: Token | None = None,
        delegates: bool = False,
        reconnect_for: float = 5.0,
        on_disconnect: DisconnectPolicy = DisconnectPolicy.CANCEL,
    ) -> None:
        """Describes it; nothing is connected before the first run.

        Args:
            target: the other server's address, as gRPC takes it.
            name: its full name there, such as `agents/writer`.
            id: its id here; the id of its full name if none is given.
            description: what it is, for callers and a team's leader.
            credentials: for TLS; None: the connection is not encrypted.
            metadata: goes with every call.
            token: the bearer token of this service, or a function that returns it. It is never a
                caller's own.
            delegates: whether the runs there belong to whom the run here belongs to. The other
                server must grant this service `act_as`; otherwise they are this service's.
            reconnect_for: seconds without the server after which a run here fails.
            on_disconnect: what happens to the remote run if the connection breaks or this process
                dies: CANCEL stops it at once, LEASE lets it wait for `reconnect_for` seconds.

        Raises:
            ValueError: this is no full name, or no such policy can be asked for.
        """
        if not is_runnable_name(name):
            raise ValueError(f"{name!r} is no full name such as 'agents/writer'")
        if on_disconnect is DisconnectPolicy.CONTINUE:
            raise ValueError("a remote run that nobody follows must end: on_disconnect CONTINUE")
        kind, _, remote_id = name.partition("/")
        self.kind = SourceKind(kind.removesuffix("s"))
        self.id = id or remote_id
        self.takes = EVERYTHING  # the other server refuses what its runnable does not take
        self.description = description
        self.remote_name = name
        """Its full name where it is served."""
        self._delegates = delegates
        self._on_disconnect = on_disconnect
        self._lease = reconnect_for if on_disconnect is DisconnectPolicy.LEASE else None
        said = tuple(metadata)
        pace = Pace(reconnect_for=reconnect_for)
        self._clients = LoopClients(
            lambda: AsyncRunClient(
                target, credentials=credentials, metadata=said, token=token, pace=pace
            )
        )

    async def execute(self, ctx: RunContext) -> None:
        """Does one run, over there, under the same run_id."""
        client = await self._clients.get()
        if self._delegates:
            client = client.on_behalf_of(*ctx.scope)
        # What runs there may have side effects: a GRACEFUL stop is its to end.
        with ctx.critical():
            options = spec_options(ctx, self._on_disconnect, self._lease)
            joining = Joining(ctx, self.id, self.kind)
            await RemoteCall(client, ctx, self.remote_name, joining, options).follow()

    async def aclose(self) -> None:
        """Closes the connections, whichever loops they belong to; later runs make new ones."""
        await self._clients.aclose()
