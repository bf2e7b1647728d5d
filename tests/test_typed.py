"""What the README, the guide of the client and the examples show is right for type checkers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".mypy_cache" / "shown"
PAGES = ("README.md", "clients/python/README.md")
APART = ("google_adk_app.py", "smolagents_app.py")
"""Their frameworks need environments of their own."""
EXAMPLES = [str(path) for path in ROOT.glob("examples/*.py") if path.name not in APART]
"""For pyright only: mypy reads all of a framework, which takes minutes."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Each block of Python of the pages as a file, and the programs that are shipped."""
    folder = tmp_path_factory.mktemp("shown")
    made = []
    for page in PAGES:
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
        for number, block in enumerate(blocks):
            file = folder / f"{re.sub(r'[^a-z]', '_', page.lower())}_{number}.py"
            file.write_text(block)
            made.append(str(file))
    assert len(made) > 5
    return [*made, str(ROOT / "clients/python/stop_button.py")]


@pytest.mark.timeout(600)  # without a cache it reads all that is imported
@pytest.mark.parametrize(
    "checker",
    [
        ("mypy", "--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={CACHE}"),
        ("pyright", "--level", "error"),
    ],
    ids=lambda checker: checker[0],
)
def test_what_is_shown_is_typed(checker: tuple[str, ...], programs: list[str]) -> None:
    """A newcomer's editor underlines nothing of it."""
    name, *options = checker
    if name == "pyright":
        options += ["--pythonpath", sys.executable, *EXAMPLES]
    done = subprocess.run(
        [sys.executable, "-m", name, *options, *programs],
        cwd=ROOT / "clients",  # no configuration of ours is found here
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
