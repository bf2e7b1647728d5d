"""The settings of workers that Ray places. Values only; Ray is not loaded for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Where Ray is, and what its workers get."""

    address: str = "auto"
    """The cluster's, host:port; `auto`: the one that this machine belongs to."""
    runtime_env: Mapping[str, Any] | None = None
    """Ray's runtime environment of the workers, as JSON, such as `{"working_dir": "."}`: by that
    your module comes to their machines. Unset: it is there already, such as in an image."""
    cpu: float = 1.0
    """Processors of a worker whose runs ask for no resources; a part of one counts as that."""
