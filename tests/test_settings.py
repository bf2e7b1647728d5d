"""Settings: where they come from, and that a wrong one is named."""

from pathlib import Path

import pytest
from pullcord.settings import SettingsError, read_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without variables of ours, in a folder without a .env file."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("PULLCORD_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_everything_has_a_default() -> None:
    """Without any variable a server listens on the loopback's port 50051, in plaintext."""
    settings = read_settings()
    assert settings.listen == "127.0.0.1:50051"
    assert settings.tls_key is None
    assert settings.engine.workers == 32


def test_a_variable_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """PULLCORD_<NAME> sets a setting, and PULLCORD_ENGINE__<NAME> one of the engine's."""
    monkeypatch.setenv("PULLCORD_LISTEN", "[::]:0")
    monkeypatch.setenv("PULLCORD_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("PULLCORD_LOG_JSON", "yes")
    monkeypatch.setenv("PULLCORD_ENGINE__WORKERS", "3")
    monkeypatch.setenv("PULLCORD_ENGINE__LEASE", "0.5")
    monkeypatch.setenv("PULLCORD_ENGINE__MAX_TIMEOUT", "60")
    settings = read_settings()
    assert (settings.listen, settings.log_level, settings.log_json) == ("[::]:0", "warning", True)
    engine = settings.engine
    assert (engine.workers, engine.lease, engine.max_timeout) == (3, 0.5, 60)
    assert engine.tool_workers == 256


def test_how_long_runs_are_kept_is_set_by_tenant_and_by_runnable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A setting of several values is JSON; the shorter one holds where both name a run's."""
    monkeypatch.setenv("PULLCORD_ENGINE__RETENTION", "60")
    monkeypatch.setenv("PULLCORD_ENGINE__RETENTION_OF_TENANTS", '{"acme": 86400, "umbrella": 7}')
    monkeypatch.setenv("PULLCORD_ENGINE__RETENTION_OF_RUNNABLES", '{"agents/a": 600}')
    keeps = read_settings().engine.retention_for
    assert keeps("default", "agents/b") == 60
    assert keeps("acme", "agents/b") == 86400
    assert keeps("acme", "agents/a") == 600
    assert keeps("umbrella", "agents/a") == 7


def test_a_dotenv_file_sets_it_and_the_environment_stands_above(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A .env file in the working folder is read; a variable of the environment stands above it."""
    (tmp_path / ".env").write_text(
        "PULLCORD_DRAIN_TIME=1\nPULLCORD_HEARTBEAT=2\nPULLCORD_ENGINE__WORKERS=4\nOTHER=x\n"
    )
    monkeypatch.setenv("PULLCORD_HEARTBEAT", "3")
    settings = read_settings()
    assert (settings.drain_time, settings.heartbeat, settings.engine.workers) == (1, 3, 4)


def test_overrides_stand_above_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program says stands above the environment; None says nothing."""
    monkeypatch.setenv("PULLCORD_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("PULLCORD_DRAIN_TIME", "7")
    settings = read_settings(listen="127.0.0.1:2", drain_time=None)
    assert (settings.listen, settings.drain_time) == ("127.0.0.1:2", 7)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PULLCORD_LISTEN", "50051"),
        ("PULLCORD_LISTEN", "localhost"),
        ("PULLCORD_LISTEN", "localhost:99999"),
        ("PULLCORD_LISTEN", ""),
        ("PULLCORD_HEARTBEAT", "0"),
        ("PULLCORD_HEARTBEAT", "nan"),
        ("PULLCORD_HEARTBEAT", "soon"),
        ("PULLCORD_KEEPALIVE", "0.5"),
        ("PULLCORD_KEEPALIVE_TIMEOUT", "-1"),
        ("PULLCORD_DRAIN_TIME", "-1"),
        ("PULLCORD_DRAIN_TIME", "inf"),
        ("PULLCORD_LOG_LEVEL", "loud"),
        ("PULLCORD_LOG_JSON", "perhaps"),
        ("PULLCORD_REUSE_PORT", "2"),
        ("PULLCORD_ENGINE__WORKERS", "0"),
        ("PULLCORD_ENGINE__WORKERS", "many"),
        ("PULLCORD_ENGINE__WORKERS", "1.5"),
        ("PULLCORD_ENGINE__LEASE", "nan"),
        ("PULLCORD_ENGINE__MAX_OUTPUT_BYTES", "-1"),
        ("PULLCORD_ENGINE__WORKER", "3"),
        ("PULLCORD_ENGINE__RETENTION_OF_TENANTS", "{"),
        ("PULLCORD_ENGINE__RETENTION_OF_TENANTS", "60"),
        ("PULLCORD_ENGINE__RETENTION_OF_RUNNABLES", '{"agents/a": 0}'),
        ("PULLCORD_ENGINE", "{"),
        ("PULLCORD_ENGINE", "7"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A setting that cannot be is refused at once, in one line that begins with its variable."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{variable}: ")


def test_every_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many wrong variables each gets a line of its own."""
    wrong = {
        "PULLCORD_HEARTBEAT": "0",
        "PULLCORD_LOG_LEVEL": "loud",
        "PULLCORD_ENGINE__WORKERS": "0",
        "PULLCORD_ENGINE__LEASE": "-1",
    }
    for variable, value in wrong.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert sorted(line.partition(":")[0] for line in str(caught.value).splitlines()) == sorted(
        wrong
    )


@pytest.mark.parametrize("given", ["CERTIFICATE", "KEY"])
def test_half_of_tls_is_wrong(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """A certificate without its key, or a key without its certificate, is refused by what lacks."""
    monkeypatch.setenv(f"PULLCORD_TLS_{given}", "some.pem")
    lacking = {"CERTIFICATE": "KEY", "KEY": "CERTIFICATE"}[given]
    with pytest.raises(SettingsError, match=f"^PULLCORD_TLS_{lacking}: "):
        read_settings()


def test_settings_do_not_change() -> None:
    """Settings are frozen: what was read once is what holds."""
    settings = read_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.listen = "elsewhere:1"
