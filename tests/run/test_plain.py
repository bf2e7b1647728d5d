"""An author's values become plain ones of our own, whatever code they bring along."""

import enum
import json
import math
from collections import UserDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pullcord.run.plain import MAX_DEPTH, class_name, cut, plain, text, valid, words

ROOM = 64 * 1024
SMILE, LEFT, RIGHT = "\U0001f600", "\ud83d", "\ude00"


class LoudText(str):
    """Text whose every method raises."""

    __slots__ = ()

    def _no(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("not yours to call")

    __str__ = __repr__ = __len__ = __iter__ = encode = isascii = _no  # type: ignore[assignment]


class LoudDict(dict):  # type: ignore[type-arg]
    """A dict whose every method raises."""

    def _no(self, *args: Any) -> Any:
        raise RuntimeError("not yours to call")

    __iter__ = __len__ = __bool__ = __str__ = __repr__ = items = keys = _no  # type: ignore[assignment]


class LoudList(list):  # type: ignore[type-arg]
    """A list whose every method raises."""

    __iter__ = __len__ = __bool__ = __str__ = __repr__ = LoudDict._no  # type: ignore[assignment]


class Count(int):
    """A number with code of its own."""

    def _no(self, *args: Any) -> Any:
        raise RuntimeError("not yours to call")

    __str__ = __repr__ = __int__ = __abs__ = __le__ = __float__ = _no  # type: ignore[assignment]


class Meta(type):
    """A class of classes that lie about their names."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("nameless")


class Liar(metaclass=Meta):
    """An object that lies about everything that it can."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("classless")

    def __str__(self) -> str:
        raise RuntimeError("wordless")

    __repr__ = __str__


class Wordy:
    """An object whose words are a text of another class."""

    def __str__(self) -> str:
        return LoudText("words")


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


@dataclass
class Point:
    x: int


class Endless(Mapping):  # type: ignore[type-arg]
    """A mapping that never ends."""

    def __getitem__(self, key: Any) -> Any:
        return 1

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        while True:
            yield "key"


class Broken(Endless):
    """A mapping that cannot be read."""

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError("not today")


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("plain", "plain"),
        (f"a{LEFT}b", "a?b"),
        (f"a{RIGHT}", "a?"),
        (f"{LEFT}{RIGHT}", SMILE),
        (f"{RIGHT}{LEFT}{RIGHT}{LEFT}", f"?{SMILE}?"),
        ("\0", "\0"),
        (f"é{SMILE}", f"é{SMILE}"),
    ],
)
def test_text_becomes_valid_utf8(given: str, made: str) -> None:
    """A lone surrogate becomes "?", and two halves side by side become their character."""
    assert valid(given) == made
    assert text(given, "t") == made


def test_a_subclass_of_text_becomes_text() -> None:
    """What leaves is of the exact type str, and none of the subclass's methods is called."""
    made = text(LoudText("loud"), "t")
    assert (type(made), made) == (str, "loud")


def test_what_is_no_text_is_refused_by_the_field_s_name() -> None:
    """A TypeError names the field and the class that came."""
    for wrong in (None, 1, b"bytes", ["x"], Liar()):
        with pytest.raises(TypeError, match=rf"source\.id must be text, not {class_name(wrong)}"):
            text(wrong, "source.id")


def test_text_is_bounded_in_bytes() -> None:
    """A text of just so many bytes passes, and one byte more is refused by the field's name."""
    assert text("é" * 5, "name", 10) == "é" * 5
    with pytest.raises(ValueError, match=r"name must be at most 10 bytes, and has 11"):
        text("é" * 5 + "x", "name", 10)


@given(st.text(), st.integers(4, 40))
def test_a_cut_text_is_a_valid_beginning(given: str, most: int) -> None:
    """What is left is valid, begins as the text did, and says by an ellipsis that it was cut."""
    made = cut(given, most)
    assert len(made.encode()) <= most + 3
    whole = valid(given)
    assert made == whole or (made.endswith("…") and whole.startswith(made[:-1]))
    assert (made == whole) or len(whole.encode()) > most


def test_words_never_raise() -> None:
    """An object whose text cannot be had goes by its class's real name."""
    assert words(Liar()) == "<Liar>"
    assert class_name(Liar()) == "Liar"
    assert (type(words(Wordy())), words(Wordy())) == (str, "words")


class Pair(NamedTuple):
    a: int
    b: str


# Not parameters themselves: pytest looks at those, and some of these bear no look.
AS_JSON: list[tuple[object, object]] = [
    (None, None),
    (True, True),
    (5, 5),
    (5.5, 5.5),
    (Count(7), 7),
    (2**53, 2**53),
    (2**53 + 1, str(2**53 + 1)),
    (-(10**30), str(-(10**30))),
    (10**10_000, "<int>"),
    (math.nan, "nan"),
    (-math.inf, "-inf"),
    (b"\xff", "b'\\xff'"),
    ({1}, [1]),
    ({"b", "a"}, ["a", "b"]),
    (Point(1), "Point(x=1)"),
    (LoudText("loud"), "loud"),
    (Colour.RED, "red"),
    (Size.BIG, 3),
    (Pair(1, "b"), [1, "b"]),
    (LoudList([1, LoudDict(a=2)]), [1, {"a": 2}]),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (UserDict({"a": 1}), {"a": 1}),
    ({Colour.RED: 1, 2: 3, None: 4, LoudText("k"): 5}, {"red": 1, "2": 3, "None": 4, "k": 5}),
    (Liar(), "<Liar>"),
    (Wordy(), "words"),
    (f"{LEFT}{RIGHT}{LEFT}", f"{SMILE}?"),
]


@pytest.mark.parametrize("number", range(len(AS_JSON)))
def test_data_as_json_has_it(number: int) -> None:
    """Each value has one plain form, which JSON can hold."""
    given, becomes = AS_JSON[number]
    copied = plain({"v": given}, "data", ROOM)
    assert copied == {"v": becomes}
    assert is_plain(copied)
    assert json.loads(json.dumps(copied)) == copied


def is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def test_the_copy_shares_nothing() -> None:
    """What the author does to the data later does not change what was said."""
    data: dict[str, Any] = {"list": [1], "object": {"a": 1}}
    copied = plain(data, "data", ROOM)
    data["list"].append(2)
    data["object"]["b"] = 2
    assert copied == {"list": [1], "object": {"a": 1}}


def test_data_that_holds_itself_ends_at_the_depth_of_data() -> None:
    """Cyclic and deep data are cut at MAX_DEPTH, where a mark says what there was."""
    own: dict[str, Any] = {}
    own["again"] = own
    listed: list[Any] = []
    listed.append(listed)
    for value, mark in ((own, "{…}"), ({"again": listed}, "[…]")):
        inner: Any = plain(value, "data", ROOM)
        levels = 0
        while type(inner) is not str:
            inner = inner["again"] if type(inner) is dict else inner[0]
            levels += 1
        assert (inner, levels) == (mark, MAX_DEPTH)


def test_data_that_doubles_with_every_level_is_refused_and_not_built() -> None:
    """Thirty lists that each hold the next one twice would be a thousand million values."""
    inner: list[Any] = []
    for _ in range(60):
        inner = [inner, inner]
    with pytest.raises(ValueError, match="data must be at most"):
        plain({"v": inner}, "data", ROOM)


@pytest.mark.parametrize(
    "too_large",
    [Endless(), {"k": "x" * ROOM}, {"k" * ROOM: 1}, {str(n): n for n in range(ROOM)}],
    ids=["endless", "text", "key", "many"],
)
def test_data_that_is_too_large_is_refused(too_large: object) -> None:
    """A ValueError names the field and the bound, also where the data would never end."""
    with pytest.raises(ValueError, match=rf"Custom\.data must be at most {ROOM} bytes"):
        plain(too_large, "Custom.data", ROOM)


def test_data_must_be_a_mapping() -> None:
    """A TypeError names the field and the class that came."""
    for wrong in (None, [1], "text", 5, {1}, Liar()):
        with pytest.raises(TypeError, match=rf"Custom\.data must be .*, not {class_name(wrong)}"):
            plain(wrong, "Custom.data", ROOM)


def test_data_that_cannot_be_read_is_a_type_error_of_the_field() -> None:
    """What a mapping's own code raises is named, and is the cause of ours."""
    with pytest.raises(TypeError, match="data cannot be read: ZeroDivisionError: not to") as raised:
        plain({"a": Broken()}, "data", ROOM)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
