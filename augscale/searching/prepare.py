"""Before a search: resolve the study, check everything that can be checked, build the cache, lay out the run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from augscale.augmentation.scales import load_scales
from augscale.config import StudyConfig, lasting_sources, study_text
from augscale.data.cache import ImageCache, build_cache
from augscale.data.facts import file_facts, file_lines
from augscale.data.sanity import check_images
from augscale.errors import ConfigError
from augscale.reporting.shared.suspects import write_suspects
from augscale.runs.files import read_json, write_json, write_text_atomic
from augscale.runs.folders import RunFolder, now, versions
from augscale.scoring.panel import checked_panel_split, panel_split
from augscale.searching.space import check_space
from augscale.searching.storage import Storage, run_storage
from augscale.seeding import derive_seed
from augscale.settings import changes, flatten
from augscale.system.startup import lasting_imports

__all__ = ["check_study", "default_run_folder", "panel_split", "prepare_run"]

COMMON = "common"
"""In a manifest's `statistics`: trials are scored with common batch norm statistics."""
CHANGEABLE = StudyConfig.FREE | {
    "search.trials",
    "search.max_failures",
    "search.keep_best",
    "search.keep_weights",
    "search.null_trials",
    "confirm.top_k",
    "confirm.seeds",
}
"""Settings that a resumed run may change: none alters a trial. Images are compared by their fingerprint."""


def check_study(config: StudyConfig) -> int:
    """Checks what needs more than the file itself: scales by name, the space, the backbone.

    Returns:
        The number of parameters of the backbone.
    Raises:
        ConfigError, CheckpointError: what is wrong, before anything is trained.
    """
    with lasting_imports():
        from augscale.networks.backbones import build_backbone, check_init

    check_space(config.space)
    for name in (*config.search.controls, *config.probe.levels, config.space.base):
        load_scales(name)
    for name in config.confirm.controls:
        if name not in config.search.controls:
            raise ConfigError(f"confirm.controls: {name!r} is not among search.controls {list(config.search.controls)}")
    check_init(config.backbone)
    # Weights are loaded by the workers; here only the architecture is checked, so that this stays quick.
    architecture = config.backbone.model_copy(update={"init": "none"})
    backbone = build_backbone(architecture, config.crops.global_size)
    if config.crops.n_local:
        backbone.check_view_size(config.crops.local_size, "crops.local_size")
    return sum(parameter.numel() for parameter in backbone.parameters())


def prepare_run(
    run: RunFolder,
    config: StudyConfig,
    *,
    storage: Storage | None,
    parameters: int,
    device_label: str,
    allow_bad: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Lays out a new run, or checks that an existing one was made with the same settings and images.

    Args:
        say: called with what is to be said of tables and folders, and with the classes of labelled datasets.
    Returns:
        The run's manifest.
    Raises:
        ConfigError: settings differ from those of the existing run, or the folder cannot be written.
        DataError: no usable images, or too few for the panel and a batch.
    """
    run.create()
    existing = _existing_study(run)
    if existing is not None:
        _refuse_changes(run, existing, config)
    cache = build_cache(config.data, allow_bad=allow_bad, on_progress=on_progress)
    _say_all(say, cache.source_notes)
    sanity = check_images(cache, allow_bad=allow_bad)
    train, held_out = checked_panel_split(cache, config)
    old = read_json(run.manifest_file)
    if old is not None and old["data"]["fingerprint"] != cache.fingerprint:
        raise ConfigError(
            f"{run.path}: the images are not those this run began with (fingerprint {cache.fingerprint[:12]}, "
            f"then {old['data']['fingerprint'][:12]}); expected the same images or another --out"
        )
    if old is not None:
        refuse_own_statistics(run, old, config)
    manifest = old or {
        "created": now(),
        "statistics": COMMON,
        # None: in the run folder, which may be moved or copied.
        "storage": storage.stored if storage else None,
        "study_name": _study_name(config, cache),
    }
    if old is not None:
        manifest["storage"] = _kept_storage(run, old, storage)
    manifest["labelled"] = _labelled(run, config, old, allow_bad, on_progress, say)
    manifest |= {
        "cache": str(cache.directory),
        "device": device_label,
        "parameters": parameters,
        "versions": versions(),
        "data": {
            "sources": lasting_sources(config.data),
            "fingerprint": cache.fingerprint,
            "ranges": cache.levels.facts(),
            "num_images": len(cache.records),
            "num_patients": len({r.patient_id for r in cache.records if r.patient_id is not None}),
            "num_train": len(train),
            "num_panel": len(held_out),
            **file_facts(cache, sanity),
            "remarks": file_lines(cache, sanity),
            "notes": list(cache.source_notes),
        },
    }
    write_suspects(run.path, cache.images, [(row, kind, cache.records[row].image_id) for row, kind in sanity.worst()])
    write_text_atomic(run.study_file, study_text(config))
    write_json(run.manifest_file, manifest)
    return manifest


def refuse_own_statistics(run: RunFolder, manifest: dict[str, Any], config: StudyConfig) -> None:
    """Refuses a run whose trials were scored with the batch norm statistics of their own views.

    Raises:
        ConfigError: it is one; its scores cannot be compared with new ones.
    """
    from augscale.pretraining.student_teacher import gathers_statistics

    if manifest.get("statistics") != COMMON and gathers_statistics(config):
        raise ConfigError(
            f"{run.path}: its trials were scored by an earlier version, each with the batch norm statistics of its own "
            "views; expected another --out for a new search (docs/score.md says why such scores do not compare)"
        )


def _kept_storage(run: RunFolder, old: dict[str, Any], storage: Storage | None) -> str | None:
    """What the manifest of a resumed run says of its storage; an earlier version wrote the password, too.

    Raises:
        ConfigError: another storage is wanted than the run has.
    """
    known = run_storage(run, old)
    if storage is not None and storage.stored != known.stored:
        raise ConfigError(
            f"--storage {storage.shown}: {run.path} keeps its study in {known.shown}; expected that one, or another "
            "--out"
        )
    return None if old["storage"] is None else known.stored


def _labelled(
    run: RunFolder,
    config: StudyConfig,
    old: dict[str, Any] | None,
    allow_bad: bool,
    on_progress: Callable[[int, int], None] | None,
    say: Callable[[str], None] | None,
) -> list[dict[str, Any]]:
    """Decodes the labelled datasets of the score, where it has some, and checks that they are those of before."""
    if not config.probe.labelled:
        return []
    from augscale.searching.labelled_score import labelled_facts, open_labelled

    datasets = open_labelled(config, allow_bad=allow_bad, on_progress=on_progress)
    for dataset in datasets:
        _say_all(say, dataset.introduction())
    facts = labelled_facts(datasets)
    if old is not None and old.get("labelled") not in (None, facts):
        raise ConfigError(
            f"{run.path}: the labelled images of probe.labelled are not those this run began with; "
            "expected the same images, labels and splits, or another --out"
        )
    return facts


def _say_all(say: Callable[[str], None] | None, lines: Iterable[str]) -> None:
    if say is not None:
        for line in lines:
            say(line)


def _study_name(config: StudyConfig, cache: ImageCache) -> str:
    """The same on every host that runs the same study on the same images; differs otherwise."""
    fixed = {key: value for key, value in flatten(config.model_dump(mode="json")).items() if key not in CHANGEABLE}
    digest = derive_seed(0, json.dumps(fixed, sort_keys=True), cache.fingerprint)
    return f"{config.name}-{digest:016x}"


def _existing_study(run: RunFolder) -> dict[str, Any] | None:
    try:
        return tomllib.loads(run.study_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{run.study_file}: not a readable study ({error})") from None


def _refuse_changes(run: RunFolder, existing: dict[str, Any], config: StudyConfig) -> None:
    given, default = (flatten(study.model_dump(mode="json", exclude_none=True)) for study in (config, StudyConfig()))
    if changed := changes(flatten(existing), given, default, CHANGEABLE):
        raise ConfigError(
            f"{run.path} was made with other settings ({changed}); "
            "expected the same study, or another --out for a new run"
        )


def default_run_folder(config: StudyConfig) -> Path:
    """`runs/NAME` in the current folder, so that the same command resumes."""
    return Path("runs") / config.name
