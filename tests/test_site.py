"""The documentation as a site: every page reads, every link of it leads to a page and an anchor."""

from pathlib import Path

import pytest
from pullcord import _HOMES as names
from pullcord.v1 import run_service_pb2

from tools.site import laying
from tools.site.__main__ import build
from tools.site.laying import DeadLink, lay_out

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(900)
def test_every_page_reads_and_every_link_and_anchor_leads_somewhere(tmp_path: Path) -> None:
    """Sphinx warns of nothing, and the reference has every name, command, call and field."""
    assert build(tmp_path / "site", "dummy") == 0
    reference = tmp_path / "site-pages/docs/reference"
    python = (reference / "python.md").read_text()
    assert [name for name in names if f"## {name}\n" not in python] == []
    commands = (reference / "commands.md").read_text()
    assert "## pullcord cancel-many\n" in commands
    assert "`PULLCORD_ADDRESS`" in commands
    assert "One of `reject`, `queue`, `supersede`." in commands
    protos = (reference / "protos.md").read_text()
    for rpc in run_service_pb2.DESCRIPTOR.services_by_name["RunService"].methods:
        assert f"### {rpc.name}\n" in protos
    assert "| `reason` = 3 | string | The asker's own words. Unset: none were given. |" in protos


def test_a_link_to_a_file_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that links to a file that does not exist is named with its link."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("[gone](gone.md)\n")
    monkeypatch.setattr(laying, "ROOT", tmp_path)
    with pytest.raises(DeadLink, match=r"docs/index.md: gone.md does not exist"):
        lay_out(tmp_path / "pages")


def test_every_page_is_in_the_index() -> None:
    """docs/index.md, from which the site's navigation is made, links to each page beside it."""
    index = (ROOT / "docs/index.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert [page for page in sorted(pages) if f"]({page})" not in index] == []


def test_every_example_is_in_the_cookbook() -> None:
    """docs/cookbook.md links to each program of examples/."""
    book = (ROOT / "docs/cookbook.md").read_text()
    there = {path.name for path in (ROOT / "examples").iterdir() if path.name != "__pycache__"}
    assert [name for name in sorted(there) if f"](../examples/{name})" not in book] == []
