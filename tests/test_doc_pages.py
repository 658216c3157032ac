"""Messages name pages of the documentation that exist, and no files, which an installed package does not have."""

from __future__ import annotations

import ast

import pytest
from document_blocks import ROOT

from augscale import doc_pages

PAGES = {name: page for name, page in vars(doc_pages).items() if isinstance(page, doc_pages.DocPage)}
PACKAGE = ROOT / "augscale"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_page_and_section_that_a_message_names_exists(page):
    path = ROOT / "docs" / page.page
    text = (path / "README.md" if path.is_dir() else path.with_suffix(".md")).read_text(encoding="utf-8")
    headings = [line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")]
    assert not page.section or page.section in headings
    assert str(page) == f"docs: {page.page}, {page.section}".removesuffix(", ")


def test_every_page_is_named_somewhere():
    used = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert [name for name in PAGES if f"doc_pages.{name}" not in used] == []


def test_no_message_names_a_file_of_the_folder_docs():
    found = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # A string that is a statement of its own is a docstring.
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
            if "docs/" in node.value
        ]
    found += [str(path) for path in PACKAGE.rglob("*.html") if "docs/" in path.read_text(encoding="utf-8")]
    assert found == []
