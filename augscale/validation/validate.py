"""`augscale.validate(...)`: compares the ranks of a study's trials by score with their ranks on labelled data.

Trials are compared at equal steps, with the weights that the search kept; missing weights can be trained again. Results
are kept under a fingerprint of their inputs, so the same call continues an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from augscale.errors import ConfigError
from augscale.evaluation.datasets import open_dataset, open_datasets
from augscale.evaluation.interface import Progress
from augscale.evaluation.jobs import FROZEN, interruptible
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.protocols import make_protocols
from augscale.evaluation.seen_images import cached_contents, seen_notes
from augscale.evaluation.transforms import decoded_side
from augscale.networks.kept_features import features_folder
from augscale.records.manifest import ManifestRecord
from augscale.runs.folders import writable_folder
from augscale.searching.prepare import refuse_own_statistics
from augscale.searching.read_run import read_run
from augscale.searching.trial import build_context
from augscale.statistics.trial_rows import BOOTSTRAP
from augscale.system.devices import resolve_device
from augscale.validation.conclude import conclude
from augscale.validation.finished_trials import choose_rung, finished_trials
from augscale.validation.network_results import NetworkMeasurer
from augscale.validation.result import Validation

DEFAULT_PROTOCOLS = ("linear", "knn")
RESAMPLES = 500
FOLDER = "validation"


def validate(
    run_dir: str | Path,
    *,
    datasets: str | Path | Sequence[str | Path] = "all",
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
    rung: int | None = None,
    remake: bool = False,
    config: ProtocolConfig | None = None,
    crop_to_field: bool | None = None,
    patient_pattern: str | None = None,
    data_root: Path | None = None,
    bootstrap: int = BOOTSTRAP,
    resamples: int = RESAMPLES,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    cache_root: Path | None = None,
    allow_bad: bool = False,
    unlabelled: Collection[str] = (),
    on_progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Validation:
    """Evaluates the finished trials of a study on labelled data and compares their ranks with those of every score.

    Args:
        run_dir: folder of a search; it may still be running.
        datasets: see `evaluate`; classifiers are trained on train, chosen on val and judged on test images.
        protocols: one or more of "linear", "knn" and "released" (seed 0); the headline is about the first.
        rung: step at which trials are compared; None: the last rung that more than half of the trials reached.
        remake: train trials whose weights are missing again, up to the rung.
        config: settings of the protocols; None takes the papers', with the study's views.
        crop_to_field: crop photographs to the field of view; None takes the study's setting.
        patient_pattern, data_root, cache_root, allow_bad, unlabelled, device, on_progress, say: see `evaluate`.
        bootstrap: resamples of trials for the intervals; 0 for none.
        resamples: of the test images; the intervals cover both.
        seed: of all resamples.
        out: folder for validation.json, the tables and validation.html; None is RUN/validation.
    Raises:
        ConfigError: not a run, no such rung, or too few trials with weights; nothing has been computed.
        DataError: a dataset cannot be used.
        StudyError: a trial that was trained again differs from the recorded one.
        InterruptedRun: a signal came; finished parts are kept.
    """
    _check(protocols, bootstrap, resamples)
    run, study_config, study = read_run(run_dir)
    manifest = ManifestRecord.read(run.manifest_file)
    refuse_own_statistics(run, manifest, study_config)
    trials = finished_trials(run, study)
    step = choose_rung(trials, study_config, rung, remake=remake)
    folder = writable_folder(run.path / FOLDER if out is None else Path(out))
    size = study_config.crops.global_size
    settings = (config or ProtocolConfig()).model_copy(update={"view_size": size, "seeds": 1})
    open_one = partial(
        open_dataset,
        size=decoded_side(size),
        data_root=data_root,
        crop_to_field=study_config.data.crop_to_field if crop_to_field is None else crop_to_field,
        grey_range=study_config.data.range,
        patient_pattern=patient_pattern,
        cache_root=cache_root,
        allow_bad=allow_bad,
        unlabelled=unlabelled,
    )
    opened, notes = open_datasets(datasets, open_one, data_root=data_root, on_progress=on_progress, say=say)
    notes += seen_notes([cached_contents(manifest.cache)], opened)
    with interruptible(folder) as stop:
        context = build_context(run, study_config, resolve_device(device))
        kept = features_folder(cache_root)
        made = make_protocols(
            protocols, settings, folder, device=device, features=kept, on_progress=on_progress, should_stop=stop
        )
        measurer = NetworkMeasurer(
            context, opened, made, settings, folder,
            resamples=resamples, seed=seed, on_progress=on_progress, should_stop=stop,
        )  # fmt: skip
        found = measurer.study(run.path, trials, step, remake=remake)
    validation = conclude(
        found, out=folder, notes=notes, bootstrap=bootstrap, resamples=resamples, seed=seed, device=context.device
    )
    validation.save()
    return validation


def _check(protocols: Sequence[str], bootstrap: int, resamples: int) -> None:
    unknown = [name for name in protocols if name not in FROZEN]
    if unknown or not protocols:
        found = f"--protocol {unknown[0]}" if unknown else "no protocol"
        raise ConfigError(f"{found}: validate takes frozen protocols, one or more of {', '.join(FROZEN)}")
    if bootstrap < 0 or resamples < 2:
        raise ConfigError(f"bootstrap = {bootstrap}, resamples = {resamples}: expected at least 0 and 2")
