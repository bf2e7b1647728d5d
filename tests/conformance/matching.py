"""Compares what was seen with what a scenario expects, and says every difference in words.

An expectation names what matters; what it leaves out may be anything. In place of a value it may
say "<set>", "<unset>" (also: empty, 0, false) or a table of one of the rules below.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

RULES: dict[str, Callable[[Any, Any], bool]] = {
    "at_least": lambda seen, least: seen is not None and seen >= least,
    "at_most": lambda seen, most: seen is not None and seen <= most,
    "between": lambda seen, ends: seen is not None and ends[0] <= seen <= ends[1],
    "one_of": lambda seen, values: seen in values,
    "contains": lambda seen, part: seen is not None and part in seen,
    "length": lambda seen, length: seen is not None and len(seen) == length,
}


def differences(expected: Any, seen: Any, where: str = "") -> Iterator[str]:
    """Every way in which `seen` is not what was expected, by its path."""
    if isinstance(expected, Mapping):
        yield from _in_table(expected, seen, where)
    elif isinstance(expected, list):
        yield from _in_list(expected, seen, where)
    elif expected == "<set>":
        if not seen:
            yield f"{where}: is not set"
    elif expected == "<unset>":
        if seen:
            yield f"{where}: is {_short(seen)}, and should be unset"
    elif not _is_same(expected, seen):
        yield f"{where}: is {_short(seen)}, and should be {_short(expected)}"


def _in_table(expected: Mapping[str, Any], seen: Any, where: str) -> Iterator[str]:
    if expected and expected.keys() <= RULES.keys():
        for name, argument in expected.items():
            if not RULES[name](seen, argument):
                yield f"{where}: is {_short(seen)}, and should be {name} {_short(argument)}"
        return
    if not isinstance(seen, Mapping):
        yield f"{where}: is {_short(seen)}, and should be {_short(expected)}"
        return
    for key, value in expected.items():
        yield from differences(value, seen.get(key), f"{where}.{key}" if where else key)


def _in_list(expected: list[Any], seen: Any, where: str) -> Iterator[str]:
    if not isinstance(seen, list) or len(seen) != len(expected):
        yield f"{where}: is {_short(seen)}, and should be {_short(expected)}"
        return
    for index, (value, item) in enumerate(zip(expected, seen, strict=True)):
        yield from differences(value, item, f"{where}[{index}]")


def _is_same(expected: Any, seen: Any) -> bool:
    if isinstance(expected, bool) or isinstance(seen, bool):
        return expected is seen
    if isinstance(expected, float) or isinstance(seen, float):
        return isinstance(seen, int | float) and abs(expected - seen) < 1e-6
    return bool(expected == seen)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-60:]} ({len(value)} long)"
