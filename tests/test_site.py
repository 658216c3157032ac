"""The documentation as a site: pages have their place, entries of the log a verdict; building finds broken links."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml
from document_blocks import ROOT

DOCS = ROOT / "docs"
CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without calling the Python functions that it names."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def _pages(nav) -> Iterator[str]:
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from [value] if isinstance(value, str) else _pages(value)


def test_every_page_is_in_the_navigation():
    pages = list(_pages(yaml.load(CONFIG, Loader=_Loader)["nav"]))
    assert len(pages) == len(set(pages))
    assert set(pages) == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_every_entry_of_the_log_opens_with_its_verdict_in_one_line():
    entries = re.split(r"^## ", (DOCS / "experiments.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    without = [entry.splitlines()[0] for entry in entries if not re.match(r".*\n\n\*\*Verdict:\*\* .+\n\n", entry)]
    assert without == []
    assert [date for date in (entry[:10] for entry in entries) if not re.fullmatch(r"\d{4}-\d\d-\d\d", date)] == []


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed (extra docs)")
@pytest.mark.parametrize(
    ("text", "problem"),
    [("[a](here.md)", None), ("[a](lost.md)", "lost.md"), ("[a](here.md#lost)", "#lost")],
    ids=["good link", "broken link", "broken anchor"],
)
def test_building_fails_at_a_broken_link(tmp_path, text, problem):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A\n\n{text}\n")
    (tmp_path / "docs" / "here.md").write_text("# Here\n")
    # The site's own rules, without its pages and theme.
    rules = CONFIG[CONFIG.index("validation:") : CONFIG.index("plugins:")]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: a\n{rules}")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (problem is None), done.stderr
    assert problem is None or problem in done.stderr
