"""All tables and figures of the study, from the CSVs alone: docs/evidence/tables.md and *.svg."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from augscale.config import load_study
from augscale.runs.files import write_text_atomic
from benchmarks.evidence import beyond, label_tables, prior, run_tables, score_tables
from benchmarks.evidence.correlations import Spread
from benchmarks.evidence.figures import write_figures
from benchmarks.evidence.records import Evidence, read_evidence
from benchmarks.evidence.settings import load_settings
from benchmarks.evidence.trust import write_trust

SECTIONS: tuple[Callable[[Spread], str], ...] = (
    run_tables.summary_section,
    run_tables.baselines_section,
    score_tables.metrics_section,
    score_tables.rungs_section,
    score_tables.own_views_section,
    score_tables.levels_section,
    score_tables.raw_section,
    score_tables.layers_section,
    score_tables.combinations_section,
    run_tables.noise_section,
    run_tables.regret_section,
    run_tables.question_section,
    score_tables.hypothesis_section,
    score_tables.within_seeds_section,
    prior.section,
    label_tables.section,
    beyond.section,
    beyond.differences_section,
    beyond.later_section,
)


def write_document(folder: Path, *, bootstrap: int = 2000, trust_file: Path | None = None) -> list[Path]:
    """Writes tables.md and the figures beside the CSVs; the same CSVs give the same bytes.

    Args:
        folder: of the CSVs.
        bootstrap: resamples of scales and images for the intervals.
        trust_file: where what `augscale search` says about its score is written; None: nowhere.
    Raises:
        DataError: a CSV is missing or lacks a column.
    """
    evidence = read_evidence(folder)
    spread = Spread.of(evidence, bootstrap)
    parts = ["# Tables of the evidence study\n\nWritten by `python -m benchmarks.evidence tables`; do not edit.\n"]
    parts.append(_counts(evidence, spread))
    parts += [text for section in SECTIONS if (text := section(spread))]
    path = folder / "tables.md"
    write_text_atomic(path, "\n".join(parts))
    written = [path, *write_figures(spread, folder)]
    if trust_file is not None:
        study, measured = load_study(str(folder / "study.toml")), load_settings(folder / "measure.toml")
        written.append(write_trust(spread, study, measured, trust_file))
    return written


def _counts(evidence: Evidence, spread: Spread) -> str:
    trained = [run for run in evidence.runs.values() if run.kind == "run"]
    failed = [run.run for run in trained if run.state != "complete"]
    scales = len(set(spread.names))
    lines = [
        f"{len(trained)} runs, {len(failed)} of them failed{': ' + ', '.join(failed) if failed else ''}. ",
        f"Correlations are over {len(spread.runs)} runs of {scales} scales. ",
        f"Rungs: {', '.join(f'{fraction:g}' for fraction in evidence.fractions)} of the steps. ",
        f"Intervals are 95 %: of correlations over {spread.bootstrap} resamples of scales and labelled images, ",
        "of means and differences Student's over pre-training seeds.\n",
    ]
    return "".join(lines)
