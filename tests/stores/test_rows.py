"""The stored form of specs, runs and stops: what is read is what was written."""

from typing import Any

import pytest
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import Cancellation, CancelMode
from pullcord.run.message import Message, Part
from pullcord.run.record import DisconnectPolicy, RunSpec, SessionPolicy
from pullcord.run.usage import Limits
from pullcord.stores.rows import digest_of, spec_bytes, spec_of, stop_bytes, stop_of

SPECS: dict[str, dict[str, Any]] = {
    "plain": {"input": "x" * 3_000_000},
    "data": {"input_data": {"b": [1, 2.5, None, {"a": "é"}], "a": True}},
    "limits": {"limits": Limits(timeout=1.5, max_tokens=7, max_cost=0.25)},
    "session": {"session_id": "s", "user_id": "u", "session_policy": SessionPolicy.QUEUE},
    "lease": {"on_disconnect": DisconnectPolicy.LEASE, "lease": 2.0, "labels": {"k": "v"}},
    "parts": {
        "parts": (Part(text="look"), Part(data=b"\0" * 9_000_000, media_type="image/png")),
        "messages": (Message.of("user", "hello"),),
    },
}


@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS)
def test_a_spec_is_read_as_it_was(fields: dict[str, Any]) -> None:
    """Whatever it holds, also beyond the bounds of today; equal specs have equal bytes."""
    spec = RunSpec("agents/a", run_id="r", **fields)
    stored = spec_of(spec_bytes(spec))
    assert stored == spec
    assert digest_of(stored) == digest_of(spec)
    assert digest_of(spec) != digest_of(RunSpec("agents/b", run_id="r", **fields))


def test_a_stop_is_read_as_it_was() -> None:
    """With its times, mode and grace period."""
    cancellation = Cancellation(actor="ann", mode=CancelMode.IMMEDIATE, accept_time=7.25)
    for grace in (None, 0.0, 2.5):
        request = CancelRequest(cancellation, grace)
        assert stop_of(stop_bytes(request), grace) == request
