"""Suggests the command or the option that was meant by one that does not exist.

The words of other programs that do the same, such as docker's and systemd's. Spelling mistakes are
found by typer itself. What the commands do is not known here.
"""

from typing import Any

from typer.core import TyperCommand, TyperGroup

_COMMANDS = {
    "cancel": "stop kill abort halt interrupt",
    "cancel-many": "stop-all kill-all stop-many",
    "check": "test validate verify lint",
    "continue": "resume approve decline decide answer unpause",
    "erase": "rm delete remove purge forget",
    "get": "show status describe inspect info output result",
    "ps": "list ls runs jobs list-runs top",
    "run": "start exec execute submit call invoke ask chat send",
    "runnables": "agents teams workflows list-agents list-runnables catalog",
    "serve": "server up dev demo host listen",
    "serve --http 127.0.0.1:8080": "console ui web http",
    "store check": "db database",
    "store migrate": "migrate",
    "store sweep": "sweep",
    "wait": "join await",
    "watch": "logs log follow tail attach stream events",
    "--help": "help",
    "--version": "version",
}
_OTHER_COMMANDS = {word: meant for meant, words in _COMMANDS.items() for word in words.split()}
"""By the word of another program, the command that does it here."""

_OPTIONS = {
    "--address": "--host --port --server --url --target --endpoint --listen --connect",
    "--after": "--from --since --after-sequence --offset",
    "--all": "--ended --finished",
    "--attach": "--file --image --attachment",
    "--background": "--detach --bg --async --no-wait --no-follow",
    "--call": "--input --run",
    "--data": "--input-data --json-input --params",
    "--drain": "--drain-time --shutdown-timeout",
    "--dry-run": "--dryrun --preview",
    "--env-file": "--env --dotenv",
    "--grace": "--grace-period",
    "--label": "--labels --tag",
    "--limit": "--last --max --count --page-size",
    "--listen": "--address --host --port --bind --addr",
    "--log-level": "--verbose --debug --quiet",
    "--now": "--force --kill --immediate --hard",
    "--run-id": "--id --name",
    "--runnable": "--agent --team --workflow",
    "--session": "--session-id --conversation --thread",
    "--store": "--db --database --data",
    "--timeout": "--deadline --max-time",
    "--user": "--user-id",
    "--workers": "--processes --concurrency",
    "--yes": "--force --confirm",
}
"""By an option, the words of others for it. A command is asked for those that it has."""


class _Suggests:
    """Parses arguments; the error for an unknown option says what may have been meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses."""
        try:
            parsed: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]  # of a command
        except Exception as error:
            _hint(error, ctx, self)
            raise
        return parsed


class Command(_Suggests, TyperCommand):
    """A command that knows what its unknown options may have meant."""


class Commands(_Suggests, TyperGroup):
    """A group of commands that knows what unknown ones, and unknown options, may have meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolves; the error for a word of another program names the command that does it here."""
        word = args[0] if args else ""
        meant = _OTHER_COMMANDS.get(word)
        if meant is not None and self.get_command(ctx, word) is None and ctx.parent is None:
            ctx.fail(f"No such command {word!r}. Did you mean 'pullcord {meant}'?")
        return super().resolve_command(ctx, args)


def _hint(error: Exception, ctx: Any, command: Any) -> None:
    """Adds to the error for an unknown option what may have been meant."""
    if not hasattr(error, "possibilities"):  # of NoSuchOption, whose module moved with typer
        return
    wrong: Any = error
    if meant := _meant(wrong.option_name, ctx, command):
        wrong.message = f"No such option: {wrong.option_name}. {meant}"
        wrong.possibilities = None


def _meant(name: str, ctx: Any, command: Any) -> str:
    known = _options(command, ctx)
    for option, words in _OPTIONS.items():
        if option in known and name in words.split():
            return f"Did you mean {option}?"
    if ctx.parent is not None and name in _options(ctx.parent.command, ctx.parent):
        return f"It goes before the command: pullcord {name} … {ctx.info_name}"
    if isinstance(command, TyperGroup) and any(
        name in _options(one, ctx) for one in command.commands.values()
    ):
        return f"It goes behind the command: pullcord COMMAND {name} …"
    return ""


def _options(command: Any, ctx: Any) -> set[str]:
    return {option for one in command.get_params(ctx) for option in one.opts}
