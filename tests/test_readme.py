"""The README: it is short, its badges and figures are true, and its picture is small and of built-in photographs."""

from __future__ import annotations

import re
import runpy
import tomllib
from io import BytesIO

import numpy as np
import pytest
from document_blocks import ROOT
from PIL import Image

import augscale

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = (ROOT / "docs" / "experiments.md", ROOT / "docs" / "evidence" / "README.md")

FIGURES = re.compile(r"[-+]?[\d.]+ (?:to [-+]?[\d.]+|min(?: \d+ s)?)|[-+][\d.]+(?= [\[(])|\[[^]]+\]")
"""Numbers with their units, values before an interval, and intervals."""


def _results() -> list[list[str]]:
    """Cells of the table of results, without its head."""
    section = README.partition("\n| first minus second")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[1:]


def test_it_has_at_most_120_lines():
    assert len(README.splitlines()) <= 120


def test_the_badges_are_true():
    version, license_, python = re.findall(r"!\[(.+)\]\(https://img\.shields\.io/badge/(.+)-blue\)", README)
    assert version == (f"version {augscale.__version__}", f"version-{augscale.__version__}")
    assert license_ == (f"license {PROJECT['license']}", f"license-{PROJECT['license'].replace('-', '--')}")
    low, above = re.fullmatch(r">=(3\.\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert python[0] == f"Python {low} to 3.{int(above) - 1}"
    assert python[1] == f"python-{low}_to_3.{int(above) - 1}"


def test_every_figure_of_the_results_stands_in_the_log_or_the_evidence():
    logged = " ".join(" ".join(source.read_text(encoding="utf-8").split()) for source in SOURCES)
    results = _results()
    assert len(results) == 4
    for _, _, time, *answers in results:
        parts = FIGURES.findall(" ".join((time, *answers)))
        assert parts
        assert [part for part in parts if part not in logged] == []
    sentence = README.partition("\nRank correlation of ")[2].partition("On most sets")[0]
    correlations = FIGURES.findall(" ".join(sentence.split()))
    assert len(correlations) == 7
    assert [part for part in correlations if part not in logged] == []


def test_the_ranks_by_labels_are_those_of_the_tables():
    """Judged by the other seed (table 15)."""
    tables = (ROOT / "docs" / "evidence" / "imagenet" / "tables.md").read_text(encoding="utf-8")
    judged = tables.partition("\nJudged by the run of the same scales")[2].partition("\n## ")[0]
    rows = {line.split("|")[1].strip(): line.split("|")[2:5] for line in judged.splitlines() if line[:2] == "| "}
    table = README.partition("\n| from ImageNet weights")[2].partition("\n\n")[0].splitlines()[2:]
    free, by_labels = ([cell.strip() for cell in line.split("|")[2:5]] for line in table)
    assert free == [cell.split()[0] for cell in rows["pair_auroc"]]
    for place, cell in enumerate(by_labels):
        assert cell.split(", ") == [rows[f"{size} labels"][place].split()[0] for size in (50, 100, 200)]


def test_what_is_not_shown_stands_above_the_results_and_a_row_has_one_metric():
    assert README.index("**Not shown:") < README.index("| first minus second")
    for first, _, _, *answers in _results():
        assert " minus " in first
        (answer,) = filter(None, answers)
        difference, low, high = map(float, re.match(r"(\S+) \((\S+) to (\S+)\)", answer).groups())
        assert low < difference < high
        verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
        assert answer.endswith(f": {verdict}")


@pytest.mark.parametrize(("name", "script"), [("views", "make_views"), ("answer", "make_terminal")])
def test_the_picture_is_small_and_the_script_makes_it(name, script):
    path = ROOT / "docs" / "images" / f"{name}.png"
    assert path.stat().st_size < 200_000
    made = Image.open(BytesIO(runpy.run_path(str(ROOT / "docs" / f"{script}.py"))["picture"]())).convert("RGB")
    committed = Image.open(path).convert("RGB")
    assert committed.size == made.size
    # Fonts and rounding differ a little between versions of Pillow and torch.
    difference = np.abs(np.asarray(made, dtype=float) - np.asarray(committed, dtype=float)).mean()
    assert difference == pytest.approx(0, abs=2), f"python docs/{script}.py writes the picture again"


def test_the_picture_of_the_answer_is_described_and_printed_as_text():
    """For readers without pictures: the headline in README, all of it in docs/start.md."""
    terminal = runpy.run_path(str(ROOT / "docs" / "make_terminal.py"))
    headline = terminal["screen"]().headline
    assert f"![{headline}](docs/images/answer.png)" in README
    assert f"```text\n{terminal['plain']()}\n```" in (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
