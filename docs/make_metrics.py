"""Writes docs/metrics.md, the reference of all metrics and scores, from the registry.

    python docs/make_metrics.py

tests/records/test_metrics.py compares the committed page with the generated one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from augscale.records.metrics import (
    EVALUATION_METRICS,
    GROUP_TITLES,
    METRICS,
    SCORES,
    VALIDATION_METRICS,
    MetricInfo,
    ScoreInfo,
)

PAGE = Path(__file__).with_name("metrics.md")

_INTRODUCTION = """# Metrics and scores

This page is generated: `python docs/make_metrics.py`. The texts are those of `augscale/records/metrics.toml`, from
which reports, tables and the terminal take theirs.

The key stands in files, settings and options; the label stands in reports and on the terminal, with its name in words
here. Distances are Euclidean, between embeddings of length 1, except in raw metrics.
"""
_SCORES = """## Scores of a search

Values of `probe.score`. [The score, and its traps](score.md) says how far they can be trusted.
"""
_DIAGNOSIS = "## Diagnosis\n"
_VALIDATION = """## Validation

`augscale validate` correlates these with accuracy, besides metrics of the diagnosis. Where lower is better, the sign is
changed; range and better direction are those before that.
"""
_EVALUATION = "## Evaluation\n"


def metrics_page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, _SCORES, _score_table(SCORES.values()), _DIAGNOSIS]
    for group, title in GROUP_TITLES.items():
        parts += [f"### {title}\n", _table({key: info for key, info in METRICS.items() if info.group == group})]
    return "\n".join([*parts, _VALIDATION, _table(VALIDATION_METRICS), _EVALUATION, _table(EVALUATION_METRICS)])


def _score_table(scores: Iterable[ScoreInfo]) -> str:
    lines = ["| key | label | best | meaning |", "|---|---|---|---|"]
    lines += [f"| `{score.key}` | {score.label} | {score.best} | {score.meaning} |" for score in scores]
    return "\n".join(lines) + "\n"


def _table(metrics: Mapping[str, MetricInfo]) -> str:
    lines = ["| key | label | range | unit | better | meaning | source |", "|---|---|---|---|---|---|---|"]
    for key, info in metrics.items():
        label = f"{info.label} ({info.name})" if info.name else info.label
        better = "" if info.direction == "none" else info.direction
        meaning = info.meaning[0].upper() + info.meaning[1:].rstrip(".") + "."
        lines.append(f"| `{key}` | {label} | {info.range} | {info.unit} | {better} | {meaning} | {info.source} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(metrics_page(), encoding="utf-8")
