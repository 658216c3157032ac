"""The networks of a diagnosis, and their embeddings of the same views."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.diagnosis.examination import TrainingSigns
from augscale.diagnosis.kept_embeddings import KeptEmbeddings
from augscale.diagnosis.photographs import CommonViews, Photographs, Progress
from augscale.errors import DivergedError
from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import Statistics, gather, has_batch_norm, use
from augscale.networks.folding import folded_on_cpu
from augscale.records.diagnosis import Load
from augscale.scoring.embeddings import embed

Embeddings = npt.NDArray[np.float32]
CHUNK_IMAGES = 64
"""Number of photographs whose views are in memory at a time."""
BATCH_VIEWS = {"cpu": 32, "cuda": 256}
"""Views of one pass: on a CPU few enough that what is between two layers stays small."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A network to examine, with the facts that its file gives."""

    name: str
    path: str
    kind: str
    arch: str
    backbone: Backbone
    image_size: int
    """Side of the images that the network was made for, pixels."""
    view_size: int
    """Side of the views that it is examined with, pixels."""
    scales: AugmentationScales | None = None
    """Scales that the network was trained with."""
    load: Load | None = None
    training: Callable[[Embeddings], TrainingSigns | None] | None = None
    """Returns facts on the training, given the network's embeddings of the photographs."""
    non_finite: tuple[str, ...] = ()
    """Names of weights that hold NaN or inf."""
    reference: str | None = None
    """Name of the subject that is this network before training."""
    common_statistics: bool = False
    """True to use batch norm statistics gathered on common views instead of the network's own."""


@dataclass(kw_only=True)
class Embedded:
    """The embeddings of one subject."""

    subject: Subject
    failure: str = ""
    """The reason why nothing could be embedded; empty on success."""
    clean: Embeddings | None = None
    """Shape (n, D): the photographs without augmentation; None after a failure."""
    views: dict[str, Embeddings] = field(default_factory=dict)
    """Views by level, shape (n, V, D)."""
    other_views: dict[str, Embeddings] = field(default_factory=dict)
    """The ladder's views, embedded with the other kind of batch norm statistics; {} if there is only one kind."""
    used: Statistics = field(default_factory=Statistics.none)
    other: Statistics | None = None
    """The other kind of batch norm statistics, for comparison."""

    def statistics(self, other: bool = False) -> Statistics:
        """The batch norm statistics in use, or the other kind, if there is one."""
        return self.other if other and self.other is not None else self.used


def embed_photographs(
    subjects: Sequence[Subject],
    photographs: Photographs,
    *,
    device: str,
    common: CommonViews | None = None,
    features: Path | None = None,
    on_progress: Progress | None = None,
) -> list[Embedded]:
    """Embeds the same views with every subject, each at the subject's own size.

    Args:
        subjects: at least one.
        photographs: at least one.
        device: "cpu", "cuda" or "cuda:N".
        common: see `CommonViews`; None: every network keeps its own statistics.
        features: folder of kept embeddings, see `features_folder`; None: all are computed, and none is kept.
        on_progress: see `Progress`.
    Returns:
        One entry per subject, in their order.
    """
    found = [_with_statistics(subject, common, device) for subject in subjects]
    by_size: dict[int, list[Embedded]] = {}
    for one in found:
        by_size.setdefault(one.subject.view_size, []).append(one)
    twice = sum(one.other is not None for one in found)
    num_views, ladder = photographs.probe.views, photographs.ladder
    total = len(subjects) * (1 + num_views * len(photographs.levels)) + twice * num_views * len(ladder)
    report = _counter(on_progress, len(photographs.pixels) * total)
    kept = KeptEmbeddings(features, photographs, device)
    run = partial(_embed_all, kept=kept, device=device, report=report)
    for size, group in by_size.items():
        sized = photographs.at(size)
        for one, clean in run(group, sized, None):
            one.clean = clean
        for level in photographs.levels:
            for one, views in run(group, sized, level):
                one.views[level] = views
            compared = [one for one in group if one.other is not None and level in ladder]
            for one, views in run(compared, sized, level, other=True):
                one.other_views[level] = views
    for one in found:
        if one.failure:
            # A network that diverges at one level is not reported at any level.
            one.clean, one.views = None, {}
    return found


def _with_statistics(subject: Subject, common: CommonViews | None, device: str) -> Embedded:
    """Gathers batch norm statistics if the subject has batch norm, and decides which kind is used."""
    if subject.non_finite:
        return Embedded(subject=subject, failure="its weights hold NaN or inf")
    if common is None or not has_batch_norm(subject.backbone):
        return Embedded(subject=subject)
    try:
        gathered = gather(subject.backbone, common(subject.view_size), device=device)
    except DivergedError as error:
        return Embedded(subject=subject, failure=str(error))
    if not subject.common_statistics:
        return Embedded(subject=subject, other=gathered)
    # An untrained network has no statistics of its own.
    return Embedded(subject=subject, used=gathered, other=None if subject.kind == "untrained" else Statistics.none())


def _embed_all(
    found: Sequence[Embedded],
    photographs: Photographs,
    level: str | None,
    *,
    kept: KeptEmbeddings,
    device: str,
    report: Callable[[int], None],
    other: bool = False,
) -> Iterator[tuple[Embedded, Embeddings]]:
    """Embeds the photographs, or their views at a level, with every subject that has no kept embeddings of them.

    Args:
        found: subjects; those with a failure are skipped, and one that diverges gets a failure.
        photographs: of the subjects' view size.
        level: None for the photographs without augmentation.
        other: embed with the other kind of batch norm statistics.
    Returns:
        Each subject that embedded all photographs, with its embeddings (n, D) or (n, V, D).
    """
    sound = [one for one in found if not one.failure]
    where = [(one.subject.backbone, one.statistics(other), photographs.view_size, level) for one in sound]
    known = [kept.read(*place) for place in where]
    fresh = iter(_embed_chunks([one for one, old in zip(sound, known, strict=True) if old is None],
                               photographs, level, device, report, other))  # fmt: skip
    for one, place, old in zip(sound, where, known, strict=True):
        embedded = next(fresh) if old is None else old
        if old is not None:
            report(old[..., 0].size)
        elif embedded is not None:
            kept.write(*place, embedded)
        if embedded is not None:
            yield one, embedded


def _embed_chunks(
    found: Sequence[Embedded],
    photographs: Photographs,
    level: str | None,
    device: str,
    report: Callable[[int], None],
    other: bool,
) -> list[Embeddings | None]:
    """Embeds `CHUNK_IMAGES` photographs at a time with every subject; None for a subject that diverges."""
    parts: list[list[Embeddings]] = [[] for _ in found]
    for begin in range(0, len(photographs.pixels), CHUNK_IMAGES) if found else ():
        part = slice(begin, begin + CHUNK_IMAGES)
        views = photographs.whole(part) if level is None else photographs.views(level, part)
        for one, embedded in zip(found, parts, strict=True):
            if not one.failure:
                try:
                    flat = _embed_views(one.subject.backbone, one.statistics(other), views.flatten(0, -4), device)
                    embedded.append(flat.reshape(*views.shape[:-3], -1))
                except DivergedError as error:
                    one.failure = str(error)
            report(views.shape[:-3].numel())
    return [None if one.failure else np.concatenate(part) for one, part in zip(found, parts, strict=True)]


def _embed_views(backbone: Backbone, statistics: Statistics, views: Tensor, device: str) -> Embeddings:
    """Embeds views (N, 3, S, S) in fp32; on a CPU batch norm is folded, which changes embeddings by rounding only."""
    batch_size = BATCH_VIEWS[torch.device(device).type]
    backbone.to(device).eval()
    with use(backbone, statistics), folded_on_cpu(backbone, device, views[:1]):
        return embed(backbone, views, batch_size=batch_size, device=device)


def _counter(on_progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress("embedding views", done, total)

    return report
