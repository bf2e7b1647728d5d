"""What the hosted CI is told to do: its verbs exist, and a dry run publishes nothing."""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))
_PUBLISHES = re.compile(r"gh-action-pypi-publish|npm publish|cargo publish|cosign sign|git push")


def _steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_only_what_there_is(workflow: Path) -> None:
    """Its verbs, files and scripts are sound, and its actions have a version."""
    text = workflow.read_text()
    verbs = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", re.sub("#.*|`[^`]*`", "", text))) <= set(verbs)
    for file in re.findall(r"(?:tests|docs)/\w+\.\w+", text):
        assert (ROOT / file).exists(), file
    for step in _steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+)", step["uses"]), step
        else:
            script = re.sub(r"\$\{\{.*?\}\}", "x", step["run"])
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_a_dry_run_publishes_nothing() -> None:
    """Every step of the release that reaches a registry is left out, or is a dry run of its own."""
    found = 0
    for step in _steps(ROOT / ".github/workflows/release.yml"):
        does = f"{step.get('uses', '')} {step.get('run', '')}"
        if _PUBLISHES.search(does) and "--dry-run" not in does:
            found += 1
            assert step.get("if") == "env.DRY_RUN != 'true'", does
        if "build-push-action" in does:
            found += 1
            assert step["with"]["push"] == "${{ env.DRY_RUN != 'true' }}"
    assert found == 6


def test_every_supported_python_is_tested() -> None:
    """The oldest is what pyproject.toml says, and the matrix goes on from there to 3.14."""
    text = (ROOT / ".github/workflows/test.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["python"]["strategy"]["matrix"]["python"] == ["3.12", "3.13", "3.14"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert 'python-version: "3.11"' in text


def test_all_packages_have_one_version() -> None:
    """The server's and that of the clients whose files name one; Go's is in its tag."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    clients = ROOT / "clients"
    assert json.loads((clients / "typescript/package.json").read_text())["version"] == version
    cargo = tomllib.loads((clients / "rust/Cargo.toml").read_text())
    assert cargo["workspace"]["package"]["version"] == version
    pom = (clients / "java/pom.xml").read_text()
    assert f"<artifactId>pullcord-client</artifactId>\n  <version>{version}</version>" in pom


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_a_form_for_issues_is_whole(form: Path) -> None:
    """It has a name, a description, and fields that each have an id of their own and a label."""
    read = yaml.safe_load(form.read_text())
    assert read["name"]
    assert read["description"]
    fields = read["body"]
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["type"] in {"textarea", "input", "dropdown"}
        assert field["attributes"]["label"]


def test_hooks_before_a_commit_call_tools_that_are_installed() -> None:
    """Each hook of .pre-commit-config.yaml runs a program of .venv."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lock = (ROOT / "requirements.lock").read_text()
    named = {name for hook in hooks for name in re.findall(r"\.venv/bin/([\w-]+)", hook["entry"])}
    distributions = {"ruff": "ruff", "lint-imports": "import-linter", "buf": "buf-bin"}
    assert named - {"python"} == set(distributions)
    assert all(f"\n{name}==" in lock for name in distributions.values())
