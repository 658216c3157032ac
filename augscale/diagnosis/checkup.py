"""Examines checkpoints on one panel: level by level, so that only one level's views are in memory at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from augscale.augmentation.scales import AugmentationScales, describe, load_scales
from augscale.config import ProbeConfig
from augscale.data.image_records import ImageRecord
from augscale.data.splits import patient_groups
from augscale.data.thumbnails import thumbnails_standardised
from augscale.diagnosis.checkpoint_doctor import TrainingSigns, examine
from augscale.diagnosis.confusions import Confusions, correlations, find_confusions
from augscale.diagnosis.maps import pca_map, tsne_map
from augscale.diagnosis.measure import LevelMeasures, measure_images, measure_views
from augscale.diagnosis.result import (
    CheckpointDiagnosis,
    Diagnosis,
    Level,
    Map,
    PanelImage,
    compare,
    disagreements,
    ladder_means,
)
from augscale.diagnosis.statistics_check import check_statistics
from augscale.errors import DivergedError
from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import Statistics, gather, has_batch_norm, use
from augscale.scoring.distances import pair_distances, unit_rows
from augscale.scoring.embeddings import embed
from augscale.scoring.panel import draw_views, image_keys, whole_views
from augscale.scoring.separation import positive_pairs
from augscale.statistics.measured import Measured, paired_difference
from augscale.system.devices import resolve_device

Embeddings = npt.NDArray[np.float32]

MAPPED_VIEW_IMAGES = 24
"""Photographs whose views are drawn on a map: more than some twenty colours cannot be told apart."""
MAX_MAPPED_IMAGES = 1500
MAX_CONFUSED_IMAGES = 4000
"""Confusions are looked for among so many photographs: every pair of them is held in memory."""
MAX_LISTED_PAIRS = 2_000_000
"""Negative distances are written one by one up to here; beyond it the histograms hold them all."""
THUMBNAIL_PX = 96
_CHUNK_IMAGES = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A network to examine, and what is known of it."""

    name: str
    path: str
    kind: str
    arch: str
    backbone: Backbone
    image_size: int
    scales: AugmentationScales | None = None
    """Those it was trained with."""
    load: Mapping[str, Any] | None = None
    training: Callable[[Embeddings], TrainingSigns | None] | None = None
    """What is known of its training, given its embeddings of the photographs."""
    non_finite: tuple[str, ...] = ()
    reference: str | None = None
    """Name of the subject that is this network before training."""
    common_statistics: bool = False
    """Whether it is measured with batch norm statistics gathered on `common` instead of its own."""


@dataclass(kw_only=True)
class _Seen:
    """What a subject made of the panel; `clean` is None where nothing could be embedded."""

    clean: Embeddings | None = None
    reason: str = ""
    views: dict[str, Embeddings] = field(default_factory=dict)
    other_views: dict[str, Embeddings] = field(default_factory=dict)
    """Of the ladder, with the batch norm statistics that are not used; {} where there are none to compare."""
    levels: dict[str, LevelMeasures] = field(default_factory=dict)
    used: Statistics = field(default_factory=Statistics.none)
    other: Statistics | None = None
    """None where the checkpoint has one kind of statistics only."""


def examine_subjects(
    subjects: Sequence[Subject],
    pixels: npt.NDArray[np.uint8],
    records: Sequence[ImageRecord],
    levels: Mapping[str, tuple[str, AugmentationScales]],
    *,
    probe: ProbeConfig,
    view_size: int,
    device: str = "auto",
    common: torch.Tensor | None = None,
    near_duplicates: Sequence[Mapping[str, Any]] = (),
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Diagnosis:
    """Embeds the same views with every subject, measures them, and draws conclusions.

    Args:
        subjects: at least one; all can take views of `view_size`.
        pixels: uint8, shape (n, S, S, 3): the photographs.
        records: what they are, one each.
        levels: by name: "ladder" or "scales", and the scales to draw views from; the ladder from mild to strong.
        probe: views per photograph, seed, bootstrap and limits.
        view_size: pixels.
        device: "auto", "cpu", "cuda" or "cuda:N".
        common: float32, shape (N, 3, S, S): views that batch norm's statistics are gathered on, see `common_views`;
            None: every network keeps its own.
        near_duplicates, facts, notes: go into the result as they are.
        on_progress: called with (what, views done, views in all).
    """
    target = resolve_device(device)
    groups = patient_groups(records)
    keys = image_keys(records)
    seen = [_Seen() for _ in subjects]
    for subject, own in zip(subjects, seen, strict=True):
        own.reason = "its weights hold NaN or inf" if subject.non_finite else ""
        if not own.reason and common is not None:
            _choose_statistics(subject, own, common, target)
    ladder = [name for name, (kind, _) in levels.items() if kind == "ladder"]
    twice = sum(own.other is not None for own in seen)
    views_in_all = len(subjects) * (1 + probe.views * len(levels)) + twice * probe.views * len(ladder)
    report = _counter(on_progress, len(pixels) * views_in_all)

    def embed_all(draw: Callable[[slice], torch.Tensor]) -> Iterator[tuple[_Seen, Embeddings]]:
        return _embed_chunks(subjects, seen, len(pixels), draw, target, report)

    for own, clean in embed_all(lambda part: whole_views(torch.from_numpy(pixels[part]), view_size)):
        own.clean = clean
    for name, (_, scales) in levels.items():
        # The ladder's views are those of a search's panel.
        level = ladder.index(name) if name in ladder else name
        draw = partial(_draw_part, pixels, keys, scales, probe, level, view_size)
        for own, views in embed_all(draw):
            own.views[name] = views
            own.levels[name] = measure_views(views, groups, bootstrap=probe.bootstrap, seed=probe.seed)
        compared = [place for place, own in enumerate(seen) if own.other is not None and name in ladder]
        if compared:
            # Only the separation is measured with the other statistics.
            for own, views in _embed_chunks(
                [subjects[place] for place in compared],
                [seen[place] for place in compared],
                len(pixels),
                draw,
                target,
                report,
                other=True,
            ):
                own.other_views[name] = views
    for own in seen:
        if own.reason:
            # What diverges under some views is not reported under the others either.
            own.clean, own.views, own.levels = None, {}, {}
    labels = _labels(records)
    thumbs = thumbnails_standardised(pixels)
    results: dict[str, CheckpointDiagnosis] = {}
    # References first: what a checkpoint is compared with must be there.
    for subject, own in sorted(zip(subjects, seen, strict=True), key=lambda pair: pair[0].reference is not None):
        results[subject.name] = _conclude(subject, own, results, groups, labels, ladder, thumbs, probe)
    checkpoints = tuple(results[subject.name] for subject in subjects)
    comparisons = compare(checkpoints)
    return Diagnosis(
        checkpoints=checkpoints,
        comparisons=comparisons,
        levels=tuple(
            Level(name=name, kind=kind, description=" ".join(describe(scales).split()))
            for name, (kind, scales) in levels.items()
        ),
        images=tuple(
            PanelImage(image_id=r.image_id, label=r.label, patient=int(g), source=r.source)
            for r, g in zip(records, groups, strict=True)
        ),
        near_duplicates=tuple(near_duplicates),
        notes=(*notes, *_notes(subjects, seen, labels), *_statistics_notes(checkpoints), *disagreements(comparisons)),
        data=dict(facts or {}),
        view_size=view_size,
        num_views=probe.views,
        seed=probe.seed,
        bootstrap=probe.bootstrap,
        device=target,
        thumbnails={row: _thumbnail(pixels[row]) for row in _shown_rows(checkpoints, len(pixels))},
    )


def ladder_levels(names: Sequence[str] = ProbeConfig().levels) -> dict[str, tuple[str, AugmentationScales]]:
    """The fixed ladder in the form that `examine_subjects` takes."""
    return {name: ("ladder", load_scales(name)) for name in names}


def _counter(on_progress: Callable[[str, int, int], None] | None, total: int) -> Callable[[int], None]:
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress("embedding views", done, total)

    return report


def _embed_chunks(
    subjects: Sequence[Subject],
    seen: Sequence[_Seen],
    num_images: int,
    draw: Callable[[slice], torch.Tensor],
    device: str,
    report: Callable[[int], None],
    other: bool = False,
) -> Iterator[tuple[_Seen, Embeddings]]:
    """Embeds with every subject what `draw` makes of some images at a time: never are all views in memory.

    Args:
        seen: of the subjects; one with a reason is passed over, and one that diverges is given its reason.
        draw: of a slice of the images, their views (B, 3, S, S) or (B, V, 3, S, S).
        other: with the batch norm statistics that are not used.
    Returns:
        For each subject that embedded all, its embeddings (n, D) or (n, V, D).
    """
    parts: list[list[Embeddings]] = [[] for _ in subjects]
    for begin in range(0, num_images, _CHUNK_IMAGES):
        views = draw(slice(begin, begin + _CHUNK_IMAGES))
        for subject, own, found in zip(subjects, seen, parts, strict=True):
            if not own.reason:
                try:
                    statistics = own.other if other and own.other is not None else own.used
                    with use(subject.backbone, statistics):
                        flat = embed(subject.backbone, views.flatten(0, -4), device=device)
                    found.append(flat.reshape(*views.shape[:-3], -1))
                except DivergedError as error:
                    own.reason = str(error)
            report(views.shape[:-3].numel())
    for own, found in zip(seen, parts, strict=True):
        if not own.reason:
            yield own, np.concatenate(found)


def _choose_statistics(subject: Subject, own: _Seen, common: torch.Tensor, device: str) -> None:
    """Gathers a subject's batch norm statistics where it has any, and decides which are used."""
    if not has_batch_norm(subject.backbone):
        return
    try:
        gathered = gather(subject.backbone, common, device=device)
    except DivergedError as error:
        own.reason = str(error)
        return
    if subject.common_statistics:
        # An untrained network has no statistics of its own.
        own.used, own.other = gathered, None if subject.kind == "untrained" else Statistics.none()
    else:
        own.other = gathered


def _draw_part(
    pixels: npt.NDArray[np.uint8],
    keys: npt.NDArray[np.int64],
    scales: AugmentationScales,
    probe: ProbeConfig,
    level: int | str,
    size: int,
    part: slice,
) -> torch.Tensor:
    return draw_views(torch.from_numpy(pixels[part]), keys[part], scales, probe, level, size)


def _shown_rows(checkpoints: Sequence[CheckpointDiagnosis], num_images: int) -> list[int]:
    """Photographs that a map or a confusion shows."""
    rows = set(range(min(num_images, MAX_MAPPED_IMAGES)))
    for checkpoint in checkpoints:
        for pair in checkpoint.confusions.pairs if checkpoint.confusions else ():
            rows |= {pair.a, pair.b}
    return sorted(rows)


def _labels(records: Sequence[ImageRecord]) -> npt.NDArray[np.object_] | None:
    labels = np.array([record.label for record in records], dtype=object)
    return labels if any(label is not None for label in labels) else None


def _conclude(
    subject: Subject,
    own: _Seen,
    results: Mapping[str, CheckpointDiagnosis],
    groups: npt.NDArray[np.int64],
    labels: npt.NDArray[np.object_] | None,
    ladder: list[str],
    thumbs: npt.NDArray[np.float32],
    probe: ProbeConfig,
) -> CheckpointDiagnosis:
    means = ladder_means(own.levels, ladder)
    reference = results.get(subject.reference or "")
    confusions: Confusions | None = None
    if own.clean is not None and ladder and probe.views > 1 and len(groups) > 1:
        searched = slice(MAX_CONFUSED_IMAGES)
        confusions = find_confusions(np.stack([own.views[name][searched] for name in ladder]), groups[searched])
    mildest = own.levels[ladder[0]].metrics["pair_auroc"].value if ladder and own.levels else None
    return CheckpointDiagnosis(
        name=subject.name,
        path=subject.path,
        kind=subject.kind,
        arch=subject.arch,
        embed_dim=subject.backbone.embed_dim,
        num_parameters=sum(p.numel() for p in subject.backbone.parameters()),
        image_size=subject.image_size,
        trained_with=None if subject.scales is None else " ".join(describe(subject.scales).split()),
        load=subject.load,
        examination=examine(
            own.clean if own.clean is not None else np.full((1, 1), np.nan),
            mildest_auroc=mildest,
            versus_untrained=_versus(means, reference),
            training=subject.training(own.clean) if subject.training and own.clean is not None else None,
            non_finite=subject.non_finite,
            trained=subject.kind != "untrained",
            probe=probe,
        ),
        levels=own.levels,
        ladder=means,
        images=None
        if own.clean is None
        else measure_images(own.clean, groups, labels, bootstrap=probe.bootstrap, seed=probe.seed),
        confusions=confusions,
        confused_as_copies=tuple(correlations(thumbs, confusions.pairs)) if confusions else (),
        statistics=None
        if not (own.other_views and own.views)
        else check_statistics(
            "data" if subject.common_statistics else "own",
            {name: own.views[name] for name in ladder},
            own.other_views,
            groups,
            bootstrap=probe.bootstrap,
            seed=probe.seed,
        ),
        maps=_maps(own, ladder, probe.seed) if own.clean is not None else {},
        distances=_listed_distances(own.views, groups),
    )


def _versus(means: Mapping[str, Measured], reference: CheckpointDiagnosis | None) -> tuple[float, float, float] | None:
    """Pair AUROC over the ladder minus that of the network before training, and the interval."""
    mine, its = means.get("pair_auroc"), reference.ladder.get("pair_auroc") if reference else None
    if mine is None or its is None or mine.value is None or its.value is None:
        return None
    interval = paired_difference(mine, its)
    return None if interval is None else (mine.value - its.value, *interval)


def _maps(own: _Seen, ladder: list[str], seed: int) -> dict[str, Map]:
    """Views of some photographs, after the paper's Figure 2(b), at the middle of the ladder; and all photographs."""
    assert own.clean is not None
    maps = {}
    rows = np.arange(min(len(own.clean), MAX_MAPPED_IMAGES))
    draws: dict[str, Callable[[Embeddings], Embeddings]] = {"tsne": partial(tsne_map, seed=seed), "pca": pca_map}
    for name, draw in draws.items():
        maps[f"images_{name}"] = Map(xy=draw(own.clean[rows]), image=rows, level=None)
        if ladder:
            level = ladder[len(ladder) // 2]
            views = own.views[level][:MAPPED_VIEW_IMAGES]
            image = np.repeat(np.arange(len(views)), views.shape[1])
            maps[f"views_{name}"] = Map(xy=draw(views.reshape(len(image), -1)), image=image, level=level)
    return maps


def _listed_distances(
    views: Mapping[str, Embeddings], groups: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[np.float32]]:
    """Every pair's distance, positive pairs image by image, negative ones as far as they are not too many."""
    listed: dict[str, npt.NDArray[np.float32]] = {}
    for name, points in views.items():
        num_images, num_views, dim = points.shape
        pairs = {"positive": positive_pairs(num_images, num_views)}
        if (num_images * num_views) ** 2 <= 2 * MAX_LISTED_PAIRS:
            left, right = np.triu_indices(num_images * num_views, 1)
            negative = groups[left // num_views] != groups[right // num_views]
            pairs["negative"] = np.stack([left[negative], right[negative]], axis=1)
        flat = {"": unit_rows(points)[0].reshape(-1, dim), "raw_": points.reshape(-1, dim).astype(np.float64)}
        for prefix, rows in flat.items():
            for which, listing in pairs.items():
                listed[f"{name}/{prefix}{which}"] = pair_distances(rows, listing).astype(np.float32)
    return listed


def _statistics_notes(checkpoints: Sequence[CheckpointDiagnosis]) -> list[str]:
    return [
        checkpoint.statistics.note(checkpoint.name)
        for checkpoint in checkpoints
        if checkpoint.statistics is not None and checkpoint.statistics.differ
    ]


def _notes(subjects: Sequence[Subject], seen: Sequence[_Seen], labels: npt.NDArray[np.object_] | None) -> list[str]:
    num_images = max((len(own.clean) for own in seen if own.clean is not None), default=0)
    notes = [
        f"{subject.name}: nothing was measured, because {own.reason}"
        for subject, own in zip(subjects, seen, strict=True)
        if own.clean is None
    ]
    if num_images > MAX_CONFUSED_IMAGES:
        notes.append(f"confusions were looked for among {MAX_CONFUSED_IMAGES} of the {num_images} photographs")
    if labels is not None and (missing := sum(label is None for label in labels)):
        notes.append(f"{missing} of {len(labels)} photographs have no label; metrics with labels leave them out")
    return notes


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    image.save(buffer, format="JPEG", quality=80)
    return buffer.getvalue()
