"""Everything that is measured of one network at one rung, as plain values for JSON."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.data.cache import ImageCache
from augscale.evaluation.datasets import LabelledImages
from augscale.evaluation.heads import train_heads
from augscale.evaluation.protocol_config import ReleasedConfig
from augscale.evaluation.transforms import random_crops, read_images
from augscale.networks.backbones import Backbone
from augscale.networks.batch_norm import Statistics, gather, limited, use
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.student_teacher import build_networks
from augscale.scoring.batch_norm_views import common_rows, common_views
from benchmarks.evidence.baselines import colour_features, pixel_features
from benchmarks.evidence.data import (
    OutcomeData,
    Panel,
    draw_panel,
    open_labelled,
    open_outcomes,
    open_pretraining,
)
from benchmarks.evidence.label_draws import label_scores
from benchmarks.evidence.layers import BATCH_SIZE, LAYERS, Floats32, chosen, embed_layers, embed_views, normalised
from benchmarks.evidence.outcomes import Outcome, macro_areas, measure_outcomes
from benchmarks.evidence.scores import image_scores, level_scores, natural_scores, start_scores
from benchmarks.evidence.settings import MeasureSettings

OWN = "own"
"""Level: the views that the run itself is trained on."""
CLEAN = "clean"
"""Level: the photographs as they are, one embedding each."""
NATURAL = "natural:"
"""Beginning of a level: the two eyes of a patient, e.g. natural:odir3."""
LARGE = "|large"
"""Ending of a level whose views are drawn at `large_panel_size`."""
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
    common: dict[int, Tensor]
    """What batch norm's statistics are gathered on before the panel is scored, by the side of the views."""
    outcomes: dict[str, OutcomeData]
    device: str = "cpu"
    """Where networks are trained and embedded."""
    opened: dict[str, LabelledImages] = field(default_factory=dict)
    """Datasets as `released` sees them, opened when first needed."""
    starts: dict[int, Floats32] = field(default_factory=dict)
    """Embeddings of the panel's photographs by the network before training, by seed; computed when first needed."""

    @classmethod
    def build(
        cls, study: StudyConfig, settings: MeasureSettings, data_root: Path, folder: Path, device: str = "cpu"
    ) -> Measurer:
        """Opens and draws everything.

        Args:
            study: its sources are the folders to pre-train on, see `data.pretraining_study`.
            folder: where rendered photographs are kept.
            device: "cpu" or "cuda".
        """
        cache, train, panel = open_pretraining(study, settings)
        rows, seed = common_rows(cache.records, train, study.probe.seed), study.probe.seed
        sizes = [study.crops.global_size, *([settings.large_panel_size] if settings.large_panel_size else [])]
        return cls(
            common={size: common_views(cache.images, cache.records, rows, seed=seed, size=size) for size in sizes},
            study=study,
            settings=settings,
            data_root=data_root,
            device=device,
            cache=cache,
            train_indices=train,
            panel=panel,
            outcomes=open_outcomes(settings, data_root, folder),
        )

    def own_views(self, scales: AugmentationScales) -> Tensor:
        """Two global views of each panel photograph drawn from a run's own scales."""
        size = self.study.crops.global_size
        return draw_panel(self.panel.pixels, self.panel.keys, scales, self.study, OWN, size)

    def start(self, seed: int) -> Floats32:
        """Embeddings of the panel's photographs by the network that a seed's runs begin with, float32, shape (n, D)."""
        if seed not in self.starts:
            network = build_networks(self.study, seed, torch.device(self.device))[1]
            with use(network, self._gathered(network, self.common[self.study.crops.global_size])):
                layers = embed_layers(
                    network.backbone, network.head, self.panel.clean, precision=self.settings.panel_precision
                )
            self.starts[seed] = layers["embedding"]
        return self.starts[seed]

    def network(
        self, network: HeadedNetwork, own: Tensor | None, *, seed: int, last: bool, released: bool = False
    ) -> dict[str, Any]:
        """Scores and outcomes of a network.

        Common batch norm statistics are those of the common views for the panel, and those of its training images for a
        dataset.

        Args:
            network: on `device`; its statistics are put back.
            own: from `own_views`; None for a network without training.
            seed: of the run, whose first network it is compared with.
            last: measure all datasets, with draws; else the early ones, without.
            released: run the authors' script too.
        Returns:
            scores: by layer, level and metric. outcomes: by dataset and protocol. draws: by dataset and protocol,
            AUROC times 10,000. labels: by dataset, number of labelled images and `label_draws.VALUES`, AUROC times
            10,000 of each draw; at the last rung only. seconds: of scores and of outcomes.
        """
        start = time.process_time()
        scores = self._panel_scores(network, own, self.start(seed), last=last)
        middle = time.process_time()
        names = self.settings.datasets if last else self.settings.early_datasets
        found: dict[str, dict[str, Outcome]] = {}
        heads: dict[str, dict[str, float]] = {}
        labels: dict[str, dict[int, dict[str, list[int]]]] = {}
        for name in names:
            data = self.outcomes[name]
            with self._common_statistics(network, data):
                layers = self._layers(network, data)
                if released and name in self.settings.released_datasets:
                    heads[name] = self.released(network.backbone, name, layers["embedding"])
            features = chosen(layers, self.settings.features)
            found[name] = measure_outcomes(features, data, self.settings, draws=last)
            if last and name in self.settings.label_datasets:
                judged = found[name]["cv"].scores if "cv" in found[name] else None
                labels[name] = _whole_numbers(label_scores(features, data, self.settings, judged))
            if name in self.settings.natural_pairs:
                for layer, values in layers.items():
                    scores[layer][NATURAL + name] = natural_scores(values, data.groups)
        result = outcomes_json(found) | {"scores": finite(scores), "labels": labels}
        for name, areas in heads.items():
            result["outcomes"][name]["released"] = areas
        seconds = {"scores": middle - start, "outcomes": time.process_time() - middle}
        return result | {"seconds": {name: round(value, 2) for name, value in seconds.items()}}

    def labels(self, network: HeadedNetwork) -> dict[str, dict[int, dict[str, list[int]]]]:
        """Scores of a network from few labels, as in `network`, by dataset of `label_datasets`."""
        found = {}
        for name in self.settings.label_datasets:
            data = self.outcomes[name]
            with self._common_statistics(network, data):
                features = chosen(self._layers(network, data), self.settings.features)
            found[name] = _whole_numbers(label_scores(features, data, self.settings))
        return found

    def images_only(self, kind: str) -> dict[str, Any]:
        """Outcomes of a baseline that needs no network: "colour", "pixels8" or "pixels16"."""
        found = {}
        for name, data in self.outcomes.items():
            images = data.images
            features = colour_features(images) if kind == "colour" else pixel_features(images, int(kind[6:]))
            found[name] = measure_outcomes(features, data, self.settings, draws=True)
        return outcomes_json(found) | {"scores": {}}

    def released(self, backbone: Backbone, name: str, features: Floats32) -> dict[str, float]:
        """AUROC and AUPR of the authors' linear head on the test images, means over its seeds.

        Recipe and crops are those of the protocol `released`, with fewer crops; validation and test images are seen
        whole, as by the other outcomes, where the protocol cuts out the middle.

        Args:
            features: the embeddings of the dataset's whole images, float32, shape (N, D).
        """
        settings, data = self.settings, self.outcomes[name]
        if name not in self.opened:
            self.opened[name] = open_labelled(name, settings, self.data_root, settings.crop_source_size)
        dataset = self.opened[name]
        train, val, test = (data.part(split) for split in ("train", "val", "test"))
        crops = self._crops(backbone, dataset)
        config = ReleasedConfig(epochs=settings.released_epochs, draws=settings.released_draws)
        heads = train_heads(
            crops,
            data.labels[train],
            features[val],
            data.labels[val],
            num_classes=data.num_classes,
            seeds=range(settings.released_seeds),
            config=config,
        )
        weights = np.ones((len(test), 1), np.float32)
        areas = [
            macro_areas(data.labels[test], (features[test] @ head.weight.T + head.bias).astype(np.float64), weights)
            for head in heads
        ]
        auroc, aupr = np.mean(areas, axis=(0, 2))
        return {"auroc": round(float(auroc), 6), "aupr": round(float(aupr), 6)}

    def _crops(self, backbone: Backbone, dataset: LabelledImages) -> Floats32:
        """Embeddings of random crops of the training images, shape (draws, N, D)."""
        rows = dataset.rows[dataset.part("train")]
        draws = []
        for draw in range(self.settings.released_draws):
            parts = []
            for begin in range(0, len(rows), BATCH_SIZE):
                batch = rows[begin : begin + BATCH_SIZE]
                views = random_crops(
                    read_images(dataset.images, batch, torch.device("cpu")), batch, draw, self.settings.view_size
                )
                parts.append(embed_views(backbone, views, precision=self.settings.panel_precision))
            draws.append(np.concatenate(parts))
        return np.stack(draws)

    def _gathered(self, network: HeadedNetwork, views: Tensor) -> Statistics:
        if self.settings.statistics != "common":
            return Statistics.none()
        # A plain network of the same parts: some methods' networks do not map one batch of views to one output.
        return gather(HeadedNetwork(network.backbone, network.head), views)

    def _common_statistics(self, network: HeadedNetwork, data: OutcomeData) -> AbstractContextManager[None]:
        """For the context, batch norm has the statistics of the dataset's training images."""
        return use(network, self._gathered(network, normalised(data.images[limited(data.part("train"))])))

    def _layers(self, network: HeadedNetwork, data: OutcomeData) -> dict[str, Floats32]:
        return embed_layers(network.backbone, network.head, data.images, precision=self.settings.outcome_precision)

    def _panel_scores(
        self, network: HeadedNetwork, own: Tensor | None, start: Floats32, *, last: bool
    ) -> dict[str, dict[str, dict[str, float]]]:
        panel, precision, size = self.panel, self.settings.panel_precision, self.study.crops.global_size
        backbone, head = network.backbone, network.head
        scores: dict[str, dict[str, dict[str, float]]] = {layer: {} for layer in LAYERS}
        with use(network, self._gathered(network, self.common[size])):
            for layer, values in embed_layers(backbone, head, panel.clean, precision=precision).items():
                scores[layer][CLEAN] = image_scores(values)
                if layer == "embedding":
                    scores[layer][CLEAN] |= start_scores(values, start)
            for level, views in (panel.views | ({} if own is None else {OWN: own})).items():
                embedded = embed_layers(backbone, head, views.flatten(0, 1), precision=precision)
                for layer in LAYERS if level in OTHER_LAYERS_LEVELS else LAYERS[:1]:
                    points: Floats32 = embedded[layer].reshape(len(views), 2, -1)
                    scores[layer][level] = level_scores(points, panel.groups)
        if last and self.settings.large_panel_size:
            with use(network, self._gathered(network, self.common[self.settings.large_panel_size])):
                for level, views in panel.large_views.items():
                    large = embed_layers(backbone, head, views.flatten(0, 1), precision=precision)["embedding"]
                    scores["embedding"][level + LARGE] = level_scores(large.reshape(len(views), 2, -1), panel.groups)
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


def _whole_numbers(found: dict[int, dict[str, list[float]]]) -> dict[int, dict[str, list[int]]]:
    return {
        size: {name: np.rint(_DRAW_SCALE * np.array(areas)).astype(int).tolist() for name, areas in values.items()}
        for size, values in found.items()
    }


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
