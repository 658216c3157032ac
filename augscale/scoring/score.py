"""The score of a backbone on the probe panel, which a search maximizes and by which checkpoints are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from augscale.config import ProbeConfig
from augscale.errors import DataError
from augscale.scoring import slope_score
from augscale.scoring.embeddings import embed
from augscale.scoring.health import Health, verdict
from augscale.scoring.panel import ProbePanel
from augscale.scoring.separation import Separation, separation
from augscale.scoring.spectrum import effective_rank, feature_sd
from augscale.seeding import derive_seed
from augscale.statistics.panel_bootstrap import percentile_interval


@dataclass(frozen=True, kw_only=True)
class PanelScore:
    """The score, its parts, and the verdict on the backbone."""

    score: float
    """Mean of `score_name` over the levels; higher is better. d': unbounded, 0 if pairs do not differ; AUROC: in
    [0, 1], 0.5 if pairs do not differ; "alpha_req": see `slope_score`."""
    score_name: str
    """"dprime", "pair_auroc" or "alpha_req"; "cv-auroc" or "knn-auroc" if a score from labels replaced it."""
    interval: tuple[float, float] | None
    """95 % percentile interval over resampled patients, or None without a bootstrap."""
    levels: dict[str, Separation]
    """Separations by level, mild to strong."""
    effective_rank: float
    """RankMe of the clean embeddings, see `spectrum.effective_rank`."""
    feature_sd: float
    """Spread of the clean embeddings, see `spectrum.feature_sd`."""
    information: float | None
    """Mutual information of image and teacher output, nats, as given."""
    health: Health
    num_images: int
    num_views: int
    bootstrap_scores: npt.NDArray[np.float64] = field(repr=False, compare=False)
    """float64, shape (B,): the score of each resample; on one panel and seed, every score resamples the same images."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "score": self.score,
            "score_name": self.score_name,
            "interval": list(self.interval) if self.interval else None,
            "levels": {name: level.to_dict() for name, level in self.levels.items()},
            "effective_rank": self.effective_rank,
            "feature_sd": self.feature_sd,
            "information": self.information,
            "health": self.health.to_dict(),
            "bootstrap_scores": self.bootstrap_scores.tolist(),
            "num_images": self.num_images,
            "num_views": self.num_views,
        }


def score_backbone(
    backbone: nn.Module,
    panel: ProbePanel,
    probe: ProbeConfig,
    *,
    device: str | torch.device | None = None,
    bootstrap: int = 0,
    information: float | None = None,
    loss: float | None = None,
    chance_loss: float | None = None,
    final: bool = False,
    autocast: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> PanelScore:
    """Embeds the panel and scores it.

    Args:
        backbone: maps (B, 3, S, S) to (B, D); its mode is kept.
        panel: from `build_panel`.
        probe: name of the score, limits of the verdict, seed of the bootstrap.
        device, autocast, should_stop: see `embed`.
        bootstrap, information, loss, chance_loss, final: see `score_embeddings`.
    Raises:
        DivergedError: an embedding is not finite.
        Paused: `should_stop` returned True.
        DataError: the panel is too small to be scored.
    """
    shape = panel.views.shape[:3]
    options: dict[str, Any] = {"device": device, "autocast": autocast, "should_stop": should_stop}
    views = embed(backbone, panel.views.flatten(0, 2), **options).reshape(*shape, -1)
    clean = embed(backbone, panel.clean, **options)
    return score_embeddings(
        dict(zip(panel.level_names, views, strict=True)),
        clean,
        probe,
        groups=panel.groups,
        bootstrap=bootstrap,
        information=information,
        loss=loss,
        chance_loss=chance_loss,
        final=final,
    )


def score_embeddings(
    levels: Mapping[str, npt.ArrayLike],
    clean: npt.ArrayLike,
    probe: ProbeConfig,
    *,
    groups: npt.ArrayLike | None = None,
    bootstrap: int = 0,
    information: float | None = None,
    loss: float | None = None,
    chance_loss: float | None = None,
    final: bool = False,
) -> PanelScore:
    """Scores embeddings from any source.

    Args:
        levels: by level, float, shape (n, V, D): V views of each of n images.
        clean: float, shape (n, D): the images without augmentation, for effective rank and feature spread.
        probe: `score`, `seed` and limits of the verdict are used.
        groups: int64, shape (n,): patients; None: every image is its own.
        bootstrap: resamples of patients for the intervals; all levels share them.
        information, loss, chance_loss, final: see `health.verdict`.
    Raises:
        DataError: no levels, wrong shapes, too few images, views or patients, or values that are not finite.
    """
    if not levels:
        raise DataError("levels: none given; expected at least one array of embeddings")
    seed = derive_seed(probe.seed, "bootstrap")
    separations = {name: separation(points, groups, bootstrap=bootstrap, seed=seed) for name, points in levels.items()}
    rank, spread = effective_rank(clean), feature_sd(clean)
    first = next(iter(separations.values()))
    if probe.score == slope_score.NAME:
        points = {name: np.asarray(level, dtype=np.float64) for name, level in levels.items()}
        group_ids = np.arange(first.num_images) if groups is None else np.unique(groups, return_inverse=True)[1]
        slope = slope_score.slope_score(points, group_ids, bootstrap=bootstrap, seed=seed)
        score, name, replicates = slope.score, slope_score.NAME, slope.replicates
    else:
        name = probe.separation
        score = float(np.mean([getattr(level, name) for level in separations.values()]))
        replicates = np.mean([getattr(level, f"{name}_replicates") for level in separations.values()], axis=0)
    return PanelScore(
        score=score,
        score_name=name,
        interval=percentile_interval(replicates) if bootstrap else None,
        levels=separations,
        effective_rank=rank,
        feature_sd=spread,
        information=information,
        health=verdict(
            effective_rank=rank,
            feature_sd=spread,
            probe=probe,
            information=information,
            loss=loss,
            chance_loss=chance_loss,
            final=final,
        ),
        num_images=first.num_images,
        num_views=first.num_views,
        bootstrap_scores=replicates,
    )
