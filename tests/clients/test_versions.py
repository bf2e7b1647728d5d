"""The clients are released together, under one version and one licence."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"


def _declared(pattern: str, path: str) -> str:
    found = re.search(pattern, (CLIENTS / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_all_manifests_say_the_same_version() -> None:
    """The version in pyproject.toml is the one of every package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = json.loads((CLIENTS / "typescript/package-lock.json").read_text(encoding="utf-8"))
    said = {
        "package.json": _declared(r'^  "version": "(.*)"', "typescript/package.json"),
        "package-lock.json": lock["packages"][""]["version"],
        "client.go": _declared(r'^const Version = "(.*)"', "go/client.go"),
        "pom.xml": _declared(r"^  <version>(.*)</version>", "java/pom.xml"),
        "Cargo.toml": _declared(r'^version = "(.*)"', "rust/Cargo.toml"),
        "Cargo.lock": _declared(r'^name = "pullcord"\nversion = "(.*)"', "rust/Cargo.lock"),
    }
    assert said == dict.fromkeys(said, project["version"])


@pytest.mark.parametrize("language", ["go", "rust"])  # others copy it when they pack
def test_each_folder_that_is_packed_alone_has_the_licence(language: str) -> None:
    """A package brings the licence that its manifest names."""
    licence = (CLIENTS / language / "LICENSE").read_text(encoding="utf-8")
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")
