"""Metrics and spans of `pullcord serve`, as a scraper, Prometheus and a collector see them."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pullcord import exporting
from pullcord.client import RunClient
from pullcord.run.errors import RunNotFound
from pullcord.run.state import RunState
from pullcord.v1.run_service_pb2 import StartRunRequest
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.cli.commands import Command, call
from tests.collector import Collector, collecting
from tests.steady import PATIENCE

OPERATIONS = Path(__file__).parent.parent / "docs" / "operations.md"
MONITORING = Path(__file__).parent.parent / "deploy" / "monitoring"
NEEDS_A_STORE = {
    "StoreDown",
    "StoreSlow",
    "Store: 99th percentile by verb",
    "Store: bytes that wait",
}

APP = """
import time
from pullcord import Agent, RunContext, RunServer, runnable
from pullcord.models.base import Finished, Model, Text
from pullcord.run.finish import FinishReason

@runnable
def quick(ctx: RunContext):
    with ctx.tool_call("c1", "look"):
        pass
    yield "done"

@runnable
def failing(ctx: RunContext):
    raise LookupError("secret words")
    yield

@runnable
def slow(ctx: RunContext):
    yield "begun"
    ctx.cancel_token.wait(600)

class Short(Model):
    id = "short"

    async def stream(self, request):
        yield Text("so")
        yield Finished(FinishReason.STOP)

server = RunServer(agents=[quick, failing, slow, Agent(id="asks", model=Short())])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def play(client: RunClient) -> Any:
    """One run of each end, and one that is live as long as its stream, which is returned."""
    assert client.wait(client.start("agents/quick").run_id, PATIENCE).state is RunState.COMPLETED
    assert client.wait(client.start("agents/asks").run_id, PATIENCE).state is RunState.COMPLETED
    assert client.wait(client.start("agents/failing").run_id, PATIENCE).state is RunState.FAILED
    stopped = client.run("agents/slow")
    next(e for e in stopped if getattr(e.payload, "text", ""))
    client.cancel(stopped.run_id)
    assert client.wait(stopped.run_id, PATIENCE).state is RunState.CANCELLED
    stream = client.run("agents/slow", run_id="live")
    next(e for e in stream if getattr(e.payload, "text", ""))
    return stream


class Serving:
    """`pullcord serve` of this app with these options."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        (folder / "app.py").write_text(APP)
        args = ("serve", "app:server", "--listen", "127.0.0.1:0", "--json", *options)
        self._command = Command(*args, cwd=folder, **variables)

    def __enter__(self) -> RunClient:
        line = self._command.until("\n").partition("\n")[0]
        self.address = json.loads(line)["address"]
        self._client = RunClient(self.address)
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._command.interrupt()
        self._command.interrupt()
        code, _, self.log = self._command.end()
        assert code == 0, self.log
        self._command.__exit__(None, None, None)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[RunClient, int]]:
    port = free_port()
    with Serving(tmp_path, "--metrics", f"127.0.0.1:{port}", PULLCORD_STORE="runs.db") as client:
        yield client, port


def test_a_scraper_sees_runs_by_how_they_stand_and_ended(served: tuple[RunClient, int]) -> None:
    """And the calls, by how they ended. All that it sees is in the table of docs/operations.md."""
    client, port = served
    stream = play(client)
    with pytest.raises(RunNotFound):
        client.get("unknown")
    text = scraped(port)

    def value(name: str, **labels: str) -> float:
        found = [
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith(name + "{")
            and all(f'{key}="{said}"' in line for key, said in labels.items())
        ]
        assert found, f"no {name} {labels} in {text}"
        return sum(found)

    assert value("pullcord_runs_started_total") == 5
    ended = "pullcord_runs_ended_total"
    assert value(ended, runnable="agents/quick", state="completed") == 1
    assert value(ended, runnable="agents/failing", state="failed") == 1
    assert value(ended, runnable="agents/slow", state="cancelled", cause="user") == 1
    assert value("pullcord_runs_live", runnable="agents/slow", state="running") == 1
    assert value("pullcord_watchers") == 1
    assert value("pullcord_tool_calls_total", state="completed") == 1
    assert value("pullcord_cancel_duration_seconds_count") == 1
    assert 0 < value("pullcord_capacity_used") < 1
    assert value("pullcord_rpc_duration_seconds_count", rpc="StartRun", code="OK") == 3
    assert value("pullcord_rpc_duration_seconds_count", rpc="Run", code="OK") == 2
    assert value("pullcord_rpc_duration_seconds_count", rpc="GetRun", code="NOT_FOUND") == 1
    assert value("pullcord_run_first_output_duration_seconds_count", runnable="agents/quick") == 1
    assert value("pullcord_model_duration_seconds_count", model="short", state="completed") == 1
    assert value("pullcord_watch_lag") == 0
    stream.close()
    shown = set(re.findall(r"^# TYPE (pullcord_\w+) ", text, re.MULTILINE))
    assert not shown - set(re.findall(r"`(pullcord_\w+)`", OPERATIONS.read_text()))


def queries() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard and of the alerts, by where it stands."""
    board = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    rules = (MONITORING / "alerts.yml").read_text()
    yield from re.findall(r"- alert: (\w+)\n\s+expr: (.+)", rules)


@pytest.fixture
def prometheus(tmp_path: Path, served: tuple[RunClient, int]) -> Iterator[str]:
    """A real Prometheus that scrapes the server; its address."""
    program = shutil.which("prometheus")
    if program is None and os.environ.get("CI") != "true":
        pytest.skip("there is no Prometheus: apt-get install prometheus")
    assert program is not None, "CI needs Prometheus"
    port = free_port()
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "rule_files": [str(MONITORING / "alerts.yml")],
        "scrape_configs": [
            {
                "job_name": "pullcord",
                "static_configs": [{"targets": [f"127.0.0.1:{served[1]}"]}],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    process = subprocess.Popen(
        [
            program,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def asked(address: str, query: str) -> list[Any]:
    url = f"{address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            found: list[Any] = json.loads(answer.read())["data"]["result"]
            return found
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return []  # nor now
        raise AssertionError(f"{query}: {error.read().decode()}") from None
    except OSError:
        return []  # it is not up yet


def test_every_query_of_the_dashboard_has_an_answer(
    served: tuple[RunClient, int], prometheus: str
) -> None:
    """In a real Prometheus, of a server with runs of every end. Rates are over what was scraped."""
    client, _ = served
    ends = time.monotonic() + PATIENCE
    while not asked(prometheus, "up == 1"):
        assert time.monotonic() < ends
    stream = play(client)
    left = dict(queries())
    assert len(left) > 12
    while left:  # a query whose data has not been scraped twice answers nothing yet
        assert time.monotonic() < ends, f"no answer: {left}"
        for name, query in list(left.items()):
            query = query.replace("$__rate_interval", "10s").replace("$runnable", ".*")
            whole = re.sub(r" (>|<|==) (bool )?[0-9.]+$", "", query)  # an alert is silent when well
            if asked(prometheus, whole):
                del left[name]
        for name in ("agents/quick", "agents/asks"):
            client.wait(client.start(name).run_id, PATIENCE)
    stream.close()


def test_runs_are_spans_of_their_callers_trace(tmp_path: Path, collector: Collector) -> None:
    """With what they used and how they ended, and no word that they said or failed by."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    serving = Serving(tmp_path, "--otlp", PULLCORD_STORE="runs.db", **collector.endpoint)
    with serving as client:
        stream = play(client)
        stub = RunServiceStub(grpc.insecure_channel(serving.address))
        asked = StartRunRequest(spec={"runnable": "agents/quick", "run_id": "traced"})
        header = ("traceparent", f"00-{trace_id}-b7ad6b7169203331-01")
        stub.StartRun(asked, metadata=(header,), timeout=PATIENCE)
        client.wait("traced", PATIENCE)
        stream.close()
    spans = {span.name: span for span in collector.spans}
    quick, failing = spans["invoke_agent quick"], spans["invoke_agent failing"]
    assert quick.trace_id.hex() == trace_id
    assert quick.parent_span_id.hex() == "b7ad6b7169203331"
    tool = spans["execute_tool look"]
    assert (tool.trace_id, tool.parent_span_id) == (quick.trace_id, quick.span_id)
    assert failing.status.code == failing.status.STATUS_CODE_ERROR
    assert spans["invoke_agent slow"].status.code == failing.status.STATUS_CODE_UNSET
    assert b"secret words" not in failing.SerializeToString()
    assert "pullcord.runs.started" in collector.metrics
    assert f"trace_id={trace_id}" in serving.log
    assert "pullcord.watchers" in collector.metrics
    assert "Callback failed" not in serving.log  # the last metrics are read after the store closed


def test_a_collector_that_does_not_answer_holds_up_no_end(
    tmp_path: Path, collector: Collector
) -> None:
    """What it has not taken soon is given up, and said to be."""
    collector.answers.clear()
    serving = Serving(tmp_path, "--otlp", OTEL_EXPORTER_OTLP_TIMEOUT="600", **collector.endpoint)
    with serving as client:
        client.wait(client.start("agents/quick").run_id, PATIENCE)
    assert "the collector did not take them" in serving.log
    assert "Traceback" not in serving.log


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "app.py").write_text(APP)
        ended = call("serve", "app:server", "--metrics", f"127.0.0.1:{port}", cwd=tmp_path)
    assert ended.returncode == 2
    assert f"--metrics: 127.0.0.1:{port}" in ended.stderr


def test_an_alert_is_raised_for_what_nobody_serves(tmp_path: Path) -> None:
    """Not at once: a server that starts again may serve it. Prometheus' own tool tries the rule."""
    program = shutil.which("promtool")
    if program is None and os.environ.get("CI") != "true":
        pytest.skip("there is no promtool: apt-get install prometheus")
    assert program is not None, "CI needs promtool"
    series = {"series": 'pullcord_store_unserved{instance="a"}', "values": "0 0 1x20"}
    rule = (MONITORING / "alerts.yml").read_text().partition("RunsThatNobodyServes")[2]
    (summary,) = re.findall(r"summary: (.+)", rule)[:1]
    raised = [{"exp_labels": {"severity": "ticket"}, "exp_annotations": {"summary": summary}}]
    moments = [("6m", []), ("8m", raised)]
    cases = {
        "rule_files": [str(MONITORING / "alerts.yml")],
        "tests": [
            {
                "interval": "1m",
                "input_series": [series],
                "alert_rule_test": [
                    {"eval_time": at, "alertname": "RunsThatNobodyServes", "exp_alerts": expected}
                    for at, expected in moments
                ],
            }
        ],
    }
    (tmp_path / "cases.yml").write_text(json.dumps(cases))  # JSON is YAML
    args = [program, "test", "rules", str(tmp_path / "cases.yml")]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_half_sent_request_holds_no_thread_for_long(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A scraper that stops in the middle of its request is hung up on, in silence."""
    monkeypatch.setattr(exporting, "_HALF_SENT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reader, close = exporting._scraped(f"127.0.0.1:{port}")
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as scraper:
            scraper.sendall(b"GET /met")
            assert scraper.recv(1) == b""
    finally:
        close()
        reader.shutdown()
    assert capfd.readouterr().err == ""
