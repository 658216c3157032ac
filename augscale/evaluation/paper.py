"""The paper's results, as reference values.

Cheng et al., "adjusted augmentation scales for contrastive learning on retinal images". Two versions differ in some
values: the MIDL 2025 full paper (PMLR 301:214-225; `midl2025`, the reference) and arXiv 2501.02451 v1 (`arxiv_v1`).
Their numbering is swapped: internal evaluation is Table 3 in MIDL and Table 4 on arXiv, external evaluation Table 4 in
MIDL and Table 3 on arXiv. The two files under `reference/` carry arXiv's numbers in their names; their column
`table_in_source` says which table of its version a value is from.

Internal values come with 95 % intervals of the mean over five head seeds on one checkpoint (normal in MIDL, apparently
Student t on arXiv). External values come with a "+/-" whose meaning (SD, standard error or half an interval) neither
version states, so it is shown but never treated as an interval.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from augscale.errors import ConfigError

VERSIONS = ("midl2025", "arxiv_v1")
PRESETS = ("strong", "weak", "weak+med")
METRICS = {"auroc": "AUROC", "aupr": "AUPR", "paper_sensitivity": "Sensitivity"}
"""Metrics that the paper reports, with their names in its tables."""
PLUS_MINUS = "the paper does not say what its +/- means"
CAVEAT = (
    "The paper's values are for its own splits, network (ViT-S/16 pre-trained on 1.4 million photographs) and head: "
    "compare orders and differences, not values."
)

_REFERENCE = Path(__file__).with_name("reference")


@dataclass(frozen=True, kw_only=True)
class PaperValue:
    """One cell of a table of the paper."""

    version: str
    table: str
    mean: float
    interval: tuple[float, float] | None
    """95 % interval; None in the external table."""
    plus_minus: float | None
    """Number after "+/-", whose meaning is unknown; external table only."""
    best: bool
    """True if printed as the best of its row (internal) or column (external)."""
    p_weak_vs_strong: str
    """p-value as printed, e.g. `<.001`; empty on arXiv."""
    note: str


def dataset_key(name: str) -> str:
    """One key for all spellings of a dataset's name, e.g. `MESSIDOR-2`, `messidor2` and `Messidor_2`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def paper_value(
    trained_on: str, tested_on: str, preset: str, version: str = "midl2025", metric: str = "auroc"
) -> PaperValue | None:
    """One result of the paper, internal or external; external results are AUROC only.

    Args:
        trained_on, tested_on: in any spelling of their names; equal for an internal result.
        preset: one of PRESETS.
        version: one of VERSIONS.
        metric: a key of METRICS.
    Returns:
        None where the paper has no such value.
    Raises:
        ConfigError: no such version.
    """
    if version not in VERSIONS:
        raise ConfigError(f"paper version {version!r} is not known; expected one of {', '.join(VERSIONS)}")
    key = (dataset_key(trained_on), dataset_key(tested_on), METRICS.get(metric, ""), preset)
    return _values(version).get(key)


@cache
def _values(version: str) -> dict[tuple[str, str, str, str], PaperValue]:
    internal = {
        (dataset_key(row["dataset"]),) * 2 + (row["metric"], row["preset"]): _value(
            row, interval=(float(row["ci_low"]), float(row["ci_high"])), best=row["best_in_row"] == "1"
        )
        for row in _rows("paper_table4.csv", version)
    }
    external = {
        (dataset_key(row["finetune_data"]), dataset_key(row["test_data"]), row["metric"], row["preset"]): _value(
            row, plus_minus=float(row["plus_minus"]), best=row["best_in_column"] == "1"
        )
        for row in _rows("paper_table3.csv", version)
    }
    return internal | external


def _value(
    row: dict[str, str], *, best: bool, interval: tuple[float, float] | None = None, plus_minus: float | None = None
) -> PaperValue:
    return PaperValue(
        version=row["version"],
        table=row["table_in_source"],
        mean=float(row["mean"]),
        interval=interval,
        plus_minus=plus_minus,
        best=best,
        p_weak_vs_strong=row["p_weak_vs_strong"],
        note=row["note"],
    )


def _rows(name: str, version: str) -> list[dict[str, str]]:
    with open(_REFERENCE / name, encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["version"] == version]
