"""docs/http.md: its commands are run, its paths are served, and its table is the code's."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pullcord.demo import server as demo
from pullcord.settings import Settings
from pullcord.transports.http.problems import STATUS

PAGE = Path(__file__).parents[3] / "docs" / "http.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_start_stop_and_show_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The four commands of curl, in their order, against the demo."""
    monkeypatch.setenv("PULLCORD_HTTP", "127.0.0.1:0")
    server = demo()
    with server as address:
        (commands,) = _blocks("sh")
        commands = commands.replace("http://127.0.0.1:8080", server.http_url)
        done = subprocess.run(
            ["sh", "-ec", commands], capture_output=True, text=True, timeout=60, check=True
        )
        (code,) = _blocks("python")
        names: dict[str, object] = {}
        exec(compile(code.replace("127.0.0.1:50051", address), "http.md", "exec"), names)
    assert str(names["token"]).startswith("pullcord-run.")
    started, rest = json.JSONDecoder().raw_decode(done.stdout)
    assert started["run"]["runId"] == "story-1"
    receipt, end = json.JSONDecoder().raw_decode(done.stdout[rest:])
    assert receipt["outcome"] == "CANCEL_OUTCOME_STOPPED"
    assert '"runCancelled"' in done.stdout[rest + end :]
    assert '"runs":[{"runId":"story-1"' in done.stdout


def test_every_status_is_in_the_table() -> None:
    """What the code answers with is what the page says."""
    (table,) = re.findall(r"\| Status \|.*?\n\n", PAGE.read_text(), re.DOTALL)
    told = {int(code) for code in re.findall(r"\b[45]\d\d\b", table)}
    assert {*STATUS.values(), 500} - {504} <= told


def test_the_settings_that_are_named_exist() -> None:
    """Every PULLCORD_ variable of the page is one."""
    known = {f"PULLCORD_{name.upper()}" for name in Settings.model_fields}
    for name in re.findall(r"PULLCORD_[A-Z_]+", PAGE.read_text()):
        assert name.partition("__")[0] in known, name
