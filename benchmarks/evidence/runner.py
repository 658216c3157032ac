"""Claiming, doing and resuming the runs of a plan; several processes may work on one folder at once.

The folder that `--out` names holds:

    study.toml, measure.toml      the resolved settings; a later call with others is refused
    results: RUN.json             a finished or failed run, whole or not there
    weights: a folder per RUN     the teacher at every rung, 21 MB; a run that has them is not trained again
    work: a folder per RUN        lock, resumable state and the rungs measured so far of a run in progress

A run's lock is held by its process and released by the operating system when that dies, however it dies; whoever
comes next goes on from the saved state. A stopped process (SIGSTOP) keeps its lock and its run.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import tomli_w
import torch

from augscale.config import StudyConfig
from augscale.data.splits import patient_groups
from augscale.errors import AugscaleError, ConfigError
from augscale.pretrain_config import PretrainConfig
from augscale.pretraining.events import RungEvent
from augscale.pretraining.loop import pretrain
from augscale.pretraining.student_teacher import build_networks
from augscale.runs.files import read_json, write_json, write_text_atomic
from augscale.runs.folders import now, this_host, try_lock, versions, writable_folder
from augscale.searching.trial import rung_steps
from augscale.settings import changes, flatten, read_toml
from benchmarks.evidence.measure import Measurer
from benchmarks.evidence.plan import PlannedRun
from benchmarks.evidence.settings import MeasureSettings

TRAINING_FILE = "training.json"
"""Beside the weights: loss and information at every rung. It is there when all weights are."""
RELEASED_PART = "question"
"""Runs of this part are also judged by the authors' script."""


def prepare_folder(out: Path, study: StudyConfig, settings: MeasureSettings) -> None:
    """Lays out the folder, or checks that it was made with the same settings.

    Raises:
        ConfigError: the folder cannot be written, or holds runs of other settings.
    """
    for folder in (out, out / "results", out / "work"):
        writable_folder(folder)
    for name, model in (("study", study), ("measure", settings)):
        file = out / f"{name}.toml"
        if file.exists():
            default = type(model)().model_dump(mode="json")
            before, given = flatten(read_toml(file)), flatten(model.model_dump(mode="json", exclude_none=True))
            if changed := changes(before, given, flatten(default), StudyConfig.FREE):
                raise ConfigError(f"{file}: other settings ({changed}); expected the same, or another --out")
        # The folders of the images may move; what is in them is checked by the saved states.
        exclude = {"data": {"sources"}} if name == "study" else None
        write_text_atomic(file, tomli_w.dumps(model.model_dump(mode="json", exclude_none=True, exclude=exclude)))


def result_file(out: Path, run: PlannedRun) -> Path:
    return out / "results" / f"{run.run_id}.json"


def pending(out: Path, plan: Sequence[PlannedRun], *, retry_failed: bool = False) -> list[PlannedRun]:
    """Runs of the plan without a result, in its order."""
    left = []
    for run in plan:
        found = read_json(result_file(out, run))
        if found is None or (retry_failed and found["state"] == "failed"):
            left.append(run)
    return left


def work(out: Path, plan: Sequence[PlannedRun], measurer: Measurer, *, retry_failed: bool = False) -> int:
    """Does runs until none is left that no other process holds.

    Returns:
        The number of runs done here, failed ones included.
    """
    done = 0
    while (claimed := _claim(out, plan, retry_failed)) is not None:
        run, lock = claimed
        try:
            result = _attempt(run, out, measurer)
            write_json(result_file(out, run), result)
        finally:
            lock.release()
        retry_failed = False  # once per call
        shutil.rmtree(out / "work" / run.run_id, ignore_errors=True)
        done += 1
        print(f"{now()}  {run.run_id}: {result['state']} after {result['seconds']:.0f} s", flush=True)
    return done


def _claim(out: Path, plan: Sequence[PlannedRun], retry_failed: bool) -> tuple[PlannedRun, Any] | None:
    for run in pending(out, plan, retry_failed=retry_failed):
        lock = try_lock(out / "work" / run.run_id / "lock")
        if lock is None:
            continue
        # Finished by another process between the listing and the lock.
        if run in pending(out, [run], retry_failed=retry_failed):
            return run, lock
        lock.release()
        shutil.rmtree(out / "work" / run.run_id, ignore_errors=True)
    return None


def _attempt(run: PlannedRun, out: Path, measurer: Measurer) -> dict[str, Any]:
    try:
        return perform(run, out, measurer)
    except (AugscaleError, ArithmeticError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, AugscaleError):
            traceback.print_exc()
        record = read_json(out / "work" / run.run_id / "progress.json") or _new_record(run)
        return record | {"state": "failed", "reason": reason, "finished": now()}


def perform(run: PlannedRun, out: Path, measurer: Measurer) -> dict[str, Any]:
    """Trains and measures one run, or goes on with it.

    Args:
        out: the study's folder.
    Returns:
        The record that is written as its result: see `_new_record`.
    """
    progress = out / "work" / run.run_id / "progress.json"
    progress.parent.mkdir(parents=True, exist_ok=True)
    begun = time.process_time()
    saved = read_json(progress)
    record: dict[str, Any] = saved if saved is not None else _new_record(run)
    if run.kind not in ("run", "null"):
        record["rungs"] = [_baseline(run, measurer)]
        record["seconds"] = round(time.process_time() - begun, 2)
        return record | {"state": "complete", "finished": now()}
    training = train(run, out, measurer)
    record |= {name: training[name] for name in ("images_per_second", "loss_history")}
    before = record["seconds"] if record["rungs"] else training["seconds"]
    begun = time.process_time()
    assert run.scales is not None
    # A run may have steps of its own.
    steps, own = study_of(run, measurer.study).pretrain.steps, measurer.own_views(run.scales)
    network = build_networks(measurer.study, run.seed, torch.device(measurer.device))[1]
    for rung in training["rungs"][len(record["rungs"]) :]:
        network.load_state_dict(safetensors.torch.load_file(rung_file(out, run, rung["step"])))
        last = rung["step"] >= steps
        values = measurer.network(network, own, seed=run.seed, last=last, released=last and RELEASED_PART in run.parts)
        record["rungs"].append(rung | values)
        record["seconds"] = round(before + time.process_time() - begun, 2)
        write_json(progress, record)
    return record | {"state": "complete", "finished": now()}


def train(run: PlannedRun, out: Path, measurer: Measurer) -> dict[str, Any]:
    """Trains a run and keeps the teacher of every rung, or finds what was trained before.

    Weights stay in the folder, so that what is measured of them can be measured again after a change.

    Returns:
        rungs: step, fraction, loss and information of each. images_per_second, loss_history, seconds of one core.
    """
    folder = out / "weights" / run.run_id
    known: dict[str, Any] | None = read_json(folder / TRAINING_FILE)
    if known is not None:
        return known
    assert run.scales is not None
    folder.mkdir(parents=True, exist_ok=True)
    study = study_of(run, measurer.study)
    begun = time.process_time()
    rungs: list[dict[str, Any]] = []

    def on_rung(event: RungEvent) -> None:
        parts = {"backbone": event.backbone, "head": event.head}
        tensors = {f"{part}.{key}": value for part in parts for key, value in parts[part].state_dict().items()}
        safetensors.torch.save_file(
            {key: value.contiguous() for key, value in tensors.items()}, rung_file(out, run, event.step)
        )
        facts = {"step": event.step, "fraction": round(event.step / study.pretrain.steps, 6)}
        rungs.append(facts | {"loss": event.loss, "information": event.information})
        write_json(folder / "rungs.json", rungs)

    if (out / "work" / run.run_id / "state.pt").exists():
        rungs += read_json(folder / "rungs.json") or []
    result = pretrain(
        measurer.cache.images,
        measurer.train_indices,
        run.scales,
        study=study,
        seed=run.seed,
        device=measurer.device,
        state_path=out / "work" / run.run_id / "state.pt",
        rung_steps=rung_steps(study),
        on_rung=on_rung,
        patients=patient_groups(measurer.cache.records),
    )
    training = {
        "rungs": rungs,
        "images_per_second": round(result.images_per_second, 2),
        "loss_history": [[step, round(loss, 4)] for step, loss in result.loss_history],
        "seconds": round(time.process_time() - begun, 2),
    }
    write_json(folder / TRAINING_FILE, training)
    return training


def study_of(run: PlannedRun, study: StudyConfig) -> StudyConfig:
    """The study with the run's own settings of `pretrain`."""
    recipe = PretrainConfig.model_validate(study.pretrain.model_dump() | dict(run.recipe))
    return study.model_copy(update={"pretrain": recipe})


def rung_file(out: Path, run: PlannedRun, step: int) -> Path:
    """Weights of the teacher after `step` updates."""
    return rung_path(out, run.run_id, step)


def rung_path(out: Path, run_id: str, step: int) -> Path:
    """The same by the run's id."""
    return out / "weights" / run_id / f"rung-{step:06d}.safetensors"


def _baseline(run: PlannedRun, measurer: Measurer) -> dict[str, Any]:
    facts = {"step": 0, "fraction": 0.0, "loss": None, "information": None}
    if run.kind != "untrained":
        return facts | measurer.images_only(run.kind)
    teacher = build_networks(measurer.study, run.seed, torch.device(measurer.device))[1]
    return facts | measurer.network(teacher, None, seed=run.seed, last=True, released=True)


def _new_record(run: PlannedRun) -> dict[str, Any]:
    """run, name, seed, kind, parts, recipe and scales say what it is; rungs hold what `Measurer.network` gives; seconds
    are of one core, of all sessions that a resumed run had up to its last rungs."""
    return {
        "run": run.run_id,
        "name": run.name,
        "seed": run.seed,
        "kind": run.kind,
        "parts": list(run.parts),
        "recipe": dict(run.recipe),
        "scales": None if run.scales is None else run.scales.model_dump(mode="json"),
        "state": "running",
        "reason": None,
        "rungs": [],
        "seconds": 0.0,
        "started": now(),
        "host": this_host(),
        "versions": versions(),
    }
