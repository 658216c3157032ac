"""Pages that scripts write from the code: the committed page is the generated one."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import typer

import augscale
from augscale.cli.app import app

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("script", "function", "page"), [("make_cli", "cli_page", "cli"), ("make_api", "api_page", "api")]
)
def test_the_committed_page_is_the_generated_one(script, function, page):
    generated = runpy.run_path(str(DOCS / f"{script}.py"))[function]()
    committed = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert committed == generated, f"python docs/{script}.py writes the page again"


def _flags(command, path: str = "augscale"):
    """Flags of every command that `--help` shows, by its name."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _flags(inner, f"{path} {name}")
    elif not command.hidden:
        options = [option for option in command.params if option.param_type_name == "option" and not option.hidden]
        yield path, {flag for option in options for flag in (*option.opts, *option.secondary_opts)} - {"--help", "-h"}


def test_the_command_page_has_every_command_and_flag_that_typer_accepts():
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    page = {}
    for section in sections:
        rows = [line for line in section.splitlines() if line.startswith("| `-")]
        page[section.splitlines()[0]] = {
            flag for row in rows for flag in re.findall(r"`(--?[\w-]+)`", row.split("|")[1])
        }
    assert page == dict(_flags(typer.main.get_command(app)))


def test_the_python_page_has_every_public_name():
    headings = re.findall(r"^### (\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(set(augscale.__all__) - {"__version__"})
