"""The agent cards: what a runnable is, and where and how it is asked. Values only."""

import re
from collections.abc import Sequence
from importlib.metadata import version

from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)

from pullcord.run.runnable import RunnableInfo

VERSION = "1.0"
"""Of the protocol."""
_SPOKEN = re.compile(r"1(\.[0-9]{1,6}){0,2}")
_MODES = ["text/plain", "application/json"]
_BEARER = "bearer"


def is_spoken(version: str) -> bool:
    """Whether this is a version of the protocol that is spoken here."""
    return _SPOKEN.fullmatch(version) is not None


def card(
    info: RunnableInfo, interfaces: Sequence[AgentInterface], *, asks_callers: bool
) -> AgentCard:
    """The card of one runnable. `asks_callers`: whether they must bring a token."""
    name = info.display_name or info.id
    files = sorted({*info.takes.data_types, *info.takes.uri_types} - set(_MODES))
    made = AgentCard(
        name=name,
        description=info.description or name,
        version=version("pullcord"),
        supported_interfaces=interfaces,
        capabilities=AgentCapabilities(
            streaming=True, push_notifications=False, extended_agent_card=False
        ),
        default_input_modes=[*_MODES, *files],
        default_output_modes=_MODES,
        skills=[
            AgentSkill(
                id=info.id,
                name=name,
                description=info.description or name,
                tags=[info.kind.value, *info.members],
            )
        ],
    )
    if asks_callers:
        scheme = HTTPAuthSecurityScheme(scheme="Bearer", description="A token of this server.")
        made.security_schemes[_BEARER].CopyFrom(SecurityScheme(http_auth_security_scheme=scheme))
        made.security_requirements.append(SecurityRequirement(schemes={_BEARER: StringList()}))
    return made
