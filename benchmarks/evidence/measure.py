"""Everything that is measured of one network at one rung, as plain values for JSON."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.data.cache import ImageCache
from augscale.evaluation.features import FeatureStore
from augscale.evaluation.interface import Encoder
from augscale.evaluation.metrics import evaluate_scores
from augscale.evaluation.protocol_config import ProtocolConfig, ReleasedConfig
from augscale.evaluation.released import Released
from augscale.pretraining.backbones import Backbone
from augscale.pretraining.head import DINOHead
from benchmarks.evidence.baselines import colour_features, pixel_features
from benchmarks.evidence.data import (
    OutcomeData,
    Panel,
    draw_panel,
    open_labelled,
    open_outcomes,
    open_pretraining,
)
from benchmarks.evidence.layers import LAYERS, Floats32, chosen, embed_layers
from benchmarks.evidence.outcomes import Outcome, measure_outcomes
from benchmarks.evidence.scores import image_scores, level_scores, natural_scores
from benchmarks.evidence.settings import MeasureSettings

OWN = "own"
"""Level: the views that the run itself is trained on."""
CLEAN = "clean"
"""Level: the photographs as they are, one embedding each."""
NATURAL = "natural:"
"""Beginning of a level: the two eyes of a patient, e.g. natural:odir3."""
OTHER_LAYERS_LEVELS = ("strong@0.25", "strong@0.5", "strong", OWN)
"""Levels at which layers other than the embedding are scored too."""
_DRAW_SCALE = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurer:
    """What all measurements share; built once per process."""

    study: StudyConfig
    settings: MeasureSettings
    data_root: Path
    cache: ImageCache
    train_indices: npt.NDArray[np.int64]
    panel: Panel
    outcomes: dict[str, OutcomeData]

    @classmethod
    def build(cls, study: StudyConfig, settings: MeasureSettings, data_root: Path, folder: Path) -> Measurer:
        """Opens and draws everything.

        Args:
            study: its sources are the folders to pre-train on, see `data.pretraining_study`.
            folder: where rendered photographs are kept.
        """
        cache, train, panel = open_pretraining(study)
        return cls(
            study=study,
            settings=settings,
            data_root=data_root,
            cache=cache,
            train_indices=train,
            panel=panel,
            outcomes=open_outcomes(settings, data_root, folder),
        )

    def own_views(self, scales: AugmentationScales) -> Tensor:
        """Two global views of each panel photograph drawn from a run's own scales."""
        return draw_panel(self.panel.pixels, self.panel.keys, scales, self.study, OWN)

    def network(
        self, backbone: Backbone, head: DINOHead, own: Tensor | None, *, last: bool, released: bool = False
    ) -> dict[str, Any]:
        """Scores and outcomes of a network.

        Args:
            own: from `own_views`; None for a network without training.
            last: measure all datasets, with draws; else the early ones, without.
            released: run the authors' script too.
        Returns:
            scores: by layer, level and metric. outcomes: by dataset and protocol. draws: by dataset and protocol,
            AUROC times 10,000. seconds: of scores and of outcomes.
        """
        start = time.perf_counter()
        scores = self._panel_scores(backbone, head, own)
        middle = time.perf_counter()
        names = self.settings.datasets if last else self.settings.early_datasets
        found: dict[str, dict[str, Outcome]] = {}
        for name in names:
            data = self.outcomes[name]
            layers = embed_layers(backbone, head, data.images, precision=self.settings.precision)
            found[name] = measure_outcomes(chosen(layers, self.settings.features), data, self.settings, draws=last)
            if name in self.settings.natural_pairs:
                for layer, values in layers.items():
                    scores[layer][NATURAL + name] = natural_scores(values, data.groups)
        result = outcomes_json(found) | {"scores": finite(scores)}
        if released:
            for name in self.settings.released_datasets:
                result["outcomes"][name]["released"] = self.released(backbone, name)
        seconds = {"scores": middle - start, "outcomes": time.perf_counter() - middle}
        return result | {"seconds": {name: round(value, 2) for name, value in seconds.items()}}

    def images_only(self, kind: str) -> dict[str, Any]:
        """Outcomes of a baseline that needs no network: "colour", "pixels8" or "pixels16"."""
        found = {}
        for name, data in self.outcomes.items():
            images = data.images
            features = colour_features(images) if kind == "colour" else pixel_features(images, int(kind[6:]))
            found[name] = measure_outcomes(features, data, self.settings, draws=True)
        return outcomes_json(found) | {"scores": {}}

    def released(self, backbone: Backbone, name: str) -> dict[str, float]:
        """AUROC and AUPR of the authors' linear head on the test images, means over its seeds."""
        settings = self.settings
        dataset = open_labelled(name, settings, self.data_root, settings.crop_source_size)
        config = ProtocolConfig(
            view_size=settings.view_size,
            seeds=settings.released_seeds,
            released=ReleasedConfig(epochs=settings.released_epochs, draws=settings.released_draws),
        )
        encoder = Encoder(
            name="run",
            backbone=backbone,
            arch=self.study.backbone.name,
            overrides=dict(self.study.backbone.overrides),
            image_size=settings.view_size,
        )
        with tempfile.TemporaryDirectory() as folder:
            store = FeatureStore(Path(folder), device="cpu", precision=settings.precision, batch_size=128)
            protocol = Released(config, store)
            labels = dataset.labels[dataset.part("test")]
            found = []
            for seed in range(settings.released_seeds):
                scores = protocol.fit(encoder, dataset, seed=seed).predict(dataset, "test")
                found.append(evaluate_scores(labels, scores, dataset.classes).values)
        return {
            metric: round(float(np.mean([values[metric] for values in found if values[metric] is not None])), 6)
            for metric in ("auroc", "aupr")
        }

    def _panel_scores(
        self, backbone: Backbone, head: DINOHead, own: Tensor | None
    ) -> dict[str, dict[str, dict[str, float]]]:
        panel, precision = self.panel, self.settings.precision
        scores: dict[str, dict[str, dict[str, float]]] = {layer: {} for layer in LAYERS}
        for layer, values in embed_layers(backbone, head, panel.clean, precision=precision).items():
            scores[layer][CLEAN] = image_scores(values)
        for level, views in (panel.views | ({} if own is None else {OWN: own})).items():
            embedded = embed_layers(backbone, head, views.flatten(0, 1), precision=precision)
            for layer in LAYERS if level in OTHER_LAYERS_LEVELS else LAYERS[:1]:
                points: Floats32 = embedded[layer].reshape(len(views), 2, -1)
                scores[layer][level] = level_scores(points, panel.groups)
        return scores


def outcomes_json(found: dict[str, dict[str, Outcome]]) -> dict[str, Any]:
    """Outcomes and their draws as plain values."""
    outcomes: dict[str, dict[str, Any]] = {}
    draws: dict[str, dict[str, list[int]]] = {}
    for name, protocols in found.items():
        outcomes[name], draws[name] = {}, {}
        for protocol, outcome in protocols.items():
            values = {"auroc": outcome.auroc, "aupr": outcome.aupr}
            outcomes[name][protocol] = {key: round(value, 6) for key, value in values.items()}
            outcomes[name][protocol]["chosen"] = outcome.chosen
            draws[name][protocol] = np.rint(_DRAW_SCALE * outcome.draws).astype(int).tolist()
    return {"outcomes": outcomes, "draws": draws}


def finite(scores: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Six significant digits; None for what is undefined."""
    return {
        layer: {
            level: {
                metric: float(f"{value:.6g}") if math.isfinite(value) else None for metric, value in metrics.items()
            }
            for level, metrics in levels.items()
        }
        for layer, levels in scores.items()
    }


def limit_threads() -> None:
    """One torch thread: runs are spread over the cores by processes."""
    torch.set_num_threads(1)
