"""Files on their way to every provider: in which form each is sent, and what is not taken."""

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pullcord.models.base import Media, ModelError, ModelRequest, UserMessage
from pullcord.run.message import Part

from tests.models import claude_deviations as claude
from tests.models import gemini_deviations as gemini
from tests.models.kinds import KINDS, model_of
from tests.models.misbehaving import MisbehavingServer

BYTES = b"\x89PNG\r\n\x1a\n"
IN_64 = base64.b64encode(BYTES).decode()
PDF = Part(data=BYTES, media_type="application/pdf", name="a.pdf")
IMAGE = Part(data=BYTES, media_type="image/PNG")
LINK = Part(uri="https://example.com/cat.png", media_type="image/png")
WAV = Part(data=BYTES, media_type="audio/wav")
MP3 = Part(data=BYTES, media_type="audio/mpeg")
FILM = Part(data=BYTES, media_type="video/mp4")
PAPER = Part(uri="https://example.com/a.pdf", media_type="application/pdf")
WORDS = Part("and?")

URL = f"data:image/png;base64,{IN_64}"
PDF_URL = f"data:application/pdf;base64,{IN_64}"
ANSWERS: dict[str, list[Any]] = {
    "chat": [{"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}, "[DONE]"],
    "responses": [
        {"type": "response.output_text.delta", "delta": "hi"},
        {"type": "response.completed", "response": {"status": "completed"}},
    ],
    "claude": [*claude.HI, *claude.end()],
    "gemini": [gemini.HI, gemini.END],
}


@pytest.fixture
async def ask() -> AsyncIterator[Callable[..., Any]]:
    """Sends one message of the user's to a provider, and returns what has arrived there."""
    with MisbehavingServer() as server:

        async def send(name: str, *parts: Part, text: str = "look", **options: Any) -> Any:
            if name not in KINDS:
                pytest.skip(f"the extra of {name} is not installed")
            server.answers(*ANSWERS[name])
            model = model_of(name, server, **options)
            try:
                async for _ in model.stream(ModelRequest((UserMessage(text, parts),))):
                    pass
            finally:
                await model.aclose()
            body = server.requests[-1].body
            if name == "gemini":
                return body["contents"][0]["parts"]
            return body["input" if name == "responses" else "messages"][0]["content"]

        yield send


async def test_chat_completions(ask: Callable[..., Any]) -> None:
    """Images by address or inline, sound by its format, and files."""
    assert await ask("chat", IMAGE, WORDS, LINK, WAV, MP3, PDF) == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "text", "text": "and?"},
        {"type": "image_url", "image_url": {"url": LINK.uri}},
        {"type": "input_audio", "input_audio": {"data": IN_64, "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": IN_64, "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}},
    ]
    films = Media(data=("video/*",))
    (film,) = await ask("chat", FILM, text="", media=films)
    assert film["video_url"] == {"url": f"data:video/mp4;base64,{IN_64}"}


async def test_responses(ask: Callable[..., Any]) -> None:
    """Images and files, each by address or inline; what has no name gets one."""
    unnamed = Part(data=BYTES, media_type="application/pdf")
    assert await ask("responses", IMAGE, WORDS, LINK, PDF, unnamed, PAPER) == [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": URL, "detail": "auto"},
        {"type": "input_text", "text": "and?"},
        {"type": "input_image", "image_url": LINK.uri, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": PDF_URL},
        {"type": "input_file", "filename": "file.pdf", "file_data": PDF_URL},
        {"type": "input_file", "file_url": PAPER.uri},
    ]


async def test_claude(ask: Callable[..., Any]) -> None:
    """Images and documents, each by address or inline."""
    inline = {"type": "base64", "media_type": "image/png", "data": IN_64}
    document = {"type": "base64", "media_type": "application/pdf", "data": IN_64}
    assert await ask("claude", IMAGE, WORDS, LINK, PDF, PAPER) == [
        {"type": "text", "text": "look"},
        {"type": "image", "source": inline},
        {"type": "text", "text": "and?"},
        {"type": "image", "source": {"type": "url", "url": LINK.uri}},
        {"type": "document", "source": document, "title": "a.pdf"},
        {"type": "document", "source": {"type": "url", "url": PAPER.uri}},
    ]


async def test_gemini(ask: Callable[..., Any]) -> None:
    """Any file, inline or by its address."""
    assert await ask("gemini", IMAGE, WORDS, FILM, PAPER) == [
        {"text": "look"},
        {"inlineData": {"mimeType": "image/png", "data": IN_64}},
        {"text": "and?"},
        {"inlineData": {"mimeType": "video/mp4", "data": IN_64}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": PAPER.uri}},
    ]


@pytest.mark.parametrize(
    ("name", "part", "words"),
    [
        ("chat", FILM, "and not a file (video/mp4)"),
        ("chat", PAPER, "takes image/* by its address, and not a file (application/pdf)"),
        ("responses", WAV, "as data, and not a file (audio/wav)"),
        (
            "claude",
            Part(data=b"x", media_type="image/tiff", name="a.tif"),
            "not a.tif (image/tiff)",
        ),
        ("gemini", Part(data=b"x", media_type="application/zip"), "not a file (application/zip)"),
    ],
)
async def test_what_an_api_does_not_take_is_not_sent(
    ask: Callable[..., Any], name: str, part: Part, words: str
) -> None:
    """A ModelError names the file, and what the model takes."""
    with pytest.raises(ModelError, match="the model 'm' takes") as raised:
        await ask(name, part)
    assert words in str(raised.value)


@pytest.mark.parametrize("name", list(ANSWERS))
async def test_an_author_may_say_that_a_model_sees_nothing(
    ask: Callable[..., Any], name: str
) -> None:
    """Not every model of an API takes what the API takes."""
    with pytest.raises(ModelError, match="takes no files as data"):
        await ask(name, IMAGE, media=Media())
