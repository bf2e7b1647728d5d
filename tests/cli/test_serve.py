"""`pullcord serve`."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import grpc
import pytest
from pullcord.client import RunClient
from pullcord.probe import is_serving
from pullcord.run.cancel import CancelMode
from pullcord.run.errors import Draining
from pullcord.run.events import ContentDelta, RunCancelled, RunCompleted
from pullcord.run.state import RunState

from tests.cli.commands import PULLCORD, Command, call, environment
from tests.identity.callers import Authority
from tests.steady import PATIENCE

ROOT = Path(__file__).parents[2]

APP = '''
from pullcord import RunContext, RunServer, runnable

@runnable
def gate(ctx: RunContext):
    """Waits for a file of that name, or for its stop."""
    import pathlib
    yield "waiting "
    while not pathlib.Path(ctx.input).exists():
        if ctx.cancel_token.wait(0.01):
            ctx.cancel_token.raise_if_cancelled()
    yield "gone on"

@runnable
async def swallows(input: str):
    """Swallows everything that could end it, GeneratorExit too."""
    import asyncio
    yield "at work"
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            pass

server = RunServer(agents=[gate, swallows])

def make():
    return server

number = 5
several = [gate]

class Kind:
    pass

def plain(input: str):
    yield "a"

def tick():
    yield "a"
'''


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def _address(command: Command) -> str:
    return command.until("\n").split()[-1]


def test_the_demo() -> None:
    """Without an argument a demo is served; stdout has one line, with the address, and no more."""
    with Command("serve", "--listen", "127.0.0.1:0") as command:
        address = _address(command)
        with RunClient(address) as client:
            assert [r.name for r in client.runnables()] == [
                "agents/counter",
                "agents/storyteller",
                "teams/duo",
                "workflows/evening-paper",
            ]
            stream = client.run("agents/counter", "2")
            text = "".join(e.payload.text for e in stream if isinstance(e.payload, ContentDelta))
            assert text == "1 2 "
            story = client.run("agents/storyteller", "a whale")
            first = next(e for e in story if isinstance(e.payload, ContentDelta))
            assert isinstance(first.payload, ContentDelta)
            story.cancel(wait=30)
        command.process.terminate()
        code, output, errors = command.end()
    first, *served, kept, hint = output.splitlines()
    assert (code, first) == (0, f"Pullcord is serving on {address}")
    assert served[0] == (
        "  agents/counter           Counts, ten a second, up to the number that it is given, else"
        " to 100."
    )
    assert [line.split()[0] for line in served][1:] == [
        "agents/storyteller",
        "teams/duo",
        "workflows/evening-paper",
    ]
    assert kept == "Runs are kept in memory."
    assert hint == f'Try: pullcord run agents/counter "hello" --address {address}'
    assert "run ended" in errors


def test_variables_of_a_file_reach_the_authors_code(tmp_path: Path) -> None:
    """Those of --env-file, or of .env; what is set already stays. A misspelt one is told."""
    (tmp_path / "app.py").write_text(
        "import os\n"
        "from pullcord import RunServer, runnable\n"
        "@runnable\n"
        "def env(input: str) -> str:\n"
        "    return str(os.environ.get(input))\n"
        "server = RunServer([env])\n"
    )
    (tmp_path / "my.env").write_text("OPENAI_API_KEY=sk-1\nSET=file\nPULLCORD_LOG_JSN=1\n")
    args = ("serve", "app:server", "--listen", "127.0.0.1:0", "--env-file", "my.env", "--json")
    more = {"SET": "already", "PULLCORD_SERVICE_HOST": "10.0.0.1", "PULLCORD_PORT_80_TCP": "x"}
    with Command(*args, "--drain", "1s", "--log-level", "warning", cwd=tmp_path, **more) as command:
        told = json.loads(command.until("\n"))
        assert told["runnables"] == ["agents/env"]
        with RunClient(told["address"]) as client:
            said = [
                client.wait(client.start("agents/env", name).run_id).output
                for name in ("OPENAI_API_KEY", "SET")
            ]
        command.interrupt()
        code, _, errors = command.end()
    assert (code, said) == (0, ["sk-1", "already"])
    assert (
        "PULLCORD_LOG_JSN is no setting, and is ignored; did you mean PULLCORD_LOG_JSON?" in errors
    )
    assert "set enableServiceLinks: false" in errors
    assert "[info" not in errors


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--log-level", "trace"), "--log-level: must be debug, info, warning or error"),
        (("--drain", "2d"), "--drain: Input should be less than or equal to 86400"),
        (("--env-file", "nope"), "--env-file: there is no file nope"),
    ],
)
def test_a_wrong_option_is_named(args: tuple[str, ...], words: str) -> None:
    """And not the variable that it stands for."""
    done = call("serve", *args)
    assert (done.returncode, words in done.stderr) == (2, True)


@pytest.mark.parametrize("target", ["app:server", "app:make", "app:gate", "app", "app.py:server"])
def test_targets(app: Path, target: str) -> None:
    """A target is a module or a file, and in it a RunServer, a function that returns one, or a
    runnable, which is then served alone."""
    with Command("serve", target, "--listen", "127.0.0.1:0", "--json", cwd=app) as command:
        address = json.loads(command.until("\n"))["address"]
        assert is_serving(address, PATIENCE)
        command.interrupt()
        assert command.end()[0] == 0


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nope:server", "there is no module 'nope'"),
        ("app.nope:server", "there is no module 'app.nope'"),
        ("nope.py:server", "there is no file nope.py"),
        ("app:nope", "app has no 'nope'"),
        ("app:number", "app:number is a int; it must be a RunServer, a runnable, or an agent"),
        ("app:serve", "app has no 'serve'; did you mean app:server?"),
        ("app.server", "there is no module 'app.server' here"),
        ("apq:server", "did you mean app?"),
        ("apq.py:server", "there is no file apq.py; did you mean app.py?"),
        ("./app", "'./app' is no module; did you mean ./app.py?"),
        ("app:plain", "app:plain is a plain function; to serve the function, put @runnable above"),
        ("app:tick", "it returned a generator; to serve the function, put @runnable above it"),
        ("app:several", "app:several is a list; serve what is in it by RunServer(agents=several)"),
        ("app:Kind", "app:Kind is a class"),
        (":server", "no module"),
    ],
)
def test_wrong_targets(app: Path, target: str, words: str) -> None:
    """What is not there, or no server, is said in a line, and the exit code is 2."""
    done = call("serve", target, cwd=app)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "extra", "absent"),
    [
        ("import langgraph", "langgraph", "langgraph"),
        ("from agents import Agent", "openai-agents", "agents"),
        ("from pullcord import OpenAIChat", "openai", "openai"),
        ("from pullcord.models.anthropic import Claude", "anthropic", "anthropic"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_missing_extra_is_answered_with_its_command(
    tmp_path: Path, command: str, line: str, extra: str, absent: str
) -> None:
    """Of a framework or of a model, in one line. The command installs from this checkout."""
    (tmp_path / "app.py").write_text(f"import sys\nsys.modules[{absent!r}] = None\n{line}\n")
    done = call(command, "app.py:server", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"the extra {extra!r}" in done.stderr
    assert done.stderr.strip().endswith(f"pip install -e '{ROOT}[{extra}]'")


def test_a_model_without_a_key_is_one_line_of_the_log(tmp_path: Path) -> None:
    """It names the variable; there is no stack, because nobody's code is at fault."""
    (tmp_path / "app.py").write_text(
        "from pullcord import Agent, OpenAIChat\npoet = Agent(name='Poet', model=OpenAIChat('m'))\n"
    )
    serve = ("serve", "app:poet", "--listen", "127.0.0.1:0")
    keyless = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
    with Command(*serve, cwd=tmp_path, **keyless) as command:
        with RunClient(_address(command)) as client:
            run = client.wait(client.start("agents/poet", "rain").run_id, PATIENCE)
            assert run.error is not None
            assert "has no API key. Set the variable OPENAI_API_KEY" in run.error.message
        command.process.terminate()
        _, _, log = command.end()
    (line,) = (one for one in log.splitlines() if "raised" in one)
    assert "ModelError: the model 'm' has no API key. Set the variable OPENAI_API_KEY" in line
    assert "in _attempt" not in log


def test_an_import_that_fails_within_the_target(app: Path) -> None:
    """A module that the author's own code lacks is shown with its traceback."""
    (app / "app.py").write_text("import missing_module")
    done = call("serve", "app:server", cwd=app)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "missing_module" in done.stderr


def test_a_port_in_use() -> None:
    """An address that is in use, or none, is said in a line, and the exit code is 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for listen in (address, "nowhere:nothing"):
            done = call("serve", "--listen", listen)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
            assert listen in done.stderr


def test_a_store_in_use_hides_nothing(app: Path) -> None:
    """A port that is taken, and a module that is misspelt, are said before the store is opened."""
    with Command("serve", "app", "--listen", "127.0.0.1:0", "--store", "runs.db", cwd=app) as first:
        address = _address(first)
        for args, words in (
            (("app", "--listen", address), f"--listen: another program listens on {address}"),
            (("app", "--listen", "127.0.0.1:0", "--http", address), "--http: another program"),
            (("apq:server", "--listen", "127.0.0.1:0"), "there is no module 'apq'"),
            (("app", "--listen", "127.0.0.1:0"), "is in use by another server"),
        ):
            done = call("serve", *args, "--store", "runs.db", cwd=app)
            assert (done.returncode, done.stderr.count("\n")) == (2, 1)
            assert words in done.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0", "127.0.0.1:99999", "localhost:"])
def test_an_address_without_a_port_is_refused(listen: str) -> None:
    """The flag is checked as the variable is: gRPC would serve on 443."""
    done = call("serve", "--listen", listen)
    assert done.returncode == 2
    assert f"--listen: {listen!r} must be host:port" in done.stderr


def test_wrong_settings() -> None:
    """Every wrong variable is named, also one that does not exist; the exit code is 2."""
    done = call("serve", PULLCORD_HEARTBEAT="-1", PULLCORD_ENGINE__WORKERS="0")
    assert done.returncode == 2
    assert "PULLCORD_HEARTBEAT" in done.stderr
    assert "PULLCORD_ENGINE__WORKERS" in done.stderr
    done = call("serve", PULLCORD_ENGINE__WORKER="4")
    assert "pullcord: PULLCORD_ENGINE__WORKER: " in done.stderr


@pytest.mark.parametrize("where", [(), ("--in-process",)])
def test_halves_of_a_setting_may_come_from_the_environment_and_from_options(
    app: Path, where: tuple[str, ...]
) -> None:
    """Neither half is a fault of the module, whose server reads the environment's only."""
    certificate, key = map(str, Authority(app).issue("server"))
    args = ("serve", "app:server", *where, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
    args += ("--tls-cert", certificate, "--client-ca", certificate)
    halves = {
        "PULLCORD_TLS_KEY": key,
        "PULLCORD_HTTP_PUBLIC_URL": "http://127.0.0.1:8080",
        "PULLCORD_MTLS_LISTEN": "127.0.0.1:0",
    }
    with Command(*args, cwd=app, **halves) as command:
        assert "Pullcord is serving" in command.until("\n")
    # What lacks its other half altogether is refused all the same.
    done = call("serve", "app:server", *where, cwd=app, PULLCORD_TLS_KEY="key.pem")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pullcord: --tls-cert: is missing" in done.stderr


@pytest.mark.parametrize("made", ["RunServer(http='nowhere')", "RunServer(settings=Settings())"])
def test_a_wrong_setting_of_the_module_is_a_line(tmp_path: Path, made: str) -> None:
    """And no traceback of the author's code, which is not at fault."""
    (tmp_path / "app.py").write_text(
        "import os\nfrom pullcord import RunServer, Settings\n"
        "os.environ['PULLCORD_MTLS_LISTEN'] = 'nowhere'\n"
        f"server = {made}\n"
    )
    done = call("serve", "app:server", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "must be host:port" in done.stderr


def test_sigterm_drains(app: Path) -> None:
    """After SIGTERM a run in flight may end, new ones are refused; then the server exits with 0.

    Its log says what it waits for.
    """
    with Command("serve", "app:server", "--listen", "127.0.0.1:0", cwd=app) as command:
        with RunClient(_address(command)) as client:
            stream = client.run("agents/gate", str(app / "open"))
            for event in stream:
                if isinstance(event.payload, ContentDelta) and event.payload.text == "waiting ":
                    command.process.send_signal(signal.SIGTERM)
                    _until_draining(client)
                    (app / "open").touch()
            assert isinstance(stream.result, RunCompleted)
            assert stream.result.output == "waiting gone on"
        code, _, log = command.end()
        assert code == 0
        assert "draining: 1 run is at work, for at most 30 s; another signal cancels" in log


@pytest.mark.parametrize("mode", [(), ("--in-process",)], ids=["worker", "in-process"])
def test_sigterm_ends_a_server_whose_code_swallows_every_stop(
    app: Path, mode: tuple[str, ...]
) -> None:
    """A server exits after SIGTERM, also if a cancelled run's code never stops."""
    serve = ("serve", "app:server", "--listen", "127.0.0.1:0", *mode)
    with Command(*serve, cwd=app, PULLCORD_ENGINE__ABANDON_AFTER="0.2") as command:
        with RunClient(_address(command)) as client:
            stream = client.run("agents/swallows", "", run_id="r")
            next(event for event in stream if isinstance(event.payload, ContentDelta))
            client.cancel("r", mode=CancelMode.IMMEDIATE, wait=PATIENCE)
            assert client.get("r").state is RunState.CANCELLED
        command.process.terminate()
        assert command.end()[0] == 0


def _until_draining(client: RunClient) -> None:
    while True:
        try:
            client.cancel(client.start("agents/gate", "never").run_id, wait=30)
        except Draining:
            return


def test_the_second_signal_cancels(app: Path) -> None:
    """A second signal cancels what is still at work, cause SHUTDOWN; its output is kept."""
    with Command("serve", "app:server", "--listen", "127.0.0.1:0", cwd=app) as command:
        with RunClient(_address(command)) as client:
            stream = client.run("agents/gate", str(app / "never"))
            for event in stream:
                if isinstance(event.payload, ContentDelta):
                    command.interrupt()
                    _until_draining(client)
                    command.interrupt()
            assert isinstance(stream.result, RunCancelled)
            assert stream.result.cancellation.cause.name == "SHUTDOWN"
            assert stream.result.output == "waiting "
        assert command.end()[0] == 0


def _full_pipe() -> tuple[int, int]:
    """A pipe that has no room for a single byte."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for size in (65536, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"." * size)
    os.set_blocking(writing, True)
    return reading, writing


LOUD = """
import logging, os, sys
from pullcord import RunServer, runnable

@runnable
def loud(input: str):
    for n in range(int(input)):
        print("out" * 1000)
        print("err" * 1000, file=sys.stderr)
        logging.getLogger("app").warning("log" * 1000)
        os.system("echo from a child; echo from a child >&2")
    return "done"

server = RunServer(agents=[loud])
"""


@pytest.mark.parametrize("mode", [(), ("--in-process",)])
def test_output_that_nobody_reads_keeps_nobody_waiting(
    tmp_path: Path, mode: tuple[str, ...]
) -> None:
    """A server whose stdout and stderr are full pipes answers, executes, and ends in time.

    In one process the author's own `print` would wait, as in any program, so only the log is loud.
    """
    (tmp_path / "app.py").write_text(LOUD if not mode else QUIET)
    reading, writing = _full_pipe()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    process = subprocess.Popen(
        [*PULLCORD, "serve", "app", "--listen", address, *mode],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=writing,
    )
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(PATIENCE)
        with RunClient(address) as client:
            for _ in range(5):
                run = client.start("agents/loud", "100")
                assert client.wait(run.run_id, PATIENCE).output == "done"
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reading)
        os.close(writing)


def test_output_of_runs_passes_through_unchanged(tmp_path: Path) -> None:
    """What an author's code and its children print comes out line by line, byte for byte."""
    (tmp_path / "app.py").write_text(LOUD)
    with Command("serve", "app", "--listen", "127.0.0.1:0", cwd=tmp_path) as command:
        with RunClient(_address(command)) as client:
            assert client.wait(client.start("agents/loud", "5").run_id, PATIENCE).output == "done"
        command.process.terminate()
        code, output, errors = command.end()
    assert code == 0
    assert output.splitlines()[4:] == ["out" * 1000, "from a child"] * 5
    lines = errors.splitlines()
    assert lines.count("err" * 1000) == lines.count("from a child") == 5
    assert sum("log" * 1000 in line for line in lines) == 5


def test_a_log_line_right_before_a_worker_dies_is_kept(tmp_path: Path) -> None:
    """The last words of a worker stand in the log, before the line that says how it died."""
    (tmp_path / "app.py").write_text(DYING)
    with Command("serve", "app", "--listen", "127.0.0.1:0", cwd=tmp_path) as command:
        with RunClient(_address(command)) as client:
            run = client.wait(client.start("agents/dies").run_id, PATIENCE)
            assert run.error is not None
            assert run.error.type == "WorkerDied"
        command.process.terminate()
        _, _, errors = command.end()
    assert "last words" in errors


QUIET = """
import logging
from pullcord import RunServer, runnable

@runnable
def loud(input: str):
    for n in range(int(input)):
        logging.getLogger("app").warning("log" * 1000)
    return "done"

server = RunServer(agents=[loud])
"""

DYING = """
import logging, os
from pullcord import RunServer, runnable

@runnable
def dies(input: str):
    logging.getLogger("app").warning("last words")
    os._exit(1)

server = RunServer(agents=[dies])
"""
