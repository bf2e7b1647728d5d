"""Parts and messages on their way from a caller to the code, and what is refused before that."""

import hashlib
import json
from functools import partial

import grpc
from pullcord import RunContext, runnable
from pullcord.agent import Agent
from pullcord.models.offline import OfflineModel
from pullcord.run.message import Message, Part
from pullcord.v1 import run_pb2
from pullcord.workflow.workflow import Workflow

from tests.transports.harness import Refusal, Serve, in_both_modes, make_spec, refusal, v1

PNG = b"\x89PNG" + bytes(range(256))
IMAGE = run_pb2.Part(data=PNG, media_type="image/png", name="cat.png")
LINK = run_pb2.Part(uri="https://example.com/dog.png", media_type="image/png")
SAID = run_pb2.Message(
    role=run_pb2.MESSAGE_ROLE_USER, parts=[run_pb2.Part(text="before"), IMAGE], name="ann"
)
ANSWERED = run_pb2.Message(role=run_pb2.MESSAGE_ROLE_ASSISTANT, parts=[run_pb2.Part(text="a cat")])


def told(parts: tuple[Part, ...], messages: tuple[Message, ...]) -> str:
    """What came, as JSON with digests of what is long."""
    return json.dumps(
        {
            "parts": [_told(part) for part in parts],
            "messages": [[m.role, m.name, *map(_told, m.parts)] for m in messages],
        }
    )


def violations(refused: Refusal) -> dict[str, str]:
    """What is wrong, by field."""
    return {v.field: v.description for v in refused.bad_request.field_violations}


def _told(part: Part) -> list[str | None]:
    digest = None if part.data is None else hashlib.sha256(part.data).hexdigest()
    return [part.text, part.uri, digest, part.media_type, part.name]


@runnable
def tells(ctx: RunContext) -> str:
    return told(ctx.parts, ctx.messages)


@runnable
def names_them(input: str, parts: tuple[Part, ...]) -> str:
    return f"{input}: {', '.join(part.label for part in parts)}"


@runnable
def says_nothing(input: str) -> str:
    return input


passes_on = Workflow(id="passes-on", steps=[tells, says_nothing])
starts_with_text = Workflow(id="starts-with-text", steps=[says_nothing, tells])
offline = Agent(id="offline", model=OfflineModel(words_per_second=1e9))


@in_both_modes
def test_all_of_it_comes_to_the_code_as_it_was_sent(serve: Serve) -> None:
    """Text, addresses, bytes, names and roles, in their order."""
    served = serve(tells)
    digest = hashlib.sha256(PNG).hexdigest()
    text = run_pb2.Part(text="look")
    end = served.run("agents/tells", parts=[text, IMAGE, LINK], messages=[SAID, ANSWERED]).end()
    image = [None, None, digest, "image/png", "cat.png"]
    assert json.loads(end.run_completed.output) == {
        "parts": [
            ["look", None, None, "", ""],
            image,
            [None, "https://example.com/dog.png", None, "image/png", ""],
        ],
        "messages": [
            ["user", "ann", ["before", None, None, "", ""], image],
            ["assistant", "", ["a cat", None, None, "", ""]],
        ],
    }


@in_both_modes
def test_a_run_shows_its_parts_without_their_bytes(serve: Serve) -> None:
    """GetRun is as short as ever; a list has nothing of them."""
    served = serve(tells)
    long = run_pb2.Part(text="x" * 5000)
    started = served.start("agents/tells", parts=[IMAGE, LINK, long], messages=[SAID])
    served.wait(started.run_id)
    shown = served.get(started.run_id).parts
    assert [(p.WhichOneof("content"), p.name, p.media_type) for p in shown] == [
        (None, "cat.png", "image/png"),
        ("uri", "", "image/png"),
        ("text", "", ""),
    ]
    assert shown[2].text == "x" * 1024 + "…"
    assert not served.list().runs[0].parts


@in_both_modes
def test_the_same_parts_are_the_same_run(serve: Serve) -> None:
    """A retry attaches; with one byte changed it is another run's id that is taken."""
    served = serve(tells)
    spec = {"run_id": "once", "parts": [IMAGE], "messages": [SAID]}
    first = served.run("agents/tells", **spec).end()
    assert served.run("agents/tells", **spec).end() == first
    other = run_pb2.Part(data=PNG + b"!", media_type="image/png", name="cat.png")
    for wrong in ({"parts": [other]}, {"messages": []}):
        told = refusal(partial(served.start, "agents/tells", **{**spec, **wrong}))
        assert told.code is grpc.StatusCode.ALREADY_EXISTS


@in_both_modes
def test_what_is_not_taken_is_refused_before_the_run_begins(serve: Serve) -> None:
    """INVALID_ARGUMENT names the field, and there is no run."""
    served = serve(says_nothing, names_them, offline)
    silent = "agents/says-nothing"
    for name, given, field, words in (
        (silent, {"parts": [LINK]}, "spec.parts", "agents/says-nothing takes none"),
        (silent, {"messages": [ANSWERED]}, "spec.messages", "agents/says-nothing takes none"),
        ("agents/names-them", {"messages": [SAID]}, "spec.messages", "takes none"),
    ):
        told = refusal(partial(served.start, name, run_id="never", **given))
        assert told.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(violations(told)) == [field]
        assert words in violations(told)[field]
    told = refusal(lambda: served.get("never"))
    assert told.code is grpc.StatusCode.NOT_FOUND
    end = served.run("agents/names-them", "two", parts=[IMAGE, LINK]).end()
    assert end.run_completed.output == "two: cat.png (image/png), a file (image/png)"


@in_both_modes
def test_what_each_takes_is_on_offer(serve: Serve) -> None:
    """A caller can ask before it sends a file."""
    served = serve(says_nothing, names_them, tells, offline)
    found = served.stub.ListRunnables(v1.ListRunnablesRequest()).runnables
    takes = {r.name: (r.takes.parts, r.takes.messages, list(r.takes.data_types)) for r in found}
    assert takes["agents/says-nothing"] == (False, False, [])
    assert takes["agents/names-them"] == (True, False, ["*/*"])
    assert takes["agents/tells"] == (True, True, ["*/*"])
    assert takes["agents/offline"][:2] == (True, True)


@in_both_modes
def test_the_first_step_of_a_workflow_gets_them(serve: Serve) -> None:
    """The steps after it get what it made."""
    served = serve(tells, says_nothing, passes_on, starts_with_text)
    end = served.run("workflows/passes-on", parts=[LINK], messages=[ANSWERED]).rest()[-1]
    assert json.loads(end.run_completed.output)["parts"][0][1] == LINK.uri
    assert json.loads(end.run_completed.output)["messages"][0][0] == "assistant"
    told = refusal(lambda: served.start("workflows/starts-with-text", parts=[LINK]))
    assert "spec.parts" in violations(told)


@in_both_modes
def test_the_offline_model_says_what_came(serve: Serve) -> None:
    """Whoever tries an attachment sees that it arrived."""
    served = serve(offline)
    text = run_pb2.Part(data=b"milk, bread", media_type="text/plain", name="list.txt")
    output = served.run("agents/offline", "buy this", parts=[IMAGE, text]).end().run_completed
    assert "You attached cat.png (image/png) of 260 bytes" in output.output
    assert "milk" in served.run("agents/offline", parts=[text]).end().run_completed.output


class TestBounds:
    def test_each_wrong_field_is_named(self, serve: Serve) -> None:
        """Whatever is wrong with parts and messages is told at once, by its path."""
        served = serve(tells, max_part_bytes=10)
        spec = make_spec(
            "agents/tells",
            parts=[
                run_pb2.Part(),
                run_pb2.Part(text="x" * 11),
                run_pb2.Part(data=b"x" * 11, media_type="image/png"),
                run_pb2.Part(uri="cat.png", media_type="image/png"),
                run_pb2.Part(data=b"x"),
            ],
            messages=[run_pb2.Message(), run_pb2.Message(role=99, parts=[run_pb2.Part(text="x")])],
        )
        told = refusal(lambda: served.stub.StartRun(v1.StartRunRequest(spec=spec)))
        assert set(violations(told)) == {
            "spec.parts[0]",
            "spec.parts[1].text",
            "spec.parts[2].data",
            "spec.parts[3].uri",
            "spec.parts[4].media_type",
            "spec.messages[0].role",
            "spec.messages[0].parts",
            "spec.messages[1].role",
        }

    def test_the_default_bounds_fit_a_message(self, serve: Serve) -> None:
        """As much as may be sent arrives, beside the longest input; more is refused in words."""
        served = serve(tells)
        half = run_pb2.Part(data=b"x" * (4 * 2**20 - 100), media_type="image/png")
        end = served.run("agents/tells", "y" * 2**20, parts=[half, half]).end()
        assert len(json.loads(end.run_completed.output)["parts"]) == 2
        told = refusal(lambda: served.start("agents/tells", parts=[half, half, half]))
        assert told.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "at most 8388608 bytes together, and have 12582639" in violations(told)["spec.parts"]

    def test_too_many_are_refused_before_they_are_read(self, serve: Serve) -> None:
        """A million empty parts cost nothing; nor do those of one message."""
        served = serve(tells)
        many = [run_pb2.Part(text="")] * 1001
        asked = {"spec.parts": make_spec("agents/tells", parts=many * 200)}
        message = run_pb2.Message(role=run_pb2.MESSAGE_ROLE_USER, parts=many * 200)
        asked["spec.messages"] = make_spec("agents/tells", messages=[message])
        for field, spec in asked.items():
            told = refusal(partial(served.stub.StartRun, v1.StartRunRequest(spec=spec)))
            assert "at most 1000" in violations(told)[field]
        just = make_spec("agents/tells", messages=[SAID] * 500)
        assert served.stub.StartRun(v1.StartRunRequest(spec=just)).run.run_id
