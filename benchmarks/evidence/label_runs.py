"""Scores from few labels for runs that have finished without them, from the weights that they left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from augscale.config import load_study
from augscale.errors import DataError
from augscale.pretraining.student_teacher import build_networks
from augscale.runs.files import read_json, write_json
from augscale.runs.folders import now, try_lock
from benchmarks.evidence.data import pretraining_study
from benchmarks.evidence.measure import Measurer
from benchmarks.evidence.runner import rung_path
from benchmarks.evidence.settings import load_settings


def label_runs(
    out: Path, data_root: Path, datasets: Sequence[str], device: str = "cpu", part: str | None = None
) -> int:
    """Adds to every finished run of a folder what `label_datasets` would have measured.

    Runs that have these datasets are left out, so a stopped call goes on; several processes may share a folder.

    Args:
        out: of `run`, with the weights.
        data_root: of the photographs.
        datasets: names; of the study's `datasets`.
        device: "cpu" or "cuda".
        part: of the plan, e.g. "methods", whose runs are measured; None: all.
    Returns:
        The number of runs measured here.
    Raises:
        DataError: the folder has no finished runs, or a run's weights are gone.
    """
    files = [file for file in sorted((out / "results").glob("*.json")) if _lacks(file, datasets, part)]
    if not list((out / "results").glob("*.json")):
        raise DataError(f"{out}: no results; expected a folder of `run`")
    if not files:
        return 0
    settings = load_settings(out / "measure.toml").model_copy(update={"label_datasets": tuple(datasets)})
    study = pretraining_study(load_study(str(out / "study.toml")), settings, data_root)
    measurer = Measurer.build(study, settings, data_root, out / "work", device)
    done = 0
    for file in files:
        lock = try_lock(out / "work" / f"labels-{file.stem}" / "lock")
        if lock is None:
            continue
        try:
            if _lacks(file, datasets, part):
                write_json(file, _labelled(file, out, measurer))
                print(f"{now()}  {file.stem}: labels", flush=True)
                done += 1
        finally:
            lock.release()
    return done


def _lacks(file: Path, datasets: Sequence[str], part: str | None) -> bool:
    result = read_json(file)
    assert result is not None
    if result["kind"] != "run" or result["state"] != "complete" or (part and part not in result["parts"]):
        return False
    return not {*datasets} <= {*result["rungs"][-1].get("labels", {})}


def _labelled(file: Path, out: Path, measurer: Measurer) -> dict[str, Any]:
    result = read_json(file)
    assert result is not None
    last = result["rungs"][-1]
    weights = rung_path(out, result["run"], last["step"])
    if not weights.exists():
        raise DataError(f"{weights}: no such file; expected the weights of {result['run']} after the last step")
    network = build_networks(measurer.study, result["seed"], torch.device(measurer.device))[1]
    network.load_state_dict(safetensors.torch.load_file(weights))
    rungs = [*result["rungs"][:-1], last | {"labels": last.get("labels", {}) | measurer.labels(network)}]
    return result | {"rungs": rungs}
