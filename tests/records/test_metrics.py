"""The registry of metrics and scores: complete, well formed, and the only source of the words that people read."""

from __future__ import annotations

import ast
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from augscale.config import ProbeConfig
from augscale.evaluation.metrics import evaluate_scores
from augscale.records.metrics import (
    EVALUATION_METRICS,
    GROUP_TITLES,
    METRICS,
    SCORES,
    VALIDATION_METRICS,
    MetricInfo,
    ScoreInfo,
    score_label,
)
from augscale.reporting.evaluation.tables import EXTRA_METRICS, PAPER_METRICS
from augscale.validation.score_metrics import score_metrics

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "augscale"
REGISTRY = tomllib.loads((PACKAGE / "records" / "metrics.toml").read_text(encoding="utf-8"))
ALL = {"diagnosis": METRICS, "validation": VALIDATION_METRICS, "evaluation": EVALUATION_METRICS}


def test_every_score_of_the_settings_is_in_the_registry():
    assert set(SCORES) == set(get_args(ProbeConfig.model_fields["score"].annotation))


def test_every_metric_in_a_file_is_in_the_registry():
    # Those of a diagnosis: tests/diagnosis/test_measure.py.
    scores = np.random.default_rng(0).dirichlet([1, 1], 20)
    found = evaluate_scores(np.arange(20) % 2, scores, ("a", "b"), ordered=True)
    assert set(found.values) == set(EVALUATION_METRICS)
    assert {*PAPER_METRICS, *EXTRA_METRICS} == set(EVALUATION_METRICS)
    columns = score_metrics(("mild",))
    assert {column.metric for column in columns} <= {*METRICS, *VALIDATION_METRICS}
    assert {column.metric for column in columns} >= set(VALIDATION_METRICS)
    assert all(column.label and column.meaning for column in columns)


@pytest.mark.parametrize("section", ALL)
def test_every_entry_says_what_a_reader_needs_and_nothing_unknown(section):
    for key, info in ALL[section].items():
        unknown = set(REGISTRY[section][key]) - (set(MetricInfo.model_fields) - {"key"})
        assert not unknown, key
        assert info.key == key
        assert info.label, key
        assert info.meaning, key
        assert info.range or key == "score", key
        assert info.name != info.label, key
        assert (info.group in GROUP_TITLES) == (section == "diagnosis"), key


def test_every_score_has_all_its_words():
    for key, score in SCORES.items():
        assert set(REGISTRY["scores"][key]) == set(ScoreInfo.model_fields) - {"key"}
        assert score.meaning.startswith(("The ", score.label[0].upper(), score.label))
        # The place of the labelled datasets, where labels are read.
        assert ("{}" in score.phrase, "{}" in score.says) == (("auroc" in key and "-" in key),) * 2


def test_one_metric_has_one_label_wherever_it_stands():
    assert SCORES["dprime"].label == METRICS["dprime"].label == "d'"
    assert SCORES["pair_auroc"].label.casefold() == METRICS["pair_auroc"].label.casefold()
    assert SCORES["knn-auroc"].label == METRICS["knn_auroc"].label
    assert VALIDATION_METRICS["alpha_req"].label == METRICS["alpha_req"].label
    assert METRICS["rankme"].label == "Effective rank", "as the search's report and `probe.min_effective_rank`"
    assert VALIDATION_METRICS["raw_dprime"].label == f"raw {METRICS['dprime'].label}"


def test_an_unknown_score_is_its_own_label():
    assert score_label("pair_auroc") == "pair AUROC"
    assert score_label("of a later version") == "of a later version"


def test_the_explanation_gives_meaning_range_and_direction():
    info = MetricInfo(label="x", meaning="A number.", range="0 to 1", direction="lower")
    assert info.explanation == "A number. Range 0 to 1; lower is better."
    assert MetricInfo(meaning="A number.").explanation == "A number. Neither direction is better."


def test_files_keep_the_fields_of_the_glossary():
    assert set(METRICS["dprime"].to_dict()) == {"label", "direction", "range", "meaning", "group"}


def test_the_committed_page_is_the_generated_one():
    docs = REPOSITORY / "docs"
    generated = runpy.run_path(str(docs / "make_metrics.py"))["metrics_page"]()
    committed = (docs / "metrics.md").read_text(encoding="utf-8")
    assert committed == generated, "python docs/make_metrics.py writes the page again"


def _texts(path: Path) -> Iterator[str]:
    """The strings of a module without its docstrings; the parts of an f-string are strings of their own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_no_sentence_of_the_code_spells_a_score_by_its_key():
    keys = re.compile(r"(?<!score=)\b(dprime|pair_auroc|alpha_req)\b")
    found = [
        (str(path.relative_to(REPOSITORY)), text)
        for path in sorted(PACKAGE.rglob("*.py"))
        for text in _texts(path)
        if " " in text and keys.search(text)
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["augscale", "docs", "studies", "benchmarks", "examples"])
def test_d_prime_has_one_spelling(folder):
    """No typographic sign (U+2032, U+2019) after the d: it is d', which logs and pipes can show."""
    paths = [
        path for path in (REPOSITORY / folder).rglob("*") if path.suffix in (".py", ".md", ".toml", ".html", ".js")
    ]
    assert paths
    typographic = re.compile(r"\bd[\u2032\u2019](?!\w)|\bd-prime\b|\bd prime\b", re.IGNORECASE)
    found = [str(path.relative_to(REPOSITORY)) for path in paths if typographic.search(path.read_text("utf-8"))]
    assert found == []
