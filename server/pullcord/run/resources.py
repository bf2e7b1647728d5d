"""What one run of a runnable needs of a machine: processors, memory, GPUs.

A frozen value that its author gives, checked when it is made. Who has such room, and what becomes
of a run for which there is none now, is for the executors.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("kmgt", 1)}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_LEAST_MEMORY = 16 * 1024**2
"""Bytes: no worker begins with less, so such a number is a missing unit."""
_MOST = 2**20
"""Processors or GPUs of one run."""
_HUGE = 2**53
"""No number here is as large."""
_MOST_SHOWN = 80
"""Characters of a wrong value that are repeated."""


class ResourcesError(ValueError):
    """A resource is not what it must be; the message says what would be."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(f"resources.{field} {words}")
        self.field = field
        """The one that is wrong: `cpu`, `memory` or `gpu`."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The room that a worker has for one run at a time, such as
    `Resources(cpu=2, memory="4GiB", gpu=1)`."""

    cpu: float = 1.0
    """Processors; a part of one, such as 0.5, counts as that."""
    memory: int | str | None = None
    """Bytes, or text such as "4GiB"; kept as bytes. None: as much as there is."""
    gpu: float = 0.0
    """GPUs; a part of one is shared with others."""

    def __post_init__(self) -> None:
        """Raises ResourcesError, which names the field that is wrong."""
        for field in ("cpu", "gpu"):
            object.__setattr__(self, field, _number(field, getattr(self, field)))
        if self.memory is not None:
            object.__setattr__(self, "memory", _bytes(self.memory))

    @property
    def memory_bytes(self) -> int | None:
        """The memory as a number; None: not said."""
        return None if self.memory is None else int(self.memory)

    def __str__(self) -> str:
        told = [f"cpu {self.cpu:g}"]
        if self.memory_bytes is not None:
            told.append(f"memory {self.memory_bytes / 1024**2:.0f} MiB")
        if self.gpu:
            told.append(f"gpu {self.gpu:g}")
        return ", ".join(told)


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ResourcesError(field, f"is {_shown(value)}; it must be a number, such as 1 or 0.5")
    if not 0 <= value <= _MOST:
        raise ResourcesError(field, f"is {_shown(value)}; it must be from 0 to {_MOST}")
    return float(value)


def _shown(value: object) -> str:
    """The value as its author has written it, if that is short."""
    if isinstance(value, int) and abs(value) >= _HUGE:  # Python may refuse to write it out
        return "a huge number"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _bytes(value: object) -> int:
    like = 'it must be bytes, or text such as "512MiB" or "4GiB"'
    if isinstance(value, str):
        found = _MEMORY.fullmatch(value.strip())
        if found is None:
            raise ResourcesError("memory", f"is {_shown(value)}; {like}")
        bytes_ = float(found[1]) * _UNITS[(found[2] or "").lower()]
        size = int(min(bytes_, _HUGE))  # it may be infinite
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise ResourcesError("memory", f"is {_shown(value)}; {like}")
    if size < _LEAST_MEMORY:
        raise ResourcesError("memory", f"is {_shown(value)}; it must be at least 16MiB: {like}")
    if size >= _HUGE:
        raise ResourcesError("memory", f"is {_shown(value)}; it must be less than 8 PiB: {like}")
    return size


def resources_of(runnable: object) -> Resources | None:
    """What one run of it needs; None where it does not say."""
    found = getattr(runnable, "resources", None)
    return found if isinstance(found, Resources) else None


def checked_resources(
    resources: Resources | None, of: str, parts: Iterable[object] = ()
) -> Resources | None:
    """What the author of `of` asked for; if that is nothing, the most that one of its parts does,
    because they execute where it does.

    Raises:
        TypeError: it is not a Resources.
        ResourcesError: a part needs more than was asked for.
    """
    if resources is not None and not isinstance(resources, Resources):
        raise TypeError(
            f"resources of {of!r} must be a Resources, such as Resources(cpu=2), "
            f"not {type(resources).__name__}"
        )
    needed = [found for part in parts if (found := resources_of(part)) is not None]
    if not needed:
        return resources
    most = Resources(
        cpu=max(one.cpu for one in needed),
        memory=max((one.memory_bytes or 0 for one in needed), default=0) or None,
        gpu=max(one.gpu for one in needed),
    )
    if resources is None:
        return most
    for field in fields(resources):
        has, needs = getattr(resources, field.name), getattr(most, field.name)
        if has is not None and (needs or 0) > has:
            raise ResourcesError(
                field.name, f"of {of!r} is {has:g}, and one of its parts needs {needs:g}"
            )
    return resources
