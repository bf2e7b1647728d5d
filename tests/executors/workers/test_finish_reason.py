"""What a run says of its model's answer comes through the worker to every caller."""

from pathlib import Path

import pytest
from pullcord.client import RunClient
from pullcord.control import ControlServer
from pullcord.run.events import RunCompleted
from pullcord.run.finish import FinishReason
from pullcord.settings import Settings

APP = """
from pullcord import RunContext, RunServer, runnable
from pullcord.run.finish import FinishReason

@runnable
def cut(input: str, ctx: RunContext):
    yield "the answer is fort"
    ctx.set_finish_reason(FinishReason.LENGTH)

server = RunServer(agents=[cut])
"""


def test_the_finish_reason_crosses_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the terminal event and in the run."""
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    with ControlServer("app.py:server", Settings()) as address, RunClient(address) as client:
        stream = client.run("agents/cut")
        *_, end = stream
        assert isinstance(end.payload, RunCompleted)
        assert end.payload.finish_reason is FinishReason.LENGTH
        assert client.get(stream.run_id).finish_reason is FinishReason.LENGTH
