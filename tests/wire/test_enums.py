"""The pairs of enums."""

from enum import StrEnum

import pytest
from pullcord.run.events import SourceKind
from pullcord.v1 import runnable_pb2
from pullcord.wire import enums
from pullcord.wire.enums import EnumPair

PAIRS = {name: pair for name, pair in vars(enums).items() if isinstance(pair, EnumPair)}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_a_pair_is_complete(pair: EnumPair) -> None:  # type: ignore[type-arg]
    """Every value that the proto defines has its member in the domain, and the other way round."""
    members = set(type(pair.fallback))
    if pair is enums.RUNNABLE_KIND:
        members.remove(SourceKind.STEP)
    assert set(pair.numbers) == members
    for member, number in pair.numbers.items():
        assert pair.find(number) is member
        assert pair.read(number) is member
    assert pair.find(0) is None
    assert pair.find(99) is None
    assert pair.read(99) is pair.fallback


def test_a_proto_enum_without_its_domain_member_is_refused() -> None:
    """A value that was added to the proto alone is found before anything is served."""

    class Half(StrEnum):
        AGENT = "agent"

    with pytest.raises(TypeError, match="TEAM, WORKFLOW"):
        EnumPair(Half, runnable_pb2.RunnableKind, Half.AGENT)
