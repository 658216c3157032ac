"""Before a search: checks everything that can be checked, builds the image cache, and lays out the run folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from augscale import doc_pages
from augscale.augmentation.scales import load_scales
from augscale.config import StudyConfig, study_text
from augscale.data.cache import ImageCache, build_cache
from augscale.data.facts import data_facts
from augscale.data.sanity import check_images
from augscale.data.suspects import write_suspects
from augscale.errors import ConfigError
from augscale.records.manifest import DataRecord, LabelledRecord, ManifestRecord
from augscale.runs.files import write_text_atomic
from augscale.runs.folders import RunFolder, now, versions
from augscale.scoring.panel import checked_panel_split, fit_panel, fitted_words, panel_fits, with_panel
from augscale.searching.space import check_searched, check_space
from augscale.searching.storage import Storage, run_storage
from augscale.seeding import derive_seed
from augscale.settings import changes, flatten
from augscale.system.startup import lasting_imports

Say = Callable[[str], None]
OnProgress = Callable[[int, int], None]

COMMON = "common"
"""Value of a manifest's `statistics` if trials are scored with common batch norm statistics."""
CHANGEABLE = StudyConfig.FREE | {
    "search.trials",
    "search.max_failures",
    "search.keep_best",
    "search.keep_weights",
    "search.null_trials",
    "confirm.top_k",
    "confirm.seeds",
}
"""Settings that may change when a run is resumed, because none alters a trial. Images are compared by fingerprint."""


def check_study(config: StudyConfig) -> int:
    """Checks what the study file alone cannot show: names of scales, the search space, the backbone.

    Returns:
        The number of parameters of the backbone.
    Raises:
        ConfigError, CheckpointError: the study cannot be run; nothing has been trained.
    """
    with lasting_imports():
        from augscale.networks.backbones import check_init
        from augscale.pretraining.methods import check_networks

    check_space(config.space)
    check_searched(config)
    for name in (*config.search.controls, *config.probe.levels, config.space.base):
        load_scales(name)
    for name in config.confirm.controls:
        if name not in config.search.controls:
            raise ConfigError(f"confirm.controls: {name!r} is not among search.controls {list(config.search.controls)}")
    check_init(config.backbone)
    # The workers load the weights; only the architecture is checked here, so that this is quick.
    return check_networks(config)


def prepare_run(
    run: RunFolder,
    config: StudyConfig,
    *,
    storage: Storage | None,
    parameters: int,
    device_label: str,
    panel_given: bool = True,
    allow_bad: bool = False,
    on_progress: OnProgress | None = None,
    say: Say | None = None,
) -> ManifestRecord:
    """Lays out a new run, or checks that an existing one was made with the same settings and images.

    Args:
        run: the run folder.
        config: of the study.
        storage: where the Optuna study is kept; None for study.db in the run folder.
        parameters: of the backbone.
        device_label: for the manifest.
        panel_given: the user set `probe.images`; else it shrinks if there are few images, and the run's study.toml has
            the number that was taken (`kept_panel`).
        allow_bad: go on although many files could not be used.
        on_progress: called with images decoded and their total.
        say: called with remarks on tables and folders, and with the classes of labelled datasets.
    Returns:
        The run's manifest.
    Raises:
        ConfigError: settings differ from those of the existing run, or the folder cannot be written.
        DataError: no usable images, or too few for the panel and a batch.
    """
    run.create()
    asked, config = config, config if panel_given else kept_panel(run, config)
    refuse_changes(run, config)
    with lasting_imports():
        from augscale.pretraining.methods import check_patients
    check_patients(config)
    cache = build_cache(config.data, allow_bad=allow_bad, on_progress=on_progress)
    config = config if panel_given else fit_panel(config, len(cache.records))
    notes = (*cache.source_notes, *fitted_words(asked, config, len(cache.records)))
    _say_all(say, notes)
    sanity = check_images(cache, allow_bad=allow_bad)
    train, held_out = checked_panel_split(cache.records, config)
    facts = data_facts(config.data, cache, sanity, len(train), len(held_out)) | {"notes": list(notes)}
    data = DataRecord.model_validate(facts)
    old = ManifestRecord.read_if_there(run.manifest_file)
    if old is not None:
        _refuse_other_images(run, old, cache)
        refuse_own_statistics(run, old, config)
    manifest = ManifestRecord(
        created=old.created if old else now(),
        statistics=old.statistics if old else COMMON,
        storage=_kept_storage(run, old.storage, storage) if old else storage.stored if storage else None,
        study_name=old.study_name if old else _study_name(config, cache),
        labelled=_labelled(run, config, old, allow_bad, on_progress, say),
        cache=str(cache.directory),
        device=device_label,
        parameters=parameters,
        initial_weights=_initial_weights(config, old),
        versions=versions(),
        data=data,
    )
    write_suspects(run.path, cache.images, [(row, kind, cache.records[row].image_id) for row, kind in sanity.worst()])
    write_text_atomic(run.study_file, study_text(config))
    manifest.write(run.manifest_file)
    return manifest


def _initial_weights(config: StudyConfig, old: ManifestRecord | None) -> str | None:
    """Where trials take their ImageNet weights from on this machine, after the places that earlier calls noted."""
    if config.backbone.init != "imagenet":
        return None
    from augscale.networks.pretrained import pretrained_source

    places = [pretrained_source(config.backbone.name)]
    if old is not None:
        if old.initial_weights is None:  # earlier trials are of a version that did not note it
            return None
        earlier = old.initial_weights.split("; ")
        places = [*earlier, *(place for place in places if place not in earlier)]
    return "; ".join(places)


def kept_panel(run: RunFolder, config: StudyConfig) -> StudyConfig:
    """The study with the number of held-out images that an existing run began with, if the study's does not fit."""
    manifest = ManifestRecord.read_if_there(run.manifest_file)
    total = manifest.data.num_images if manifest else None
    if total is None or panel_fits(config, total):
        return config
    try:
        probe = tomllib.loads(run.study_file.read_text(encoding="utf-8")).get("probe")
    except (OSError, ValueError):  # a run that `refuse_changes` refuses
        return config
    images = probe.get("images") if isinstance(probe, dict) else None
    return with_panel(config, images) if isinstance(images, int) and images >= 3 else config


def refuse_changes(run: RunFolder, config: StudyConfig) -> None:
    """Refuses settings that differ from those of an existing run.

    Raises:
        ConfigError: names them.
    """
    try:
        existing = tomllib.loads(run.study_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{run.study_file}: not a readable study ({error})") from None
    given, default = (flatten(study.model_dump(mode="json", exclude_none=True)) for study in (config, StudyConfig()))
    if changed := changes(flatten(existing), given, default, CHANGEABLE):
        raise ConfigError(
            f"{run.path} was made with other settings ({changed}); "
            "expected the same study, or another --out for a new run"
        )


def _refuse_other_images(run: RunFolder, old: ManifestRecord, cache: ImageCache) -> None:
    if old.data.fingerprint != cache.fingerprint:
        raise ConfigError(
            f"{run.path}: the images are not those this run began with (fingerprint {cache.fingerprint[:12]}, "
            f"then {old.data.fingerprint[:12]}); expected the same images or another --out"
        )


def refuse_own_statistics(run: RunFolder, manifest: ManifestRecord, config: StudyConfig) -> None:
    """Refuses a run whose trials were scored with the batch norm statistics of their own views.

    Raises:
        ConfigError: an earlier version made the run; its scores cannot be compared with new ones.
    """
    from augscale.pretraining.student_teacher import uses_common_statistics

    if manifest.statistics != COMMON and uses_common_statistics(config):
        raise ConfigError(
            f"{run.path}: its trials were scored by an earlier version, each with the batch norm statistics of its own "
            "views; expected another --out for a new search (why such scores do not compare: "
            f"{doc_pages.COMMON_STATISTICS})"
        )


def _kept_storage(run: RunFolder, old: str | None, storage: Storage | None) -> str | None:
    """The storage in the manifest of a resumed run, without the password that an earlier version wrote.

    Args:
        run: the run folder.
        old: storage in the existing manifest.
        storage: storage named by the command; None if it names none.
    Raises:
        ConfigError: the command names another storage than the run has.
    """
    known = run_storage(run, old)
    if storage is not None and storage.stored != known.stored:
        raise ConfigError(
            f"--storage {storage.shown}: {run.path} keeps its study in {known.shown}; expected that one, or another "
            "--out"
        )
    return None if old is None else known.stored


def _labelled(
    run: RunFolder,
    config: StudyConfig,
    old: ManifestRecord | None,
    allow_bad: bool,
    on_progress: OnProgress | None,
    say: Say | None,
) -> tuple[LabelledRecord, ...]:
    """Decodes the labelled datasets of the score, if any, and checks that the run began with the same ones."""
    if not config.probe.labelled:
        return ()
    from augscale.searching.labelled_score import labelled_records, open_labelled

    datasets = open_labelled(config, allow_bad=allow_bad, on_progress=on_progress)
    for dataset in datasets:
        _say_all(say, dataset.introduction())
    records = labelled_records(datasets)
    if old is not None and old.labelled not in ((), records):
        raise ConfigError(
            f"{run.path}: the labelled images of probe.labelled are not those this run began with; "
            "expected the same images, labels and splits, or another --out"
        )
    return records


def _say_all(say: Say | None, lines: Iterable[str]) -> None:
    if say is not None:
        for line in lines:
            say(line)


def _study_name(config: StudyConfig, cache: ImageCache) -> str:
    """Equal on every host that runs the same study on the same images, and different otherwise."""
    fixed = {key: value for key, value in flatten(config.model_dump(mode="json")).items() if key not in CHANGEABLE}
    digest = derive_seed(0, json.dumps(fixed, sort_keys=True), cache.fingerprint)
    return f"{config.name}-{digest:016x}"


def default_run_folder(config: StudyConfig) -> Path:
    """`runs/NAME` in the current folder, so that the same command resumes."""
    return Path("runs") / config.name
