"""`pullcord erase`, and `pullcord store erase` on a file that no server has open."""

import json
import uuid
from pathlib import Path

import pytest
from pullcord.client import RunClient
from pullcord.run.errors import RunNotFound

from tests.cli.commands import Command, call


def test_what_a_user_left_is_deleted_for_good(address: str, client: RunClient) -> None:
    """A live run stays, is named, and makes the exit code 1; once it is stopped all goes."""
    user, live = f"user-{uuid.uuid4()}", f"live-{uuid.uuid4()}"
    ended = client.run("agents/say", "words", user_id=user)
    run_id = list(ended)[-1].run_id
    client.start("agents/forever", run_id=live, user_id=user)
    looked = call("erase", "--user", user, "--dry-run", address=address)
    assert looked.stdout.startswith("1 run would be deleted.\n")
    assert client.get(run_id).output == "words"
    first = call("erase", "--user", user, "--yes", address=address)
    assert first.returncode == 1
    assert first.stdout.splitlines()[0] == "1 run deleted."
    assert first.stdout.splitlines()[-1].strip() == live
    with pytest.raises(RunNotFound):
        client.get(run_id)
    assert call("cancel", live, "--now", "--wait", "20", address=address).returncode == 0
    second = call("erase", "--user", user, "--yes", "--json", address=address)
    assert second.returncode == 0
    assert json.loads(second.stdout) == {"runs": "1"}
    with pytest.raises(RunNotFound):
        client.get(live)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--yes"], "say whose runs"), (["--user", "ann"], "--yes")],
)
def test_nothing_is_erased_by_mistake(address: str, arguments: list[str], words: str) -> None:
    """It must be said whose runs, and --yes where nobody can be asked."""
    done = call("erase", *arguments, address=address)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_file_is_erased_in_while_no_server_has_it(tmp_path: Path) -> None:
    """While one has, it is refused in words; what was live when the server died goes, too."""
    (tmp_path / "app.py").write_text(
        "from pullcord import RunServer, runnable\n"
        "@runnable\n"
        "async def forever(input: str):\n"
        "    import asyncio\n"
        "    yield input\n"
        "    await asyncio.sleep(3600)\n"
        "server = RunServer([forever])\n"
    )
    file = str(tmp_path / "runs.db")
    serve = ("serve", "app:server", "--listen", "127.0.0.1:0", "--store", file, "--json")
    with Command(*serve, cwd=tmp_path) as server:
        address = json.loads(server.until("\n").splitlines()[0])["address"]
        with RunClient(address) as client:
            for user in ("ann", "bob"):
                client.start("agents/forever", "words", run_id=user, user_id=user)
        refused = call("store", "erase", file, "--user", "ann")
        assert refused.returncode == 1
        assert "in use by another server" in refused.stderr
        server.process.kill()
        server.process.wait()
    erased = call("store", "erase", file, "--user", "ann")
    assert (erased.returncode, erased.stdout) == (0, "1 run deleted.\n")
    assert call("store", "erase", file, "--user", "ann").stdout == "0 runs deleted.\n"
    assert call("store", "erase", file, "--user", "bob", "--dry-run").stdout.startswith(
        "1 run would"
    )
    assert call("store", "erase", f"{file}x", "--user", "bob").returncode == 2
