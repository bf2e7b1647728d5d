"""The reference of the command line, from its own parsers. No text of it is written here."""

from typing import Any

import typer.main
from pullcord.cli.app import app

from tools.render_docs import exits


def page() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    parts = ["# Command line\n", _described(root, "pullcord")]
    parts += [_command(command, f"pullcord {name}") for name, command in _of(root)]
    parts.append(f"## Exit codes\n\n{exits()}")
    return "\n".join(parts)


def _of(group: Any) -> list[tuple[str, Any]]:
    return sorted((name, each) for name, each in group.commands.items() if not each.hidden)


def _command(command: Any, name: str) -> str:
    if hasattr(command, "commands"):
        return "\n".join(_command(each, f"{name} {own}") for own, each in _of(command))
    return f"## {name}\n\n{_described(command, name)}"


def _described(command: Any, name: str) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *map(_placed, arguments)])
    rows = [(f"`{_placed(each)}`", _told(each)) for each in arguments]
    rows += [(_spelt(each), _told(each)) for each in options if not each.hidden]
    table = "".join(f"| {one} | {other} |\n" for one, other in rows)
    head = "| Argument or option | Meaning |\n| --- | --- |\n"
    return f"```console\n$ {usage}\n```\n\n{command.help or ''}\n\n{head + table if rows else ''}"


def _placed(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    name = name.strip("[]")
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _spelt(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(f"`{each}{value}`" for each in (*option.opts, *option.secondary_opts))


def _told(parameter: Any) -> str:
    told = " ".join((parameter.help or "").split()).replace("|", "\\|").replace("<", "&lt;")
    if choices := parameter.type_descriptor.choices:
        told += f" One of {', '.join(f'`{each}`' for each in choices)}."
    variables = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar
    if variables:
        told += f" Variable: {', '.join(f'`{each}`' for each in variables)}."
    default = parameter.default
    if default not in (None, False, "", ()) and not callable(default) and not parameter.required:
        told += f" Default: `{getattr(default, 'value', default)}`."
    return told.strip()
