"""Writes the tables and the diagram in docs/ that the code knows better than any writer.

`make docs` writes them, a test checks that they are current. What stands between a pair of
`<!-- generated: NAME -->` and `<!-- end -->` comes from here; everything else is written by hand.
"""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pullcord.cli.exits import Exit
from pullcord.engine.options import EngineOptions
from pullcord.executors.workers.on_ray.options import RayOptions
from pullcord.identity.options import JwtOptions
from pullcord.run.state import TERMINAL, TRANSITIONS, RunState
from pullcord.service.quotas import QuotaOptions
from pullcord.settings import PREFIX, Settings
from pullcord.wire.errors import TABLE, Told

DOCS = Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def states() -> str:
    """The diagram of a run's states, and what each means."""
    arrows: dict[tuple[RunState, RunState], list[str]] = {}
    for (state, transition), after in TRANSITIONS.items():
        arrows.setdefault((state, after), []).append(transition.value)
    lines = ["stateDiagram-v2", "    [*] --> PENDING: admitted"]
    lines += [f"    {a.name} --> {b.name}: {', '.join(how)}" for (a, b), how in arrows.items()]
    lines += [f"    {state.name} --> [*]" for state in RunState if state in TERMINAL]
    diagram = "```mermaid\n" + "\n".join(lines) + "\n```\n"
    told = _attribute_docs(RunState)
    rows = [(f"`{state.name}`", told[state.name]) for state in RunState]
    return f"{diagram}\n{_table(('State', 'Meaning'), rows)}"


def errors() -> str:
    """The table of refusals."""
    rows = []
    for reason, row in TABLE.items():
        sample: Told = row.tell(row.hear(Told(metadata=defaultdict(lambda: "1"))))
        details = ["ErrorInfo" + "".join(f" `{key}`" for key in sample.metadata)]
        if sample.bad_request is not None:
            details.append("BadRequest")
        if sample.retry_after is not None:
            details.append("RetryInfo")
        if sample.resource is not None:
            details.append("ResourceInfo")
        meaning = _first_paragraph(row.error)
        cells = (f"`{reason}`", row.code.name, ", ".join(details), f"`{row.error.__name__}`")
        rows.append((*cells, meaning))
    return _table(("Reason", "Status", "Details", "In Python", "Meaning"), rows)


def exits() -> str:
    """The exit codes of the command line."""
    told = _attribute_docs(Exit)
    return _table(("Code", "Meaning"), [(str(code.value), told[code.name]) for code in Exit])


def settings() -> str:
    """What an operator can set, beside the engine."""
    told = _attribute_docs(Settings)
    rows = [
        (f"`{PREFIX}{name.upper()}`", _value(field.default), told[name])
        for name, field in Settings.model_fields.items()
        if name not in _GROUPS
    ]
    return _table(("Variable", "Default", "Meaning"), rows)


def engine() -> str:
    """The engine's bounds."""
    return _group("engine", "Meaning, and the answer when it is reached")


def quotas() -> str:
    """The shares of callers and tenants."""
    return _group("quotas", "Meaning, and the answer when it is reached")


def jwt() -> str:
    """Whose tokens are taken."""
    return _group("jwt", "Meaning")


def ray() -> str:
    """Where Ray is, and what its workers get."""
    return _group("ray", "Meaning")


_GROUPS: dict[str, Any] = {
    "engine": EngineOptions,
    "quotas": QuotaOptions,
    "jwt": JwtOptions,
    "ray": RayOptions,
}


def _group(name: str, meaning: str) -> str:
    owner = _GROUPS[name]
    told = _attribute_docs(owner)
    rows = [
        (f"`{PREFIX}{name.upper()}__{f.name.upper()}`", _value(_default(f)), told[f.name])
        for f in dataclasses.fields(owner)
    ]
    return _table(("Variable", "Default", meaning), rows)


def _default(made: "dataclasses.Field[Any]") -> Any:
    """None for a group of values without any."""
    return None if made.default is dataclasses.MISSING else made.default


RENDERERS: dict[str, Callable[[], str]] = {
    renderer.__name__: renderer
    for renderer in (states, errors, exits, settings, engine, quotas, jwt, ray)
}


def rendered(text: str) -> str:
    """A page with its generated blocks made anew."""
    return _BLOCK.sub(lambda m: f"{m[1]}{RENDERERS[m[2]]()}{m[3]}", text)


def _attribute_docs(owner: type) -> dict[str, str]:
    """The strings below a class's attributes, by name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(body, ast.ClassDef)
    told: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            target: Any = (
                getattr(statement, "target", None) or getattr(statement, "targets", [0])[0]
            )
            if isinstance(target, ast.Name):
                told[target.id] = " ".join(str(following.value.value).split())
    return told


def _first_paragraph(owner: type) -> str:
    return " ".join((inspect.getdoc(owner) or "").split("\n\n")[0].split())


def _value(default: Any) -> str:
    if default is None:
        return "unset"
    if isinstance(default, bool):
        return "`true`" if default else "`false`"
    if isinstance(default, int) and default >= 2**16 and default % 2**10 == 0:
        whole = default % 2**20 == 0
        return (
            f"`{default}` ({default // 2**20} MiB)"
            if whole
            else f"`{default}` ({default // 2**10} KiB)"
        )
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Writes every page; `--check` writes nothing and fails where one is not current."""
    stale = []
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text()
        made = rendered(text)
        if made != text:
            stale.append(page.name)
            if "--check" not in sys.argv:
                page.write_text(made)
    if stale and "--check" in sys.argv:
        sys.exit(f"Not what the code says: {', '.join(stale)}. Run: make docs")


if __name__ == "__main__":
    main()
