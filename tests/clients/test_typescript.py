"""The TypeScript client builds, passes its own tests and checks, and does what its README says."""

import re
from pathlib import Path

import pytest
from pullcord.demo import server as demo_server

from tests.clients.toolchains import CLIENTS, Toolchain, toolchain

pytestmark = pytest.mark.timeout(900)

FOLDER = CLIENTS / "typescript"
README = FOLDER / "README.md"
TSC = FOLDER / "node_modules" / ".bin" / "tsc"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toolchain, Path]:
    """A stranger's empty project that the packed client has been installed into."""
    typescript = toolchain("typescript")
    typescript.make("build")
    folder = tmp_path_factory.mktemp("stranger")
    typescript.run(["npm", "pack", "--pack-destination", str(folder)], FOLDER)
    (archive,) = folder.glob("pullcord-*.tgz")
    (folder / "package.json").write_text('{ "private": true }')
    npm = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund"]
    typescript.run([*npm, str(archive)], folder)
    return typescript, folder


@pytest.mark.parametrize("verb", ["lint", "test", "check-generated", "build"])
def test_verb(verb: str) -> None:
    """The client's own checks and tests pass, and its code is what the protos say."""
    toolchain("typescript").make(verb)


def test_readme(project: tuple[Toolchain, Path]) -> None:
    """The README's first program runs in an empty project, and stops the story that it streams."""
    typescript, folder = project
    with demo_server() as address:
        code = _programs()[0]
        program = code.replace("127.0.0.1:50051", address)
        assert program != code
        (folder / "story.mjs").write_text(program)
        said = typescript.run(["node", "story.mjs"], folder)
    assert "a lighthouse that hums" in said
    assert said.endswith("\n[stopped: that will do]\n")
    assert len(said) > 300


def test_readme_types(project: tuple[Toolchain, Path]) -> None:
    """All code of the README passes a strict compiler, by the types that the package brings."""
    typescript, folder = project
    names = []
    for number, code in enumerate(_programs()):
        names.append(f"readme-{number}.mts")
        (folder / names[-1]).write_text(code)
    types = ["--types", "node", "--typeRoots", str(FOLDER / "node_modules" / "@types")]
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", *types]
    typescript.run([str(TSC), *options, *names], folder)


def test_package(project: tuple[Toolchain, Path]) -> None:
    """The package has its licence, and none of the tests."""
    package = project[1] / "node_modules" / "pullcord"
    assert (package / "LICENSE").read_text() == (FOLDER.parents[1] / "LICENSE").read_text()
    assert (package / "README.md").is_file()
    assert {path.name for path in (package / "dist").iterdir()} == {"src"}


def _programs() -> list[str]:
    found = re.findall(r"```ts\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(found) == 6
    return found
