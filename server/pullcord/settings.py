"""The operator's settings, read once from the environment (PULLCORD_…) or a .env file.

Every value is checked here, and a wrong one is refused by the name of its variable. Below the
composition root there are only arguments.
"""

import dataclasses
import difflib
import json
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError

from pullcord.engine.options import MAX_PARTS_BYTES, EngineOptions
from pullcord.executors.workers.on_ray.options import RayOptions
from pullcord.identity.options import JwtOptions
from pullcord.run.record import is_runnable_name
from pullcord.service.quotas import QuotaOptions
from pullcord.variables import CLIENTS, OTHERS, PREFIX

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

STATM = Path("/proc/self/statm")
"""The file in which Linux shows how much memory this process holds."""


_ORIGIN = re.compile(r"https?://[^/\\s*]+/?")
_PUBLIC = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?")
NO_ADDRESS = "must be host:port, or unix:path"


def is_address(text: str) -> bool:
    """Whether a server can listen there: host:port, or unix:path."""
    host, _, port = text.rpartition(":")
    return text.startswith("unix:") or bool(host and port.isdecimal() and int(port) < 2**16)


def _names(value: Any) -> Any:
    """Several names in one text, with commas or blanks between them."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


class SettingsError(ValueError):
    """A setting is wrong; the message names its variable, a line each."""


class Settings(BaseSettings):
    """Settings for addresses, draining and bounds of a server. Times are seconds.

    The engine's bounds are set as PULLCORD_ENGINE__WORKERS=64 and so on, see EngineOptions.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_file=".env", extra="ignore", frozen=True
    )

    listen: str = "127.0.0.1:50051"
    """The address to serve on, host:port; port 0 takes a free one."""
    http: str = ""
    """The address to serve over HTTP, host:port; with a certificate, over TLS. Unset: over gRPC
    only."""
    http_origin: Names = ()
    """Origins of pages that may call over HTTP, such as https://app.example.com; several with a
    comma. The server's own pages always may."""
    http_host: Names = ()
    """Names by which browsers know this server, such as runs.example.com; several with a comma.
    Needed if nobody is asked who calls, beside localhost and the addresses of this machine."""
    a2a_agent: str = ""
    """The runnable, such as agents/story-writer, whose A2A card is at /.well-known/agent-card.json,
    and that calls over gRPC go to if they name none. Unset: the only one."""
    a2a_grpc: str = ""
    """The address, host:port, at which A2A's clients reach gRPC. With it A2A is served over gRPC,
    too, and its cards name the address."""
    http_public_url: str = ""
    """The address by which people reach the HTTP server, such as https://runs.example.com. With it,
    a webhook of a pause has a link by which somebody decides. Unset: it has none."""
    tls_certificate: Path | None = None
    """A file with the server's certificate chain, PEM. With tls_key; without both: plaintext."""
    tls_key: Path | None = None
    """A file with the certificate's private key, PEM."""
    client_ca: Path | None = None
    """A file with the CA of client certificates, PEM. Callers must show one, at `mtls_listen`; over
    HTTPS they may."""
    mtls_listen: str = ""
    """A second address, for callers with a client certificate. Unset, with client_ca: at `listen`
    every caller must show one."""
    client_identities: Path | None = None
    """A file of rules that say who is behind a client certificate, a line each: `id-pattern tenant
    subject grants`. Unset: each is a user of tenant `default`."""
    tokens: Path | None = None
    """A file of tokens, a line each: `sha256-hex tenant subject grants`. Read again on a change."""
    run_token_key: Path | None = None
    """A file with at least 32 bytes that sign tokens for one run (CreateRunToken). Servers that
    share it take each other's. Unset: a key of this process's own, so that its tokens end with
    it; with PostgreSQL, whose replicas would not take them, none is made."""
    jwt: JwtOptions = JwtOptions()
    authenticator: str = ""
    """A function of yours that verifies callers, as module:name. It runs in the serving process."""
    policy: str = ""
    """Who may start what: a file with lines `runnable tenant/subject …`, or a function as
    module:name. Unset: everybody whose grants let them."""
    own_approval: bool = True
    """Whether a caller may decide about the waiting tool calls of its own runs."""
    insecure: bool = False
    """Whether an address that others can reach is served without TLS and without known callers."""
    audit_log: Path | None = None
    """A file to which the audit log is appended. Unset: the logger `pullcord.audit`."""
    errors: Literal["", "full", "type", "id"] = ""
    """What callers see of errors in runnables and tools: `full`, the words without secrets; `type`,
    the class and an id that the log has too, and the words of a PublicError; `id`, only that.
    Unset: `type` if the server verifies callers, else `full`."""
    quotas: QuotaOptions = QuotaOptions()
    max_streams: int = Field(5000, ge=1, le=2**31 - 1)
    """Calls that one connection has open at a time; a client's further calls wait in the client."""
    max_idle: float = Field(300.0, ge=1, le=86400 * 30)
    """A connection without a call is closed after so long."""
    handshake: float = Field(10.0, ge=0.1, le=3600)
    """A connection that has not said a word of HTTP/2 after so long is closed."""
    max_connections: int | None = Field(None, ge=1, le=2**31 - 2)
    """Connections that each address has at a time; more are closed at once. Unset: half as many as
    the process may have open files."""
    max_header_bytes: int = Field(16 * 1024, ge=1024, le=1024 * 1024)
    """Metadata of one call, its token included. More: RESOURCE_EXHAUSTED by gRPC itself."""
    max_unread: float | None = Field(None, gt=0, le=86400)
    """A stream whose reader takes nothing for so long is ended; its run's disconnect policy holds.
    Unset: it is kept."""
    reuse_port: bool = False
    """Whether several processes may share the port, for more than one core."""
    heartbeat: float = Field(15.0, gt=0, le=3600)
    """A stream on which nothing happened for so long gets a heartbeat."""
    keepalive: float = Field(20.0, ge=1, le=7200)
    """A silent connection is pinged after so long."""
    keepalive_timeout: float = Field(10.0, ge=1, le=600)
    """A ping without an answer for so long means that the client is gone."""
    store: str = ""
    """Where runs are kept: `memory`, a file, or postgresql://user@host/database, which any number
    of servers share. Unset: `pullcord serve` keeps them in a file in .pullcord, one for each
    address; a program that serves by itself, and processes that share a port, keep them in
    memory."""
    store_listen_url: str = ""
    """The address of the same PostgreSQL without a pooler in between, if `store` has one in
    transaction mode: notifications arrive there."""
    webhook_url: str = ""
    """An address that is sent a signed request when a run has ended, or waits for a decision.
    Unset: nobody is notified."""
    webhook_secret: Names = ()
    """What those requests are signed with: `whsec_` and the base64 of 24 to 64 bytes. Several, with
    blanks between them, while receivers change from one to another."""
    webhook_events: Names = ("run.ended", "run.paused")
    """Of what is notified; several with a comma."""
    webhook_private: bool = False
    """Whether the address may be one of this machine or of a private network, and plain http."""
    drain_time: float = Field(30.0, ge=0, le=86400)
    """How long runs may go on after SIGTERM before they are cancelled, cause SHUTDOWN."""
    workers: int = Field(1, ge=0, le=256)
    """Worker processes that execute runs; 0: as many as there are cores."""
    launcher: Literal["", "local", "ray"] = ""
    """Who starts workers: `local`, this machine; `ray`, a cluster of Ray's. Unset: `local`, unless
    there is a worker_command."""
    ray: RayOptions = RayOptions()
    worker_command: str = ""
    """A command that starts a worker anywhere and runs as long as it, such as a script; in it
    `pullcord worker APP:SERVER` connects back. Unset: workers are processes of this machine."""
    worker_listen: str = "127.0.0.1:0"
    """The address where such workers connect, host:port; port 0 takes a free one. It is always TLS,
    and opened by a one-time secret."""
    worker_lease: float = Field(6.0, ge=1, le=3600)
    """How long such a worker goes on while its link is cut; it may come back within it. Then it
    stops its runs by itself, and they end FAILED, WorkerDied. With PostgreSQL less than 8 s."""
    isolation: Literal["", "process"] = ""
    """`process`: every run has a process for itself. Unset: where its runnable says so."""
    spares: int = Field(1, ge=0, le=64)
    """Warm processes kept ready for runs that have one for themselves; each takes memory."""
    pool_workers: int = Field(1, ge=0, le=256)
    """Warm workers for each set of resources that runnables ask for, such as
    Resources(cpu=2, gpu=1); each executes one run at a time."""
    max_pool_workers: int = Field(4, ge=1, le=4096)
    """Workers of each such set at once. Those beyond `pool_workers` are started while runs wait,
    and end when none does; further runs wait, PENDING."""
    max_processes: int = Field(64, ge=1, le=4096)
    """Worker processes alive at once. A run that needs one more waits, PENDING."""
    max_silence: float = Field(60.0, gt=0, le=86400)
    """A worker process that answers nothing for so long is killed, as its runs can neither say
    anything nor be stopped; they end FAILED, WorkerDied. After 5 s it takes no new runs."""
    max_worker_memory: int | None = Field(None, ge=1024 * 1024)
    """Bytes of memory that a worker process may hold. One that holds more is killed, and its runs
    end FAILED, WorkerDied. Unset: as much as the machine gives."""
    metrics: str = ""
    """The address where metrics are scraped in Prometheus' format, host:port. Unset: nowhere."""
    metrics_tenants: int = Field(0, ge=0, le=1000)
    """So many tenants are named in metrics, the first ones that come; all others are `other`. 0:
    no tenant is named."""
    otlp: bool = False
    """Whether metrics and spans are sent by OTLP, as OpenTelemetry's own variables say
    (OTEL_EXPORTER_OTLP_ENDPOINT and so on)."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_json: bool = False
    """Whether log lines are JSON."""
    engine: EngineOptions = EngineOptions()

    @field_validator("log_level")
    @classmethod
    def _is_level(cls, value: str) -> str:
        if value.lower() not in {"debug", "info", "warning", "error"}:
            raise ValueError("must be debug, info, warning or error")
        return value.lower()

    @field_validator("listen", "mtls_listen", "http", "metrics", "a2a_grpc")
    @classmethod
    def _is_address(cls, value: str, info: ValidationInfo) -> str:
        if not is_address(value) and not (info.field_name != "listen" and not value):
            raise ValueError(NO_ADDRESS)
        return value

    @field_validator("worker_command")
    @classmethod
    def _is_command(cls, value: str) -> str:
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"is no command: {error}") from None
        if value and not words:
            raise ValueError("is no command: it is blank")
        return value

    @field_validator("worker_listen")
    @classmethod
    def _is_host_and_port(cls, value: str) -> str:
        if value.startswith("unix:") or not is_address(value):
            raise ValueError("must be host:port")
        return value

    @field_validator("a2a_agent")
    @classmethod
    def _is_runnable(cls, value: str) -> str:
        if value and not is_runnable_name(value):
            raise ValueError(f"{value!r} must be a runnable's name, such as agents/story-writer")
        return value

    @field_validator("http_origin")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if _ORIGIN.fullmatch(origin) is None:
                raise ValueError(f"{origin!r} must be an origin, such as https://app.example.com")
        return value

    @field_validator("http_public_url")
    @classmethod
    def _is_public_url(cls, value: str) -> str:
        if value and _PUBLIC.fullmatch(value) is None:
            raise ValueError("must be an address such as https://runs.example.com")
        return value.rstrip("/")

    @field_validator("max_worker_memory")
    @classmethod
    def _can_be_seen(cls, value: int | None) -> int | None:
        if value is not None and not STATM.exists():
            raise ValueError(
                f"cannot be held here: it needs {STATM}, where Linux shows how much memory a "
                "process holds; leave it unset"
            )
        return value

    @field_validator("engine", "quotas", "jwt", "ray", mode="before")
    @classmethod
    def _are_known(cls, value: Any, info: ValidationInfo) -> Any:
        group = str(info.field_name)
        known = {field.name for field in dataclasses.fields(_GROUPS[group])}
        if isinstance(value, dict) and (unknown := sorted(value.keys() - known)):
            raise ValueError(
                "\n".join(f"{_variable(group, name)}: there is no such setting" for name in unknown)
            )
        if isinstance(value, dict):
            return {name: _read(_variable(group, name), text) for name, text in value.items()}
        return value

    @field_validator("engine", "quotas")
    @classmethod
    def _are_positive(cls, value: Any, info: ValidationInfo) -> Any:
        group = str(info.field_name)
        numbers = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        if isinstance(value, EngineOptions) and value.max_parts_bytes > MAX_PARTS_BYTES:
            most = f"must be at most {MAX_PARTS_BYTES}: a run's parts travel in one message"
            raise ValueError(f"{_variable(group, 'max_parts_bytes')}: {most}")
        each = ((name, n) for name, n in numbers for n in _numbers(n))
        wrong = [name for name, n in each if not 0 < n < 2**53]
        if wrong:
            raise ValueError(
                "\n".join(f"{_variable(group, name)}: must be more than 0" for name in wrong)
            )
        return value

    @model_validator(mode="after")
    def _has_both_halves(self) -> "Settings":
        if _options.get() is not None:  # the other half may be an option
            return self
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            raise ValueError(
                f"{PREFIX}{missing.upper()}: is missing; a certificate and its key go together"
            )
        if self.client_ca is not None and self.tls_certificate is None:
            raise ValueError(
                f"{PREFIX}CLIENT_CA: needs a server certificate: set {PREFIX}TLS_CERTIFICATE too"
            )
        if self.http_public_url and not self.http:
            raise ValueError(f"{PREFIX}HTTP_PUBLIC_URL: goes with {PREFIX}HTTP only")
        if self.pool_workers > self.max_pool_workers:
            raise ValueError(
                f"{PREFIX}POOL_WORKERS: must be at most {PREFIX}MAX_POOL_WORKERS, which is "
                f"{self.max_pool_workers}"
            )
        if self.worker_command and self.launcher:
            raise ValueError(
                f"{PREFIX}LAUNCHER: {self.launcher} starts workers by itself; leave "
                f"{PREFIX}WORKER_COMMAND unset, or this"
            )
        if self.max_worker_memory is not None and (self.worker_command or self.launcher == "ray"):
            by = "WORKER_COMMAND" if self.worker_command else "LAUNCHER"
            raise ValueError(
                f"{PREFIX}MAX_WORKER_MEMORY: cannot be held with {PREFIX}{by}, whose workers may "
                "be elsewhere; bound their memory where they run, and leave it unset"
            )
        for name in ("mtls_listen", "client_identities"):
            if getattr(self, name) and self.client_ca is None:
                raise ValueError(f"{PREFIX}{name.upper()}: goes with {PREFIX}CLIENT_CA only")
        return self


_GROUPS: dict[str, Any] = {
    "engine": EngineOptions,
    "quotas": QuotaOptions,
    "jwt": JwtOptions,
    "ray": RayOptions,
}


def _read(variable: str, value: Any) -> Any:
    """A setting of a group; one of several values is JSON, which is not read before."""
    if not (isinstance(value, str) and value.lstrip().startswith("{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f"{variable}: is not valid JSON") from None


def _numbers(value: Any) -> Collection[float]:
    """Those of a setting: none, one, or one by each name."""
    if isinstance(value, Mapping):
        return list(value.values())
    return [] if value is None else [value]


def _variable(group: str, name: str) -> str:
    return f"{PREFIX}{group.upper()}__{name.upper()}"


_options: ContextVar[Mapping[str, Any] | None] = ContextVar("pullcord_options", default=None)


@contextmanager
def beneath(options: Mapping[str, Any]) -> Iterator[None]:
    """Within the block an author's module is imported, by a command with these options.

    Settings that need each other are not compared there: one half may be of the environment and
    the other an option. The server compares them, by `overridden`, once both are known.

    Raises:
        SettingsError: also for what a `Settings(…)` of the module refuses.
    """
    token = _options.set(options)
    try:
        yield
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        raise SettingsError("\n".join(map(_line, error.errors()))) from None
    finally:
        _options.reset(token)


def said_by_options() -> Mapping[str, Any]:
    """The options of the command for which a module is imported now."""
    return _options.get() or {}


def overridden(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """The same settings, with those that are given and not None in their place.

    Raises:
        SettingsError: naming every variable that is wrong.
    """
    return read_settings(**{**dict(settings), **{k: v for k, v in given.items() if v is not None}})


def read_settings(**overrides: Any) -> Settings:
    """The settings of this process; `overrides` win over the environment.

    Raises:
        SettingsError: naming every variable that is wrong.
    """
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(map(_line, error.errors()))) from None
    except UnreadableError as error:  # a variable of several settings that is no JSON
        field = str(error).partition('"')[2].partition('"')[0]
        raise SettingsError(f"{PREFIX}{field.upper()}: is not valid JSON") from None


_KUBERNETES = re.compile(
    r"PULLCORD_(?:\w+_)?(?:SERVICE_(?:HOST|PORT\w*)|PORT(?:_\d+_\w+)?)", re.ASCII
)


def load_env_file(path: Path | None) -> None:
    """Reads variables from this file, or from .env if there is one, into the environment.

    By that they reach the models and the author's code, too. What is set already stays.

    Raises:
        SettingsError: the file that was named is not there.
    """
    if path is not None and not path.is_file():
        raise SettingsError(f"--env-file: there is no file {path}")
    for name, value in dotenv_values(path or ".env").items():
        if value is not None:
            os.environ.setdefault(name, value)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A warning for each variable that begins like ours and is none, such as a misspelt one."""
    fields = [name.upper() for name in Settings.model_fields]
    known = {PREFIX + name for name in (*fields, *CLIENTS, *OTHERS)}
    groups = tuple(f"{PREFIX}{name.upper()}__" for name in _GROUPS)  # refused by themselves
    found = [
        name
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and not name.startswith(groups)
    ]
    injected = [name for name in found if _KUBERNETES.fullmatch(name)]
    words = []
    for name in found:
        if name not in injected:
            like = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            meant = f"; did you mean {like[0]}?" if like else ""
            words.append(f"{name} is no setting, and is ignored{meant}")
    if injected:
        words.append(
            f"{injected[0]} and {len(injected) - 1} more seem to be Kubernetes' own, of a service "
            "named like this one: set enableServiceLinks: false in the pod"
        )
    return words


def _line(error: "ErrorDetails") -> str:
    """What is wrong with one setting; our own validators may have named its variables."""
    words = error["msg"].removeprefix("Value error, ")
    if words.startswith(PREFIX):
        return words
    return f"{PREFIX}{'__'.join(map(str, error['loc'])).upper()}: {words}"
