"""The classifiers that an evaluation needs, and the training of those without stored predictions."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from augscale.errors import DataError, InterruptedRun, Paused
from augscale.evaluation.datasets import LabelledImages
from augscale.evaluation.interface import Encoder, Fitted, Progress, Protocol, dataset_digest
from augscale.evaluation.label_maps import external_pairs
from augscale.evaluation.predictions import Predictions, prediction_name, read_predictions, write_predictions
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.system.signals import StopFlag

FROZEN = ("linear", "released", "knn")
"""Protocols that do not train the network; also run on networks before training."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One classifier to train, and everything that it is tested on."""

    encoder: Encoder
    protocol: Protocol
    seed: int
    train_on: LabelledImages
    test_on: list[LabelledImages]


@contextmanager
def interruptible(folder: Path) -> Iterator[StopFlag]:
    """Listens to stop signals within a block that stores its finished results in a folder.

    Raises:
        InterruptedRun: a stop signal came.
    """
    stop = StopFlag()
    try:
        with stop.listening():
            yield stop
    except (Paused, RuntimeError) as error:
        # A batch system's signal also ends the processes that load images, which raises a RuntimeError here.
        if not isinstance(error, Paused) and stop.signal_number is None:
            raise
        number = stop.signal_number or int(signal.SIGTERM)
        raise InterruptedRun(
            f"stopped by {signal.Signals(number).name}; finished parts are kept in {folder}, "
            "the same command continues",
            number,
        ) from None


def plan_jobs(
    encoders: Sequence[Encoder],
    references: Sequence[Encoder],
    protocols: Sequence[Protocol],
    datasets: Sequence[LabelledImages],
    seeds: int,
    external: bool,
) -> tuple[list[Job], list[str]]:
    """Lists every classifier once, with all its test sets; checkpoint by checkpoint, cheap protocols first.

    Args:
        references: networks that only the frozen protocols measure.
        seeds: number of seeds, for the protocols whose result depends on the seed.
        external: also test on the other datasets that share classes.
    Returns:
        The jobs, and notes on the shared classes.
    """
    tests: list[tuple[LabelledImages, list[LabelledImages]]] = [(dataset, [dataset]) for dataset in datasets]
    notes = []
    pairs = external_pairs(datasets) if external else []
    if external and not pairs:
        notes.append("external: no two of the datasets share classes")
    for train_on, test_on, label_map in pairs:
        notes.append(f"external: {label_map}")
        source, target = label_map.apply(train_on, test_on)
        same = next((targets for known, targets in tests if known is source), None)
        if same is None:
            tests.append((source, [target]))
        else:
            same.append(target)
    jobs = [
        Job(encoder=encoder, protocol=protocol, seed=seed, train_on=train_on, test_on=targets)
        for protocol in sorted(protocols, key=lambda p: p.name == "finetune")
        for encoder in (*encoders, *(references if protocol.name in FROZEN else []))
        for train_on, targets in tests
        for seed in range(seeds if protocol.seeds_matter else 1)
    ]
    return jobs, notes


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    settings: ProtocolConfig,
    should_stop: Callable[[], bool],
    on_progress: Progress | None,
) -> tuple[list[Predictions], list[str]]:
    """Runs the jobs whose predictions are missing. A job that fails because of the data is left out, with a note.

    Args:
        folder: folder of the predictions.
        settings: settings of the protocols; part of the fingerprint of the predictions.
        should_stop: called before every classifier.
        on_progress: called with (what, tests done, tests in all).
    Returns:
        All predictions, and notes on predictions that were computed again or are missing.
    Raises:
        Paused: `should_stop` returned True; finished predictions are kept.
    """
    found: list[Predictions] = []
    lost: list[str] = []
    total = sum(len(job.test_on) for job in jobs)
    for job in jobs:
        if should_stop():
            raise Paused
        fitted: Fitted | None = None
        problem = ""
        for target in job.test_on:
            path, fingerprint = folder / f"{_name(job, target)}.csv", _fingerprint(job, target, settings)
            known, note = read_predictions(path, fingerprint=fingerprint)
            if note:
                lost.append(note)
            if known is None and not problem:
                start = time.monotonic()
                try:
                    fitted = fitted or job.protocol.fit(job.encoder, job.train_on, seed=job.seed)
                    known = _predict(job, target, fitted, fingerprint, time.monotonic() - start)
                except DataError as error:
                    problem = f"{job.encoder.name}, {job.protocol.name}: {error}"
                    lost.append(problem)
                else:
                    write_predictions(folder, known)
            if known is not None:
                found.append(known)
            if on_progress is not None:
                on_progress(f"{job.protocol.name}, {job.encoder.name} on {target.name}", len(found), total)
        _forget_state(job)
    return found, list(dict.fromkeys(lost))


def _predict(job: Job, target: LabelledImages, fitted: Fitted, fingerprint: str, fit_seconds: float) -> Predictions:
    start = time.monotonic()
    part = target.part("test")
    return Predictions(
        protocol=job.protocol.name,
        checkpoint=job.encoder.name,
        trained_on=job.train_on.name,
        tested_on=target.name,
        seed=job.seed,
        classes=target.classes,
        image_ids=tuple(target.image_ids[i] for i in part),
        labels=target.labels[part],
        scores=fitted.predict(target, "test"),
        selection=fitted.selection,
        seconds=round(fit_seconds + time.monotonic() - start, 3),
        groups=np.unique(target.groups[part], return_inverse=True)[1].astype(np.int64),
        fingerprint=fingerprint,
    )


def _forget_state(job: Job) -> None:
    """Deletes the state of a fine-tuning, which is as large as the checkpoint; the predictions are kept."""
    state_path = getattr(job.protocol, "state_path", None)
    if state_path is not None:
        with suppress(OSError):
            state_path(job.encoder, job.train_on, job.seed).unlink(missing_ok=True)


def _name(job: Job, target: LabelledImages) -> str:
    return prediction_name(job.protocol.name, job.encoder.name, job.train_on.name, target.name, job.seed)


def _fingerprint(job: Job, target: LabelledImages, settings: ProtocolConfig) -> str:
    """Hash of everything that the predictions depend on."""
    own = getattr(settings, job.protocol.name).model_dump(exclude={"workers"})
    facts = [
        job.encoder.fingerprint,
        dataset_digest(job.train_on),
        target.fingerprint,
        settings.view_size,
        settings.feature_precision,
        own,
        job.seed,
    ]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
