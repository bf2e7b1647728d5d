"""The runnables of the suite: what a run does stands in its own `input_data`, step by step.

They decide nothing and keep no time. A step that waits does so at a gate, and another run opens the
gate by its name; so a scenario can hold a run at any point, also on a server elsewhere.
"""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pullcord import RunContext, runnable
from pullcord.run.events import SourceKind, StepCompleted, StepStarted, ToolCall
from pullcord.run.finish import FinishReason
from pullcord.run.message import Part
from pullcord.run.takes import EVERYTHING
from pullcord.run.usage import Usage
from pullcord.testing import Gate

Step = Mapping[str, Any]

_gates: dict[str, Gate] = defaultdict(Gate)
_gates_lock = threading.Lock()


def gate_named(name: str) -> Gate:
    """The gate of this name; it is made, shut, where nobody has asked for it before."""
    with _gates_lock:
        return _gates[name]


@runnable(id="gate")
async def gate(input: str) -> str:
    """Opens the gate that its input names, for good. Async, so that it needs no worker thread."""
    gate_named(input).open()
    return input


@runnable(id="thread")
def thread(input_data: Mapping[str, Any], ctx: RunContext) -> None:
    """Says and waits in a worker thread; `input_data.steps` says what."""
    for step in input_data["steps"]:
        ((verb, argument),) = step.items()
        if verb == "say":
            ctx.write(argument)
        elif verb == "wait":
            gate_named(argument)(ctx)
        else:
            raise ValueError(f"a thread cannot {verb!r}")


class Script:
    """Does the steps in `input_data.steps` on a run loop."""

    is_async = True
    takes = EVERYTHING

    def __init__(
        self, kind: SourceKind, id: str = "script", name: str = "", members: tuple[str, ...] = ()
    ) -> None:
        self.kind = kind
        self.id = id
        self.name = name
        self.description = "Does the steps that its input_data holds."
        self.members = members

    def steps(self, ctx: RunContext) -> Sequence[Step]:
        """What the run is to do."""
        found: Sequence[Step] = (ctx.input_data or {}).get("steps", ())
        return found

    async def execute(self, ctx: RunContext) -> None:
        """Does one run."""
        await _do(ctx, self.steps(ctx))


async def _do(ctx: RunContext, steps: Sequence[Step]) -> None:
    for step in steps:
        ((verb, argument),) = step.items()
        await _VERBS[verb](ctx, argument)


async def _say(ctx: RunContext, text: str) -> None:
    ctx.write(text)


async def _think(ctx: RunContext, text: str) -> None:
    ctx.think(text)


async def _echo(ctx: RunContext, _: Any) -> None:
    ctx.write(ctx.input)


async def _given(ctx: RunContext, _: Any) -> None:
    """Says which parts and messages came, with a digest of their data."""
    ctx.emit(
        "given",
        {
            "parts": [_told(part) for part in ctx.parts],
            "messages": [
                {"role": m.role.name, "name": m.name, "parts": [_told(part) for part in m.parts]}
                for m in ctx.messages
            ],
        },
    )


def _told(part: Part) -> dict[str, str]:
    data = {} if part.data is None else {"sha256": hashlib.sha256(part.data).hexdigest()}
    text = {} if part.text is None else {"text": part.text}
    uri = {} if part.uri is None else {"uri": part.uri}
    return {**text, **uri, **data, "media_type": part.media_type, "name": part.name}


async def _finish(ctx: RunContext, reason: str) -> None:
    ctx.set_finish_reason(FinishReason[reason])


async def _wait(ctx: RunContext, name: str) -> None:
    waiting = gate_named(name)(ctx)
    if waiting is not None:
        await waiting


async def _repeat(ctx: RunContext, many: Mapping[str, Any]) -> None:
    """So many times what it names, each `text` with the number in place of `#`."""
    for n in range(int(many["times"])):
        text = many["text"].replace("#", str(n)) * int(many.get("long", 1))
        await _VERBS[many.get("do", "say")](ctx, text)


async def _tool(ctx: RunContext, call: Mapping[str, Any]) -> None:
    name = call["name"]
    with ctx.tool_call(call.get("id", name), name, call.get("arguments", "")) as returned:
        await _do(ctx, call.get("steps", ()))
        returned(call.get("result", ""))


async def _step(ctx: RunContext, part: Mapping[str, Any]) -> None:
    name = part.get("name", "")
    ctx.use(Usage(steps=1))
    ctx.begin(StepStarted(part["id"], name))
    await _do(ctx, part.get("steps", ()))
    ctx.emit(StepCompleted(part["id"], name, output=part.get("output", "")))


async def _emit(ctx: RunContext, event: Mapping[str, Any]) -> None:
    ctx.emit(event["name"], event.get("data", {}))


async def _mark(ctx: RunContext, name: str) -> None:
    ctx.emit(name)


async def _use(ctx: RunContext, usage: Mapping[str, float]) -> None:
    counts = {name: n if name == "cost" else int(n) for name, n in usage.items()}
    if counts.pop("cost_unknown", 0):
        ctx.use(Usage(cost=None))
    ctx.use(Usage(**counts))


async def _start(ctx: RunContext, member: Mapping[str, Any]) -> None:
    """A run beneath this one; this one goes on when that has ended, whatever its end."""
    beneath = Script(SourceKind.AGENT, member["id"], member.get("name", ""))
    await ctx.start(beneath, data={"steps": member.get("steps", ())}).wait()


async def _ask(ctx: RunContext, asked: Mapping[str, Any]) -> None:
    """Asks about calls, and then makes those that were approved."""
    calls = [ToolCall(c["id"], c["name"], c.get("arguments", "")) for c in asked["calls"]]
    decisions = await ctx.ask(asked["question"], calls)
    for call, decision in zip(calls, decisions, strict=True):
        if decision.answer is None and decision.approved:
            await _tool(ctx, {"id": call.tool_call_id, "name": call.tool_name, "result": "done"})


async def _output(ctx: RunContext, result: Mapping[str, Any]) -> None:
    ctx.set_output(result.get("text"), result.get("data"))


async def _fail(ctx: RunContext, words: str) -> None:
    raise ValueError(words)


_VERBS = {
    "say": _say,
    "think": _think,
    "echo": _echo,
    "given": _given,
    "finish": _finish,
    "wait": _wait,
    "repeat": _repeat,
    "tool": _tool,
    "step": _step,
    "emit": _emit,
    "mark": _mark,
    "use": _use,
    "start": _start,
    "ask": _ask,
    "output": _output,
    "fail": _fail,
}
