"""How the console is served: the headers of the page and its files, and that a wheel has them."""

import gzip
import json
import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.console.conftest import Desk

ROOT = Path(__file__).parents[2]


def get(url: str, **headers: str) -> tuple[dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = urllib.request.Request(url, headers=named)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return {k.lower(): v for k, v in answer.headers.items()}, answer.read()


def test_the_page_and_its_files(desk: Desk) -> None:
    """The page is never kept and its files for ever; the policy lets in nothing from elsewhere."""
    headers, page = get(f"{desk.url}/?run=any", accept="text/html,*/*")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    for more in ("frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"):
        assert more in policy
    assert "unsafe" not in policy
    files = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page.decode())
    assert len(files) == 3
    for file in files:
        plain, content = get(f"{desk.url}/{file}")
        packed, small = get(f"{desk.url}/{file}", accept_encoding="gzip, br")
        assert "immutable" in plain["cache-control"]
        assert plain["content-type"] == packed["content-type"]
        assert packed["content-encoding"] == "gzip"
        assert gzip.decompress(small) == content


def test_json_for_programs(desk: Desk) -> None:
    """A client that wants JSON at / gets it: what this is, and where its health is."""
    headers, body = get(f"{desk.url}/", accept="application/json")
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["name"] == "pullcord"


@pytest.mark.timeout(300)
def test_a_wheel_has_the_console(tmp_path: Path) -> None:
    """What pip installs has the page and every file that it asks for."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        page = archive.read("pullcord/console/index.html").decode()
        for file in re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page):
            assert archive.getinfo(f"pullcord/console/{file}").file_size > 100
