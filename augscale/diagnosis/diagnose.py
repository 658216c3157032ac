"""`augscale.diagnose(...)`: how well checkpoints separate positive from negative pairs, and why.

All checkpoints see the same views of the same photographs, so that their numbers can be compared. By default the same
network before training is measured too, because a checkpoint has to beat it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from augscale.augmentation.scales import NONE, AugmentationScales, load_scales
from augscale.config import GreyRangeSetting, ProbeConfig
from augscale.diagnosis.checkup import examine_subjects, ladder_levels
from augscale.diagnosis.photographs import (
    CommonViews,
    ImageData,
    Levels,
    Progress,
    choose_rows,
    decode_images,
    views_for_statistics,
)
from augscale.diagnosis.result import Diagnosis
from augscale.diagnosis.subjects import Subject
from augscale.diagnosis.training_signs import trained_scales, training_signs
from augscale.errors import ConfigError
from augscale.networks.batch_norm import Choice, checked_choice, has_batch_norm, takes_common_statistics
from augscale.networks.checkpoints import LoadedCheckpoint, choices, load_checkpoints, references_of
from augscale.networks.kept_features import features_folder
from augscale.records.diagnosis import Load
from augscale.runs.folders import writable_folder

DEFAULT_SCALES = ("strong", "weak")
DEFAULT_IMAGES = 128
DEFAULT_VIEWS = 4


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
    patient_pattern: str | None = None,
    arch: str | None = None,
    key: str | None = None,
    statistics: str | None = None,
    untrained: bool = True,
    device: str = "auto",
    seed: int = 0,
    bootstrap: int = 200,
    out: str | Path | None = None,
    figures: bool = False,
    cache_root: Path | None = None,
    allow_bad: bool = False,
    unlabelled: Collection[str] = (),
    on_progress: Progress | None = None,
) -> Diagnosis:
    """Examines checkpoints on photographs.

    Args:
        checkpoints: files (ours, official DINO, DINOv2, RETFound, timm state dicts), folders of our trials,
            "timm:NAME" or "random:NAME".
        data: folder, CSV manifest or "synthetic", or several; None takes the training data of the first checkpoint if
            its sidecar names them, else the built-in photographs.
        scales: additional scales (names or cards) whose views are measured beside the fixed ladder; None: strong, weak
            and those that the checkpoints were trained with.
        images: number of photographs, taken from a study's held-out ones if the data are those of a checkpoint.
        views: number of views of each photograph at each level, at least 2.
        size: side of the views, pixels; None: each checkpoint is examined at the size that it was made for.
        crop_to_field: crop photographs to the field of view; None takes the setting of the first checkpoint's study.
        grey_range: see `data.range` of a study; None takes the setting of the first checkpoint's study.
        exclude: patterns of files to leave out, see `data.exclude` of a study; added to those of the first checkpoint's
            study if its own data are used.
        patient_pattern: takes patient ids from file names, see `data.patient_pattern` of a study, so that photographs
            of one patient are no negative pair; None takes that of the first checkpoint's study for its own data only.
        arch: timm name of the architecture, for files that do not state it.
        key: entry of a training checkpoint to use, e.g. "student"; None prefers the teacher.
        statistics: batch norm statistics: "own", or "data", gathered on photographs that are not examined; None: "data"
            for networks of augscale and untrained ones, "own" for others. If the two differ, a note says so.
        untrained: also measure each architecture with random weights.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: seed of the choice of photographs, the views, the bootstrap and the maps.
        bootstrap: resamples of patients for the intervals; 0 for none.
        out: folder for diagnosis.json, distances.npz and diagnosis.html; None writes nothing.
        figures: also write the figures as PNG files for a paper (300 dpi).
        cache_root, allow_bad: see `build_cache`; embeddings are kept in `features` of `cache_root`, too.
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
    named = {str(name): load_scales(name) for name in (DEFAULT_SCALES if scales is None else scales)}
    choice = checked_choice(statistics)
    loaded = load_checkpoints(paths, arch=arch, key=key)
    for checkpoint in loaded:
        checkpoint.backbone.check_view_size(size or checkpoint.image_size, f"{checkpoint.name}: --size")
    report = on_progress or (lambda what, done, total: None)
    decoded = decode_images(
        data,
        loaded[0].sidecar.data,
        max(size or checkpoint.image_size for checkpoint in loaded),
        crop_to_field=crop_to_field,
        grey_range=grey_range,
        exclude=exclude,
        patient_pattern=patient_pattern,
        cache_root=cache_root,
        allow_bad=allow_bad,
        unlabelled=unlabelled,
        on_progress=report,
    )
    subjects = _subjects(loaded, choice, size, untrained=untrained)
    levels, level_notes = _levels(named, subjects if scales is None else [])
    probe = ProbeConfig(images=max(3, images), views=views, bootstrap=bootstrap, seed=seed)
    kept = features_folder(cache_root)
    diagnosis = _examine(loaded, decoded, subjects, levels, level_notes, images, probe, device, kept, report)
    if folder is not None:
        report("writing the page", len(subjects), len(subjects))
        diagnosis.write(folder, figures=figures)
    return diagnosis


def _examine(
    loaded: Sequence[LoadedCheckpoint],
    decoded: ImageData,
    subjects: Sequence[Subject],
    levels: Levels,
    level_notes: Sequence[str],
    images: int,
    probe: ProbeConfig,
    device: str,
    features: Path | None,
    report: Progress,
) -> Diagnosis:
    """Chooses at most `images` photographs and examines the subjects on them."""
    rows, row_notes = choose_rows(decoded.cache, loaded, images, probe.seed)
    common, common_notes = _common(decoded, rows, loaded, subjects, probe.seed)
    return examine_subjects(
        subjects,
        np.asarray(decoded.cache.images[rows]),
        [decoded.records[row] for row in rows],
        levels,
        probe=probe,
        device=device,
        common=common,
        features=features,
        near_duplicates=decoded.near_duplicates(rows),
        facts=decoded.facts(rows),
        notes=[
            *_size_notes(subjects, decoded.cache.size),
            *choices(loaded),
            *decoded.notes,
            *row_notes,
            *level_notes,
            *common_notes,
        ],
        on_progress=report,
    )


def _check_arguments(paths: Sequence[str | Path], images: int, views: int, bootstrap: int) -> None:
    if not paths:
        raise ConfigError("diagnose: no checkpoint given; expected at least one file, folder of a trial, or timm:NAME")
    for name, value, least in (("images", images, 1), ("views", views, 2), ("bootstrap", bootstrap, 0)):
        if value < least:
            raise ConfigError(f"diagnose: {name} = {value}; expected at least {least}")


def _subjects(
    loaded: Sequence[LoadedCheckpoint], choice: Choice | None, size: int | None, *, untrained: bool
) -> list[Subject]:
    """The checkpoints, and after them the same networks before training."""
    references, names = references_of(loaded, by_size=size is None) if untrained else ([], [None] * len(loaded))
    subjects = [_subject(checkpoint, name, choice, size) for checkpoint, name in zip(loaded, names, strict=True)]
    return subjects + [_subject(checkpoint, None, choice, size) for checkpoint in references]


def _subject(checkpoint: LoadedCheckpoint, reference: str | None, choice: Choice | None, size: int | None) -> Subject:
    report = checkpoint.report
    return Subject(
        name=checkpoint.name,
        path=checkpoint.path,
        kind=checkpoint.kind,
        arch=checkpoint.arch,
        backbone=checkpoint.backbone,
        image_size=checkpoint.image_size,
        view_size=size or checkpoint.image_size,
        scales=trained_scales(checkpoint),
        load=None
        if report is None
        else Load(
            matched_share=report.matched_share,
            matched=len(report.matched),
            missing=report.missing,
            mismatched=report.mismatched,
            unexpected=report.unexpected,
        ),
        training=partial(training_signs, checkpoint),
        non_finite=checkpoint.training.non_finite,
        reference=reference,
        common_statistics=takes_common_statistics(checkpoint, choice),
    )


def _levels(named: Mapping[str, AugmentationScales], subjects: Sequence[Subject]) -> tuple[Levels, list[str]]:
    """The ladder, the named scales and those of the subjects, without repetitions; and notes for the reader."""
    levels = dict(ladder_levels())
    notes = []
    own = {f"own of {subject.name}": subject.scales for subject in subjects if subject.scales is not None}
    for name, scales in (*named.items(), *own.items()):
        if scales == NONE:
            notes.append(f"{name}: without augmentation all views of a photograph are equal; not measured")
        elif all(scales != known for _, known in levels.values()):
            levels[name] = ("scales", scales)
    return levels, notes


def _common(
    decoded: ImageData,
    rows: npt.NDArray[np.int64],
    loaded: Sequence[LoadedCheckpoint],
    subjects: Sequence[Subject],
    seed: int,
) -> tuple[CommonViews | None, list[str]]:
    """The views that batch norm statistics are gathered on, None if no network has batch norm; and a note."""
    if not any(has_batch_norm(subject.backbone) for subject in subjects):
        return None, []
    views, where = views_for_statistics(decoded.cache, rows, loaded, seed)
    gathered = ", ".join(subject.name for subject in subjects if subject.common_statistics)
    if not gathered:
        note = f"networks keep their own batch norm statistics; those of {where} are used with --statistics data"
    else:
        rest = "" if all(s.common_statistics for s in subjects) else "; the other networks keep their own"
        note = f"batch norm statistics gathered on {where} are used for {gathered}{rest}"
    return views, [note]


def _size_notes(subjects: Sequence[Subject], decoded_size: int) -> list[str]:
    """Notes on sizes that differ: between checkpoints, from the one that a network was made for, or from the images'.

    Args:
        decoded_size: side of the decoded photographs, pixels.
    """
    trained = [subject for subject in subjects if subject.kind != "untrained"]
    notes = [
        f"{subject.name}: made for {subject.image_size} px, examined at {subject.view_size} px"
        for subject in trained
        if subject.image_size != subject.view_size
    ]
    by_size: dict[int, list[str]] = {}
    for subject in trained:
        by_size.setdefault(subject.view_size, []).append(subject.name)
    if len(by_size) > 1:
        sizes = "; ".join(f"{size} px: {', '.join(names)}" for size, names in sorted(by_size.items()))
        notes.append(
            f"each checkpoint is examined at its own size ({sizes}): part of a difference between sizes can be due to "
            "the number of pixels; --size examines all at one"
        )
    for size, names in sorted(by_size.items()):
        if size > decoded_size:
            notes.append(
                f"{', '.join(names)}: the photographs are decoded at {decoded_size} px, as for the first checkpoint's "
                f"training, and enlarged to {size} px"
            )
    return notes
