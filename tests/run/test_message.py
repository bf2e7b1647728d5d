"""Parts and messages: what is right, what is refused by name, and what a runnable takes."""

from pathlib import Path

import pytest
from pullcord.run.message import Message, Part, PartBounds, Role, guessed_type, is_textual
from pullcord.run.record import RunSpec
from pullcord.run.takes import EVERYTHING, NOTHING, Takes

PNG = b"\x89PNG\r\n"
FEW = PartBounds(count=2, part_bytes=10, all_bytes=1000)


def wrong(
    *parts: Part, messages: tuple[Message, ...] = (), bounds: PartBounds = FEW
) -> dict[str, str]:
    """What is wrong with a spec that has these, by field."""
    found = RunSpec("agents/a", parts=parts, messages=messages).violations(100, bounds)
    return {violation.field: violation.description for violation in found}


def test_each_form_of_a_part_is_right() -> None:
    """Text needs no media type; addresses and files have one."""
    assert not wrong(Part("hi"), Part("# hi", media_type="text/markdown", name="a.md"))
    assert not wrong(Part(uri="https://example.com/cat", media_type="image/png"))
    assert not wrong(Part(data=PNG, media_type="image/png", name="日記.png"))
    assert not wrong(Part(""))


@pytest.mark.parametrize(
    ("part", "field", "words"),
    [
        (Part(), "parts[0]", "must have one of text, uri and data"),
        (Part("x", data=PNG, media_type="image/png"), "parts[0]", "must have one of"),
        (Part("x" * 11), "parts[0].text", "must be at most 10 bytes, and has 11"),
        (
            Part(data=b"x" * 11, media_type="image/png"),
            "parts[0].data",
            "must be at most 10 bytes, and has 11",
        ),
        (Part(data=b"", media_type="image/png"), "parts[0].data", "must not be empty"),
        (Part(data=b"\xff", media_type="text/csv"), "parts[0].data", "must be UTF-8"),
        (Part(data=PNG), "parts[0].media_type", "is required with uri and data"),
        (Part(uri="https://x.org/a"), "parts[0].media_type", "is required with uri and data"),
        (Part(data=PNG, media_type="png"), "parts[0].media_type", "must look like"),
        (Part(data=PNG, media_type="image/*"), "parts[0].media_type", "must look like"),
        (Part(uri="cat.png", media_type="image/png"), "parts[0].uri", "must be a URI"),
        (Part(uri="https://x /a", media_type="image/png"), "parts[0].uri", "must be a URI"),
        (Part(uri="file:///etc/passwd", media_type="a/b"), "parts[0].uri", "must not be a file:"),
        (Part(uri="data:image/png;,x", media_type="a/b"), "parts[0].uri", "must not be a file:"),
        (Part("x", name="a" * 256), "parts[0].name", "must be at most 255 characters"),
        (Part("x", name="a\x1b[2J"), "parts[0].name", "none that controls a terminal"),
    ],
)
def test_a_wrong_part_is_refused_by_its_field(part: Part, field: str, words: str) -> None:
    """The path names the part and what of it is wrong."""
    found = wrong(part)
    assert list(found) == [field]
    assert words in found[field]


def test_parts_are_bounded_together() -> None:
    """Their count and their bytes are those of all, messages included."""
    three = (Part("a"), Part("b"), Part("c"))
    assert list(wrong(*three)) == ["parts"]
    assert list(wrong(Part("a"), messages=(Message(Role.USER, three),))) == ["messages"]
    assert list(wrong(messages=(Message.of("user", "a"),) * 3)) == ["messages"]
    most = PartBounds(10, 10, 25)
    assert not wrong(Part("x" * 10), messages=(Message.of("user", "x" * 10),), bounds=most)
    found = wrong(Part("x" * 10), Part("y" * 10), Part("z" * 10), bounds=most)
    assert "must be at most 25 bytes together, and have 30" in found["parts"]


@pytest.mark.parametrize(
    ("message", "field", "words"),
    [
        (Message(Role.USER), "messages[0].parts", "must be at least one"),
        (Message.of("tool", "21 °C"), "messages[0].name", "is required: the name of the tool"),
        (
            Message.of("assistant", Part(data=PNG, media_type="image/png")),
            "messages[0].parts[0]",
            "must be text",
        ),
        (Message.of("user", Part()), "messages[0].parts[0]", "must have one of"),
    ],
)
def test_a_wrong_message_is_refused_by_its_field(message: Message, field: str, words: str) -> None:
    """Only a user's message has files, and a tool's has a name."""
    found = wrong(messages=(message,))
    assert list(found) == [field]
    assert words in found[field]


def test_specs_with_other_parts_are_other_specs() -> None:
    """The same bytes are the same run; one byte more is another."""
    spec = RunSpec("agents/a", run_id="r", parts=(Part(data=PNG, media_type="image/png"),))
    again = RunSpec("agents/a", run_id="r", parts=(Part(data=bytes(PNG), media_type="image/png"),))
    assert spec == again
    other = RunSpec("agents/a", run_id="r", parts=(Part(data=PNG + b"x", media_type="image/png"),))
    assert spec != other
    assert RunSpec("agents/a", messages=(Message.of("user", "a"),)) != RunSpec("agents/a")


def test_a_file_does_not_show_its_bytes() -> None:
    """A spec in a log line or an error is short."""
    assert "PNG" not in repr(Part(data=PNG, media_type="image/png"))


def test_a_file_is_read_with_its_name_and_type(tmp_path: Path) -> None:
    """The media type follows from the name, unless it is given."""
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    assert Part.file(path) == Part(data=PNG, media_type="image/png", name="photo.png")
    assert Part.file(path, "image/webp").media_type == "image/webp"
    odd = tmp_path / "odd.zzz"
    odd.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"the media type of 'odd.zzz' is not known; give one"):
        Part.file(odd)
    assert (guessed_type("a.MD"), guessed_type("a.webp")) == ("text/markdown", "image/webp")


def test_files_of_text_are_text() -> None:
    """A model is given them as such, with the mark at their beginning left out."""
    assert Part(data="\ufeffé".encode(), media_type="text/csv").as_text == "é"
    assert Part(data=b"{}", media_type="Application/JSON").as_text == "{}"
    assert Part(data=PNG, media_type="image/png").as_text is None
    assert is_textual("text/x-anything")
    assert not is_textual("image/svg+xml")


def test_what_is_not_taken_is_named() -> None:
    """The runnable, the field, what it takes and what came are in the words."""
    image = Part(data=PNG, media_type="IMAGE/PNG")
    link = Part(uri="https://x.org/a.pdf", media_type="application/pdf")
    takes = Takes(True, True, ("image/*", "text/*"), ())
    assert not takes.violations([image, Part("x")], [Message.of("user", image)], "agents/a")
    found = takes.violations([Part("x"), link], [Message.of("user", link)], "agents/a")
    assert [(v.field, v.description) for v in found] == [
        ("parts[1].uri", "agents/a takes no files by a URI, not application/pdf"),
        ("messages[0].parts[0].uri", "agents/a takes no files by a URI, not application/pdf"),
    ]
    sound = Part(data=b"x", media_type="audio/wav")
    (only,) = takes.violations([sound], [], "agents/a")
    assert only.description == "agents/a takes image/*, text/* as data, not audio/wav"
    assert [v.field for v in NOTHING.violations([image], [], "agents/a")] == ["parts"]
    assert [v.field for v in NOTHING.violations([], [Message.of("user", "x")], "x")] == ["messages"]
    assert not EVERYTHING.violations([image, link], [Message.of("user", sound)], "agents/a")
