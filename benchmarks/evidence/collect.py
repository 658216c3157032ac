"""From the runs' JSON files to the CSVs that are committed: everything that tables and figures need, and no more.

runs.csv        one row per run and rung: what it is, its scales, loss, information, seconds of one core
scores.csv      one row per run, rung, layer and level; a column for each metric, 6 digits
outcomes.csv    one row per run, rung, dataset and protocol: AUROC and AUPR
baselines.csv   the same for pixels, colours and the untrained networks
draws.csv       AUROC times 10,000 on resampled images, the same images for all rows of a dataset and protocol
labels.csv      AUROC times 10,000 from few labelled images, see `label_draws`; the same images for all rows of a
                dataset and size
study.toml, measure.toml
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from augscale.config import load_study
from augscale.errors import DataError
from augscale.runs.files import read_json, write_text_atomic
from augscale.runs.folders import writable_folder
from augscale.settings import Settings
from benchmarks.evidence.scores import METRICS
from benchmarks.evidence.settings import load_settings

TRAINED = ("run", "null")
"""Kinds that go through the training loop; the others are baselines."""
RUN_COLUMNS = ("run", "name", "kind", "seed", "parts", "state", "reason", "step", "fraction", "loss", "information")
SETTINGS_FILES: dict[str, Callable[[Path], Settings]] = {"study.toml": load_study, "measure.toml": load_settings}


def collect(out: Path, to: Path) -> list[str]:
    """Writes the CSVs of a run folder, beside the runs that they hold already and the folder does not.

    Args:
        out: folder of `run`.
        to: folder of the CSVs; made when needed.
    Returns:
        Lines that say what was written.
    Raises:
        DataError: there are no results, or the CSVs are of other settings.
    """
    results = [read_json(path) for path in sorted((out / "results").glob("*.json"))]
    results = [result for result in results if result is not None]
    if not results:
        raise DataError(f"{out / 'results'}: no result; expected JSON files of `run`")
    writable_folder(to)
    for name, load in SETTINGS_FILES.items():
        # As models: a setting that has been added since has its default in an older file.
        if (to / name).exists() and load(to / name) != load(out / name):
            raise DataError(f"{to / name}: other settings than {out / name}; expected the same, or another --to")
    metrics = _metrics(results)
    tables: dict[str, tuple[Sequence[str], list[list[Any]]]] = {
        "runs.csv": _runs(results),
        "scores.csv": (("run", "fraction", "layer", "level", *metrics), _scores(results, metrics)),
        "outcomes.csv": (
            ("run", "fraction", "dataset", "protocol", "auroc", "aupr"),
            [[result["run"], *row] for result in results if result["kind"] in TRAINED for row in _outcomes(result)],
        ),
        "baselines.csv": (
            ("run", "name", "seed", "dataset", "protocol", "auroc", "aupr"),
            [
                [result["run"], result["name"], result["seed"], *row[1:]]
                for result in results
                if result["kind"] not in TRAINED
                for row in _outcomes(result)
            ],
        ),
        "draws.csv": _draws(results),
    }
    if labels := _labels(results):
        draws = [f"draw{number}" for number in range(max(len(row) for row in labels) - 4)]
        tables["labels.csv"] = ["run", "dataset", "size", "value", *draws], labels
    lines = []
    new = {result["run"] for result in results}
    for name, (header, rows) in tables.items():
        header, rows = _beside(to / name, header, rows, new)
        text = csv_text(header, rows)
        write_text_atomic(to / name, text)
        lines.append(f"{to / name}: {len(rows)} rows, {len(text) / 1e6:.2f} MB")
    for name in SETTINGS_FILES:
        shutil.copyfile(out / name, to / name)
    return lines


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A CSV; None becomes an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return buffer.getvalue()


def complete_runs(csvs: Path) -> set[str]:
    """Names of the complete runs in a folder of CSVs.

    Raises:
        DataError: there is no runs.csv.
    """
    file = csvs / "runs.csv"
    try:
        rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); expected a CSV of `collect`") from None
    return {row["run"] for row in rows if row["state"] == "complete"}


def _beside(
    file: Path, header: Sequence[str], rows: list[list[Any]], new: Container[str]
) -> tuple[Sequence[str], list[list[Any]]]:
    """The rows and, sorted by run among them, those that a file holds of other runs."""
    if not file.exists():
        return header, rows
    with file.open(encoding="utf-8", newline="") as opened:
        reader = csv.DictReader(opened)
        old = [row for row in reader if row["run"] not in new]
        header = [*header, *(name for name in reader.fieldnames or [] if name not in header)]
    kept = [[row.get(name, "") for name in header] for row in old]
    # Sorting keeps the order within a run.
    return header, sorted([*kept, *rows], key=lambda row: row[0])


def _runs(results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    flat = [_flat(result["scales"] or {}) for result in results]
    names = sorted({name for scales in flat for name in scales})
    rows = []
    for result, scales in zip(results, flat, strict=True):
        identity = [result[key] for key in ("run", "name", "kind", "seed")]
        identity += [" ".join(result["parts"]), result["state"], result["reason"]]
        rest = [result["seconds"], *(scales.get(name) for name in names)]
        for rung in result["rungs"] or [{}]:
            facts = [rung.get(key) for key in ("step", "fraction", "loss", "information")]
            rows.append([*identity, *map(_rounded, facts), *rest])
    return [*RUN_COLUMNS, "seconds", *names], rows


def _flat(scales: dict[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in scales.items():
        if isinstance(value, (list, tuple)):
            flat |= {f"{name}_{place}": _rounded(part) for place, part in enumerate(value)}
        else:
            flat[name] = _rounded(value)
    return flat


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _metrics(results: Sequence[dict[str, Any]]) -> list[str]:
    """METRICS that any run has; runs made before a metric was added lack it."""
    known = {
        metric
        for result in results
        for rung in result["rungs"]
        for levels in rung["scores"].values()
        for values in levels.values()
        for metric in values
    }
    return [metric for metric in METRICS if metric in known]


def _scores(results: Sequence[dict[str, Any]], metrics: Sequence[str]) -> list[list[Any]]:
    return [
        [result["run"], rung["fraction"], layer, level, *(values.get(metric) for metric in metrics)]
        for result in results
        for rung in result["rungs"]
        for layer, levels in rung["scores"].items()
        for level, values in levels.items()
    ]


def _outcomes(result: dict[str, Any]) -> list[list[Any]]:
    return [
        [rung["fraction"], dataset, protocol, outcome["auroc"], outcome["aupr"]]
        for rung in result["rungs"]
        for dataset, protocols in rung["outcomes"].items()
        for protocol, outcome in protocols.items()
    ]


def _draws(results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [result["run"], dataset, protocol, *draws]
        for result in results
        for rung in result["rungs"]
        for dataset, protocols in rung["draws"].items()
        for protocol, draws in protocols.items()
        if draws
    ]
    most = max((len(row) for row in rows), default=3)
    return ["run", "dataset", "protocol", *(f"draw{number}" for number in range(most - 3))], rows


def _labels(results: Sequence[dict[str, Any]]) -> list[list[Any]]:
    return [
        [result["run"], dataset, int(size), value, *areas]
        for result in results
        for rung in result["rungs"]
        for dataset, sizes in rung.get("labels", {}).items()
        for size, values in sizes.items()
        for value, areas in values.items()
    ]
