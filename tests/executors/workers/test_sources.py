"""The fingerprint of an author's files, by which a server and a worker elsewhere compare them."""

from pathlib import Path

import pytest
from pullcord.executors.workers.on_ray.sources import fingerprint


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("app.py:server", ["app.py"]),
        ("app:server", ["app.py"]),
        ("package.part:server", ["package/__init__.py", "package/part.py", "package/deep/one.py"]),
        ("folder.inner.app:server", ["folder/inner/app.py"]),
    ],
)
def test_it_is_of_all_files_that_are_served(
    target: str, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of any is seen, and in which folder they are is not. Nothing is imported."""
    seen = set()
    for place in (tmp_path / "one", tmp_path / "other"):
        for file in files:
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text("raise AssertionError")
        monkeypatch.chdir(place)
        seen.add(fingerprint(target))
    assert len(seen) == 1
    assert seen != {""}
    for file in files:
        (place / file).write_text(f"raise AssertionError # {file}")
        seen.add(fingerprint(target))
    assert len(seen) == 1 + len(files)
    assert fingerprint("missing.py:server") == fingerprint("missing:server") == ""
