"""`augscale.diagnose(...)`: how positive and negative pairs lie apart in one or several checkpoints, and why.

All checkpoints see the very same views of the same photographs, level by level, so that their numbers can be compared.
Beside them stands the same network before training, unless told otherwise: what a checkpoint has to beat.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from augscale.augmentation.scales import NONE, AugmentationScales, load_scales
from augscale.config import DataConfig, GreyRangeSetting, ProbeConfig
from augscale.data.cache import ImageCache, build_cache
from augscale.data.facts import file_facts, file_lines
from augscale.data.image_records import ImageRecord
from augscale.data.labels import clean_labels
from augscale.data.sanity import Sanity, check_images
from augscale.data.splits import choose_subset, patient_groups
from augscale.diagnosis.checkup import Subject, examine_subjects, ladder_levels
from augscale.diagnosis.near_duplicates import near_duplicates
from augscale.diagnosis.result import Diagnosis
from augscale.diagnosis.training_signs import trained_scales, training_signs
from augscale.errors import ConfigError, DataError
from augscale.networks.batch_norm import Choice, checked_choice, has_batch_norm, takes_common_statistics
from augscale.networks.checkpoints import LoadedCheckpoint, choices, load_checkpoints, references_of
from augscale.networks.weights import HeldOut
from augscale.runs.folders import writable_folder
from augscale.scoring.common_views import common_rows, common_views
from augscale.scoring.panel import split_off_panel
from augscale.settings import parse_settings

DEFAULT_SCALES = ("strong", "weak")
DEFAULT_IMAGES = 128
DEFAULT_VIEWS = 4
CACHE_MARGIN = 1.15
"""Decoded images are this much larger than the views where no sidecar says otherwise."""
MIN_COMMON = 32
"""Batch norm statistics of fewer photographs are taken from the examined ones instead."""
MAX_IMAGES_SEARCHED = 20_000
"""Near-duplicates are looked for among all images up to here, beyond it only near the panel's images."""

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it is done, and how much there is."""


def diagnose(
    checkpoints: str | Path | Sequence[str | Path],
    *,
    data: str | Path | Sequence[str | Path] | None = None,
    scales: Sequence[str] | None = None,
    images: int = DEFAULT_IMAGES,
    views: int = DEFAULT_VIEWS,
    size: int | None = None,
    crop_to_field: bool | None = None,
    grey_range: GreyRangeSetting | None = None,
    exclude: Sequence[str] = (),
    arch: str | None = None,
    key: str | None = None,
    statistics: str | None = None,
    untrained: bool = True,
    device: str = "auto",
    seed: int = 0,
    bootstrap: int = 200,
    out: str | Path | None = None,
    cache_root: Path | None = None,
    allow_bad: bool = False,
    unlabelled: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Diagnosis:
    """Examines checkpoints on photographs.

    Args:
        checkpoints: files (ours, official DINO, DINOv2, RETFound, timm state dicts), folders of our trials,
            "timm:NAME" or "random:NAME".
        data: folder, CSV manifest or "synthetic", or several; None takes what the first checkpoint was trained on where
            its sidecar says so, else the built-in photographs.
        scales: further scales (names or cards) whose views are measured beside the fixed ladder; None: strong, weak and
            those that the checkpoints were trained with.
        images: photographs used; from a study's held-out ones where a checkpoint's own data are given.
        views: of each photograph at each level, at least 2.
        size: side of the views, pixels; None takes the first checkpoint's.
        crop_to_field: cut photographs to the field of view; None does as the first checkpoint's study did.
        grey_range: as `data.range` of a study; None does as the first checkpoint's study did.
        exclude: patterns of files that are not used, as `data.exclude`; those of the first checkpoint's study hold,
            too, where its own data are taken.
        arch: timm name for files that do not tell their architecture.
        key: entry of a training checkpoint to take, e.g. "student"; None prefers the teacher.
        statistics: of batch norm: "own", or "data", gathered on photographs that are not examined; None: "data" for
            networks of augscale and untrained ones, "own" for others. Where the two differ, a note says so.
        untrained: also measure each architecture with random weights.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: of the choice of photographs, the views, the bootstrap and the maps.
        bootstrap: resamples of patients for the intervals; 0 for none.
        out: folder for diagnosis.json, distances.npz, diagnosis.html and the figures; None writes nothing.
        cache_root, allow_bad: see `build_cache`.
        unlabelled: labels that mean no label, e.g. ["-1"].
        on_progress: see `Progress`.
    Raises:
        ConfigError: wrong arguments, or a size that a checkpoint cannot take.
        CheckpointError: a checkpoint cannot be used; nothing has been computed.
        DataError: the images cannot be used.
    """
    paths = [checkpoints] if isinstance(checkpoints, (str, Path)) else list(checkpoints)
    _check_arguments(paths, images, views, bootstrap)
    folder = None if out is None else writable_folder(Path(out))
    extra = {str(name): load_scales(name) for name in (DEFAULT_SCALES if scales is None else scales)}
    choice = checked_choice(statistics)
    loaded = load_checkpoints(paths, arch=arch, key=key)
    view_size = size or loaded[0].image_size
    for checkpoint in loaded:
        checkpoint.backbone.check_view_size(view_size, f"{checkpoint.name}: --size")

    config, notes = _data_config(data, loaded[0].sidecar.data, view_size, crop_to_field, grey_range, exclude)
    report = on_progress or (lambda what, done, total: None)
    cache = build_cache(
        config, cache_root=cache_root, allow_bad=allow_bad, on_progress=lambda d, t: report("decoding images", d, t)
    )
    sanity = check_images(cache, allow_bad=allow_bad)
    clean = clean_labels("diagnose", [record.label for record in cache.records], unlabelled=unlabelled)
    records = [replace(record, label=label) for record, label in zip(cache.records, clean.labels, strict=True)]
    data_notes = [*cache.levels.lines(), *file_lines(cache, sanity), *cache.source_notes, *clean.notes]
    rows, row_notes = choose_rows(cache, loaded, images, seed)
    references, own = references_of(loaded) if untrained else ([], [None] * len(loaded))
    subjects = [_subject(checkpoint, reference, choice) for checkpoint, reference in zip(loaded, own, strict=True)]
    subjects += [_subject(checkpoint, None, choice) for checkpoint in references]
    common, common_notes = _common(cache, rows, loaded, subjects, view_size, seed)
    levels, level_notes = _scale_levels(extra, subjects if scales is None else [])
    levels = ladder_levels() | levels
    diagnosis = examine_subjects(
        subjects,
        np.asarray(cache.images[rows]),
        [records[row] for row in rows],
        levels,
        probe=ProbeConfig(images=max(3, len(rows)), views=views, bootstrap=bootstrap, seed=seed),
        view_size=view_size,
        device=device,
        common=common,
        near_duplicates=_near_duplicates(cache, rows),
        facts=_data_facts(config, cache, sanity, [records[row] for row in rows]),
        notes=[
            *choices(loaded),
            *notes,
            *data_notes,
            *row_notes,
            *level_notes,
            *common_notes,
            *_size_notes(subjects, view_size),
        ],
        on_progress=report,
    )
    if folder is not None:
        diagnosis.write(folder)
    return diagnosis


def choose_rows(
    cache: ImageCache, checkpoints: Sequence[LoadedCheckpoint], num_images: int, seed: int
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Which photographs are used, and what is to be said about it.

    Those that a checkpoint of ours was not trained on, where it was trained on these very images; whole patients as far
    as the number allows.
    """
    rows = np.arange(len(cache.records))
    notes = []
    own = {held_out for c in checkpoints if (held_out := _held_out(c, cache)) is not None}
    for held_out in own:
        rows = np.intersect1d(rows, split_off_panel(cache.records, held_out.images, held_out.seed)[1])
    if own and len(rows) < 2:
        raise DataError("the checkpoints held out different photographs of these data; expected some in common")
    if own:
        notes.append("the photographs were held out: the checkpoints of these data were not trained on them")
    elif any(c.kind == "augscale" for c in checkpoints):
        notes.append(
            "the data as a whole are not those of the checkpoints: which of the photographs they were trained on is "
            "not known"
        )
    else:
        notes.append("whether the checkpoints were trained on these photographs is not known")
    records = [cache.records[row] for row in rows]
    chosen = {record.image_id for record in choose_subset(records, num_images, seed)}
    return np.array([row for row in rows if cache.records[row].image_id in chosen], dtype=np.int64), notes


def _common(
    cache: ImageCache,
    rows: npt.NDArray[np.int64],
    loaded: Sequence[LoadedCheckpoint],
    subjects: Sequence[Subject],
    view_size: int,
    seed: int,
) -> tuple[Tensor | None, list[str]]:
    """The views that batch norm's statistics are gathered on, None where no network has batch norm; and a note.

    They are of the training images of the checkpoints' own study where these are its images, then the same as in the
    search; else of photographs that are not examined, and of the examined ones where there are no others.
    """
    if not any(has_batch_norm(subject.backbone) for subject in subjects):
        return None, []
    held_out = next((found for c in loaded if (found := _held_out(c, cache)) is not None), None)
    every = np.arange(len(cache.records))
    if held_out is not None:
        candidates = split_off_panel(cache.records, held_out.images, held_out.seed)[0]
        seed = held_out.seed
    else:
        candidates = np.setdiff1d(every, rows)
    few = len(candidates) < min(MIN_COMMON, len(rows))
    chosen = common_rows(cache.records, rows if few else candidates, seed)
    where = "the examined photographs themselves" if few else f"{len(chosen)} photographs that are not examined"
    gathered = ", ".join(subject.name for subject in subjects if subject.common_statistics)
    note = f"networks keep their own batch norm statistics; those of {where} are used with --statistics data"
    if gathered:
        note = f"batch norm statistics gathered on {where} are used for {gathered}; the other networks keep their own"
    return common_views(cache.images, cache.records, chosen, seed=seed, size=view_size), [note]


def _held_out(checkpoint: LoadedCheckpoint, cache: ImageCache) -> HeldOut | None:
    """The photographs that a checkpoint trained on these data held out; None where it was trained on others."""
    return checkpoint.sidecar.held_out if checkpoint.sidecar.data_fingerprint == cache.fingerprint else None


def _check_arguments(paths: Sequence[str | Path], images: int, views: int, bootstrap: int) -> None:
    if not paths:
        raise ConfigError("diagnose: no checkpoint given; expected at least one file, folder of a trial, or timm:NAME")
    for name, value, least in (("images", images, 1), ("views", views, 2), ("bootstrap", bootstrap, 0)):
        if value < least:
            raise ConfigError(f"diagnose: {name} = {value}; expected at least {least}")


def _data_config(
    data: str | Path | Sequence[str | Path] | None,
    own: dict[str, Any],
    view_size: int,
    crop_to_field: bool | None,
    grey_range: GreyRangeSetting | None,
    exclude: Sequence[str] = (),
) -> tuple[DataConfig, list[str]]:
    """Which images are decoded how: as for the first checkpoint's training where that is known."""
    notes = []
    if data is None:
        sources = tuple(own.get("sources", ("synthetic",)))
        if not own:
            notes.append("no --data given: the built-in procedural photographs are used")
    else:
        sources = (str(data),) if isinstance(data, (str, Path)) else tuple(str(source) for source in data)
    values = own | {"sources": sources, "splits": own.get("splits") if data is None else None}
    values["exclude"] = (*(own.get("exclude", ()) if data is None else ()), *exclude)
    values.setdefault("cache_size", math.ceil(CACHE_MARGIN * view_size / 32) * 32)
    if crop_to_field is not None:
        values["crop_to_field"] = crop_to_field
    if grey_range is not None:
        values["range"] = grey_range
    return parse_settings(DataConfig, values, "data"), notes


def _subject(checkpoint: LoadedCheckpoint, reference: str | None, statistics: Choice | None) -> Subject:
    report = checkpoint.report
    load = None
    if report is not None:
        load = {
            "matched_share": report.matched_share,
            "matched": len(report.matched),
            "missing": list(report.missing),
            "mismatched": list(report.mismatched),
            "unexpected": list(report.unexpected),
        }
    return Subject(
        name=checkpoint.name,
        path=checkpoint.path,
        kind=checkpoint.kind,
        arch=checkpoint.arch,
        backbone=checkpoint.backbone,
        image_size=checkpoint.image_size,
        scales=trained_scales(checkpoint),
        load=load,
        training=partial(training_signs, checkpoint),
        non_finite=checkpoint.training.non_finite,
        reference=reference,
        common_statistics=takes_common_statistics(checkpoint, statistics),
    )


def _scale_levels(
    extra: Mapping[str, AugmentationScales], subjects: Sequence[Subject]
) -> tuple[dict[str, tuple[str, AugmentationScales]], list[str]]:
    """The named scales and the checkpoints' own, each set once: what the ladder has is not measured again."""
    known = [scales for _, scales in ladder_levels().values()]
    levels: dict[str, tuple[str, AugmentationScales]] = {}
    notes = []
    own = {f"own of {subject.name}": subject.scales for subject in subjects if subject.scales is not None}
    for name, scales in (*extra.items(), *own.items()):
        if scales == NONE:
            notes.append(f"{name}: without augmentation all views of a photograph are equal; not measured")
        elif scales not in known:
            known.append(scales)
            levels[name] = ("scales", scales)
    return levels, notes


def _near_duplicates(cache: ImageCache, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    groups = patient_groups(cache.records)
    near = None if len(cache.records) <= MAX_IMAGES_SEARCHED else rows.tolist()
    return [
        {
            "a": cache.records[pair.a].image_id,
            "b": cache.records[pair.b].image_id,
            "correlation": round(pair.correlation, 5),
            "same_patient": bool(groups[pair.a] == groups[pair.b]),
        }
        for pair in near_duplicates(cache.images, near)
    ]


def _data_facts(
    config: DataConfig, cache: ImageCache, sanity: Sanity, records: Sequence[ImageRecord]
) -> dict[str, Any]:
    labels = Counter(record.label for record in records if record.label is not None)
    return {
        "sources": list(config.sources),
        "fingerprint": cache.fingerprint,
        "ranges": cache.levels.facts(),
        "num_images": len(cache.records),
        **file_facts(cache, sanity),
        "num_patients": len(set(patient_groups(records).tolist())),
        "num_exact_duplicates": len(cache.duplicates),
        "labels": dict(sorted(labels.items())),
        "num_labelled": sum(labels.values()),
    }


def _size_notes(subjects: Sequence[Subject], view_size: int) -> list[str]:
    return [
        f"{subject.name}: made for {subject.image_size} px, examined at {view_size} px"
        for subject in subjects
        if subject.image_size != view_size and subject.kind != "untrained"
    ]
