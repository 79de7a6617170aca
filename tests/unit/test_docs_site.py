"""The documentation site: built strictly, complete, and without anything that a browser loads from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
LOADED_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "manifest", "modulepreload"}


class Loaded(HTMLParser):
    """Addresses that a browser loads by itself, not those that a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and set((given.get("rel") or "").split()) & LOADED_LINKS:
            self.addresses.append(given.get("href") or "")
        elif tag in LOADED:
            self.addresses.append(given.get(LOADED[tag]) or "")


def elsewhere(address: str) -> bool:
    return bool(re.match(r"(https?:)?//", address))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    found = set()
    for page in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses
        found |= {(str(page.relative_to(site)), address) for address in parser.addresses if elsewhere(address)}
    for style in site.rglob("*.css"):
        addresses = re.findall(r"url\(['\"]?([^'\")]+)", style.read_text(encoding="utf-8"))
        found |= {(str(style.relative_to(site)), address) for address in addresses if elsewhere(address)}
    assert found == set()


def test_each_alert_leads_to_a_page(site: Path) -> None:
    rules = (ROOT / "helm/stowage/alerts/stowage.yaml").read_text(encoding="utf-8")
    addresses = re.findall(r"runbook_url: https://stowage\.dev/docs/(\S+)/", rules)
    assert addresses
    assert {address for address in addresses if not (site / address / "index.html").is_file()} == set()


def test_the_chart_page_has_the_values(site: Path) -> None:
    page = (site / "chart" / "index.html").read_text(encoding="utf-8")
    assert 'id="values"' in page
    assert "replicaCount" in page


def test_the_reference_of_custom_resources_is_up_to_date() -> None:
    command = [sys.executable, "tools/crd_reference.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
