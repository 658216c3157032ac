"""Examines networks on one set of photographs: embeds, measures, compares, and draws conclusions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from augscale.augmentation.scales import describe, load_scales
from augscale.config import ProbeConfig
from augscale.data.image_records import ImageRecord
from augscale.data.thumbnails import thumbnails_standardised
from augscale.diagnosis.comparisons import compare, difference, disagreements, ladder_means
from augscale.diagnosis.confusions import Confusions, correlations, find_confusions
from augscale.diagnosis.examination import examine
from augscale.diagnosis.maps import MOST_TSNE_POINTS, point_maps
from augscale.diagnosis.measure import measure_images, measure_views
from augscale.diagnosis.photographs import CommonViews, Levels, Photographs, Progress
from augscale.diagnosis.result import CheckpointDiagnosis, Diagnosis
from augscale.diagnosis.statistics_check import check_statistics, statistics_note
from augscale.diagnosis.subjects import Embedded, Embeddings, Subject, embed_photographs
from augscale.records.diagnosis import (
    LADDER,
    Confusion,
    ConfusionCounts,
    Level,
    NearDuplicate,
    PanelImage,
    StatisticsCheck,
)
from augscale.scoring.distances import distance_matrix, pair_distances, raw_distances, unit_rows
from augscale.scoring.pair_samples import positive_pairs
from augscale.system.devices import resolve_device

MOST_CONFUSED_IMAGES = 4000
"""Upper limit of photographs among which confusions are searched, because every pair of them is held in memory."""
MOST_LISTED_PAIRS = 2_000_000
"""Upper limit of negative pairs whose distances are written one by one; histograms always count all of them."""
THUMBNAIL_PX = 96


def examine_subjects(
    subjects: Sequence[Subject],
    pixels: npt.NDArray[np.uint8],
    records: Sequence[ImageRecord],
    levels: Levels,
    *,
    probe: ProbeConfig,
    device: str = "auto",
    common: CommonViews | None = None,
    features: Path | None = None,
    near_duplicates: Sequence[NearDuplicate] = (),
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> Diagnosis:
    """Embeds the same views with every subject, measures them, and draws conclusions.

    Args:
        subjects: at least one.
        pixels: uint8, shape (n, S, S, 3): the photographs.
        records: one per photograph.
        levels: see `Levels`.
        probe: views per photograph, seed, bootstrap and limits.
        device: "auto", "cpu", "cuda" or "cuda:N".
        common: see `CommonViews`; None: every network keeps its own statistics.
        features: see `embed_photographs`.
        near_duplicates, facts, notes: included in the result.
        on_progress: see `Progress`.
    """
    target = resolve_device(device)
    sizes = [subject.view_size for subject in subjects]
    photographs = Photographs(pixels=pixels, records=records, levels=levels, probe=probe, view_size=sizes[0])
    embedded = embed_photographs(
        subjects, photographs, device=target, common=common, features=features, on_progress=on_progress
    )
    found: dict[str, CheckpointDiagnosis] = {}
    thumbnails = thumbnails_standardised(pixels)
    # References first, because `examine` compares checkpoints with them.
    for done, one in enumerate(sorted(embedded, key=lambda one: one.subject.reference is not None)):
        if on_progress is not None:
            on_progress(f"measuring {one.subject.name}", done, len(embedded))
        found[one.subject.name] = _diagnose(one, photographs, found.get(one.subject.reference or ""), thumbnails)
    checkpoints = tuple(found[subject.name] for subject in subjects)
    comparisons = compare({checkpoint.name: checkpoint.ladder for checkpoint in checkpoints})
    return Diagnosis(
        seed=probe.seed,
        bootstrap=probe.bootstrap,
        view_size=sizes[0] if len(set(sizes)) == 1 else None,
        num_images=len(records),
        num_views=probe.views,
        device=target,
        data=dict(facts or {}),
        notes=(*notes, *_notes(embedded, records), *_statistics_notes(checkpoints), *disagreements(comparisons)),
        levels=tuple(
            Level(name=name, kind=kind, description=" ".join(describe(scales).split()))
            for name, (kind, scales) in levels.items()
        ),
        checkpoints=checkpoints,
        comparisons=comparisons,
        images=tuple(
            PanelImage(image_id=record.image_id, label=record.label, patient=int(group), source=record.source)
            for record, group in zip(records, photographs.groups, strict=True)
        ),
        near_duplicates=tuple(near_duplicates),
        thumbnails={row: _thumbnail(pixels[row]) for row in _shown_rows(checkpoints, len(pixels))},
    )


def ladder_levels(names: Sequence[str] = ProbeConfig().levels) -> Levels:
    """The fixed ladder in the form that `examine_subjects` takes."""
    return {name: (LADDER, load_scales(name)) for name in names}


def _diagnose(
    one: Embedded, photographs: Photographs, reference: CheckpointDiagnosis | None, thumbnails: npt.NDArray[np.float32]
) -> CheckpointDiagnosis:
    """The diagnosis of one subject.

    Args:
        one: the subject with its embeddings.
        photographs: the embedded photographs.
        reference: diagnosis of the same network before training.
        thumbnails: from `thumbnails_standardised`.
    """
    subject, probe, groups = one.subject, photographs.probe, photographs.groups
    resamples = {"bootstrap": probe.bootstrap, "seed": probe.seed}
    levels = {name: measure_views(views, groups, **resamples) for name, views in one.views.items()}
    ladder = ladder_means(levels, photographs.ladder)
    labels = np.array([record.label for record in photographs.records], dtype=object)
    images = None if one.clean is None else measure_images(one.clean, groups, labels, **resamples)
    confusions = _confusions(one, photographs)
    mildest = levels[photographs.ladder[0]].metrics["pair_auroc"].value if photographs.ladder and levels else None
    untrained_auroc = reference.ladder.get("pair_auroc") if reference else None
    return CheckpointDiagnosis(
        name=subject.name,
        path=subject.path,
        kind=subject.kind,
        arch=subject.arch,
        embed_dim=subject.backbone.embed_dim,
        num_parameters=sum(p.numel() for p in subject.backbone.parameters()),
        image_size=subject.image_size,
        view_size=subject.view_size,
        trained_with=None if subject.scales is None else " ".join(describe(subject.scales).split()),
        load=subject.load,
        batch_norm_statistics=_statistics(one, photographs),
        health=examine(
            one.clean if one.clean is not None else np.full((1, 1), np.nan),
            mildest_auroc=mildest,
            versus_untrained=difference(ladder.get("pair_auroc"), untrained_auroc),
            training=subject.training(one.clean) if subject.training and one.clean is not None else None,
            non_finite=subject.non_finite,
            trained=subject.kind != "untrained",
            probe=probe,
        ),
        levels=levels,
        ladder=ladder,
        overall=images.metrics if images else {},
        spectrum=images.spectrum if images else (),
        confused=ConfusionCounts(pairs=confusions.num_pairs, images=confusions.num_images) if confusions else None,
        confusions=_listed_confusions(confusions, thumbnails),
        maps=_maps(one, photographs),
        images=images,
        distances=_listed_distances(one.views, groups),
    )


def _confusions(one: Embedded, photographs: Photographs) -> Confusions | None:
    ladder, groups = photographs.ladder, photographs.groups
    if one.clean is None or not ladder or photographs.probe.views < 2 or len(groups) < 2:
        return None
    searched = slice(MOST_CONFUSED_IMAGES)
    return find_confusions(np.stack([one.views[name][searched] for name in ladder]), groups[searched])


def _listed_confusions(confusions: Confusions | None, thumbnails: npt.NDArray[np.float32]) -> tuple[Confusion, ...]:
    pairs = confusions.pairs if confusions else ()
    return tuple(
        pair.model_copy(update={"level": LADDER, "pixel_correlation": correlation})
        for pair, correlation in zip(pairs, correlations(thumbnails, pairs), strict=True)
    )


def _statistics(one: Embedded, photographs: Photographs) -> StatisticsCheck | None:
    if not (one.other_views and one.views):
        return None
    return check_statistics(
        "data" if one.subject.common_statistics else "own",
        {name: one.views[name] for name in photographs.ladder},
        one.other_views,
        photographs.groups,
        bootstrap=photographs.probe.bootstrap,
        seed=photographs.probe.seed,
    )


def _maps(one: Embedded, photographs: Photographs) -> dict[str, Any]:
    if one.clean is None:
        return {}
    ladder = photographs.ladder
    middle = ladder[len(ladder) // 2] if ladder else ""
    return dict(point_maps(one.clean, one.views.get(middle), middle, seed=photographs.probe.seed))


def _listed_distances(
    views: Mapping[str, Embeddings], groups: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.float32]]:
    """The distance of every pair: positive pairs image by image; negative ones unless there are too many."""
    listed: dict[str, npt.NDArray[np.float32]] = {}
    negative: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
    for name, points in views.items():
        num_images, num_views, dim = points.shape
        unit, lengths = unit_rows(points)
        rows, lengths = unit.reshape(-1, dim), lengths.reshape(-1)
        positive = positive_pairs(num_images, num_views)
        listed[f"{name}/positive"] = pair_distances(rows, positive).astype(np.float32)
        listed[f"{name}/raw_positive"] = pair_distances(points.reshape(-1, dim), positive).astype(np.float32)
        if len(rows) ** 2 <= 2 * MOST_LISTED_PAIRS:
            negative = negative or _negative_pairs(groups, num_views)
            # One product of matrices instead of a difference for each pair, with a relative error below 1e-8.
            found = distance_matrix(rows)[negative]
            left, right = (lengths[side] for side in negative)
            listed[f"{name}/negative"] = found.astype(np.float32)
            listed[f"{name}/raw_negative"] = raw_distances(np.square(found), left, right).astype(np.float32)
    return listed


def _negative_pairs(
    groups: npt.NDArray[np.int64], num_views: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Both rows of every pair of views of different groups, in the order of the upper triangle."""
    of_view = np.repeat(groups, num_views)
    first, second = np.nonzero(np.triu(of_view[:, None] != of_view[None], 1))
    return first, second


def _notes(embedded: Sequence[Embedded], records: Sequence[ImageRecord]) -> list[str]:
    notes = [f"{one.subject.name}: nothing was measured, because {one.failure}" for one in embedded if one.failure]
    if len(records) > MOST_CONFUSED_IMAGES and len(notes) < len(embedded):
        notes.append(f"confusions were searched among {MOST_CONFUSED_IMAGES} of the {len(records)} photographs")
    if len(embedded) > 1:
        notes.append(
            "verdicts hold for these checkpoints and photographs; another training seed may order them otherwise"
        )
    missing = sum(record.label is None for record in records)
    if 0 < missing < len(records):
        notes.append(f"{missing} of {len(records)} photographs have no label; metrics with labels leave them out")
    return notes


def _statistics_notes(checkpoints: Sequence[CheckpointDiagnosis]) -> list[str]:
    return [
        statistics_note(checkpoint.name, checkpoint.batch_norm_statistics)
        for checkpoint in checkpoints
        if checkpoint.batch_norm_statistics is not None and checkpoint.batch_norm_statistics.differ
    ]


def _shown_rows(checkpoints: Sequence[CheckpointDiagnosis], num_images: int) -> list[int]:
    """Rows of the photographs that a map or a confusion shows."""
    rows = set(range(min(num_images, MOST_TSNE_POINTS)))
    for checkpoint in checkpoints:
        for pair in checkpoint.confusions:
            rows |= {pair.a, pair.b}
    return sorted(rows)


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    image.save(buffer, format="JPEG", quality=80)
    return buffer.getvalue()
