"""Features of a frozen network, computed once per checkpoint and dataset and kept on disk.

Parts of 512 images are written atomically (`networks.kept_features`): a run that was killed continues with the next
part. Seeds, heads and protocols share the features, and so do all evaluations and validations that keep them in one
folder.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augscale.errors import DivergedError, Paused
from augscale.evaluation.class_tokens import embedding_and_blocks
from augscale.evaluation.interface import Encoder, Labelled, Progress
from augscale.evaluation.transforms import evaluation_views, random_crops, read_images
from augscale.networks.batch_norm import Statistics, gather, limited, use
from augscale.networks.folding import folded_on_cpu
from augscale.networks.kept_features import FeatureFolder, array_digest
from augscale.networks.precision import autocast, resolve_precision
from augscale.statistics.arrays import Floats, Floats32, Integers
from augscale.system.devices import resolve_device

PART_ROWS = 512
MOST_ON_CPU = 16
"""Images of one pass on a CPU: what is between two layers of 64 costs more time in the memory than a pass saves."""


@dataclass(frozen=True, kw_only=True)
class _View:
    """The transform through which the network sees the images."""

    view_size: int
    draw: int | None
    """Number of the random crop; None for the evaluation transform."""
    precision: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of the listed images of one split, in the order of `dataset.part(split)`.

    Attributes:
        embedding: float32, shape (N, D), output of the backbone.
        blocks: float32, shape (N, L), input of `released`, see `class_tokens.embedding_and_blocks`.
    """

    embedding: Floats32
    blocks: Floats32


@dataclass(frozen=True, kw_only=True, eq=False)
class FrozenClassifier:
    """A trained classifier on the frozen features of one network."""

    features: Callable[[Labelled, str], Features]
    """Features of a split of a dataset."""
    classify: Callable[[Features], Floats]
    """Class probabilities, float64, shape (N, K)."""
    selection: dict[str, Any]

    def predict(self, on: Labelled, split: str) -> Floats:
        return self.classify(self.features(on, split))


class FeatureStore:
    """Computes features, or reads those that were computed before.

    Args:
        folder: of the features; created when needed.
        device: "auto", "cpu", "cuda" or "cuda:N". Networks are moved there.
        precision: "fp32", "bf16" (autocast) or "auto"; features are float32 either way.
        batch_size: of the network's passes, on a CPU at most 16; does not change the result beyond rounding.
        on_progress: called after every part.
        should_stop: called before every batch.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int = 64,
        on_progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.folder = folder
        self.device = torch.device(resolve_device(device))
        self.precision = resolve_precision(precision, self.device)
        self.batch_size = min(batch_size, MOST_ON_CPU) if self.device.type == "cpu" else batch_size
        self.on_progress = on_progress
        self.should_stop = should_stop
        self._gathered: tuple[tuple[object, ...], Statistics] | None = None
        """The batch norm statistics used last, with the key of their images."""

    def evaluation(
        self,
        encoder: Encoder,
        dataset: Labelled,
        split: str,
        view_size: int,
        *,
        trained_on: Labelled | None = None,
    ) -> Features:
        """Features of a split seen through the evaluation transform.

        Args:
            trained_on: the dataset of the classifier; its training images give an encoder with `common_statistics` its
                batch norm statistics. None: `dataset`.
        Raises:
            ConfigError: the view size does not fit the network.
            CheckpointError: the features cannot be written.
            DivergedError: a feature is not finite.
            Paused: `should_stop` returned True; finished parts are kept.
        """
        view = _View(view_size=view_size, draw=None, precision=self.precision)
        columns, places = self._columns(encoder, dataset, split, view, trained_on or dataset)
        return Features(embedding=columns["embedding"][places], blocks=columns["blocks"][places])

    def crops(self, encoder: Encoder, dataset: Labelled, split: str, view_size: int, draws: int) -> Floats32:
        """Features of several random crops of each image of a split, the training data of `released`.

        Each draw has its own files, so a later call with more draws reuses them.

        Returns:
            float32, shape (draws, N, L).
        Raises:
            As `evaluation`.
        """
        crops = np.empty(0, dtype=np.float32)
        for draw in range(draws):
            view = _View(view_size=view_size, draw=draw, precision=self.precision)
            columns, places = self._columns(encoder, dataset, split, view, dataset)
            if draw == 0:
                crops = np.empty((draws, len(places), columns["blocks"].shape[1]), dtype=np.float32)
            crops[draw] = columns["blocks"][places]
        return crops

    def _columns(
        self, encoder: Encoder, dataset: Labelled, split: str, view: _View, trained_on: Labelled
    ) -> tuple[dict[str, Floats32], Integers]:
        """The features of each different image of the split, and the row of each listed image among them."""
        encoder.backbone.check_view_size(view.view_size, "view_size")
        rows, places = np.unique(dataset.rows[dataset.part(split)], return_inverse=True)
        if len(rows) == 0:
            # The features of one image give the width.
            first = self._compute(encoder, dataset, np.zeros(1, dtype=np.int64), view, trained_on)
            return {name: values[:0] for name, values in first.items()}, places
        folder = self._folder(encoder, dataset, rows, view, trained_on)
        parts = []
        for number, begin in enumerate(range(0, len(rows), PART_ROWS)):
            part = rows[begin : begin + PART_ROWS]
            columns = folder.read(number, len(part))
            if columns is None:
                columns = self._compute(encoder, dataset, part, view, trained_on)
                folder.write(number, columns)
                if self.on_progress is not None:
                    crop = "" if view.draw is None else f", crop {view.draw + 1}"
                    what = f"features of {encoder.name} on {dataset.name} ({split}{crop})"
                    self.on_progress(what, begin + len(part), len(rows))
            parts.append(columns)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, places

    def _folder(
        self, encoder: Encoder, dataset: Labelled, rows: Integers, view: _View, trained_on: Labelled
    ) -> FeatureFolder:
        facts: dict[str, Any] = {
            "weights": encoder.fingerprint,
            "structure": encoder.structure,
            "images": dataset.fingerprint,
            "image_size": int(dataset.images.shape[1]),
            "rows": array_digest(rows),
            "seen": asdict(view),
        }
        if encoder.common_statistics:
            facts["statistics"] = _statistics_key(trained_on)
        names = {"checkpoint": encoder.name, "dataset": dataset.name, "count": len(rows)}
        return FeatureFolder(self.folder, facts, self.device, names)

    def _statistics(self, encoder: Encoder, dataset: Labelled, view_size: int) -> Statistics:
        """Statistics of the training images in the evaluation transform; none for an encoder that keeps its own."""
        if not encoder.common_statistics:
            return Statistics.none()
        key = (encoder.fingerprint, *_statistics_key(dataset).values(), view_size)
        if self._gathered is None or self._gathered[0] != key:
            images = read_images(dataset.images, statistics_rows(dataset), torch.device("cpu"))
            views = evaluation_views(images, view_size)
            statistics = gather(encoder.backbone, views, device=self.device, should_stop=self.should_stop)
            self._gathered = key, statistics
        return self._gathered[1]

    def _compute(
        self, encoder: Encoder, dataset: Labelled, rows: Integers, view: _View, trained_on: Labelled
    ) -> dict[str, Floats32]:
        statistics = self._statistics(encoder, trained_on, view.view_size)
        with use(encoder.backbone.to(self.device).eval(), statistics), self._faster(encoder, dataset, rows, view):
            return self._embed(encoder, dataset, rows, view)

    def _faster(
        self, encoder: Encoder, dataset: Labelled, rows: Integers, view: _View
    ) -> AbstractContextManager[object]:
        """On a CPU, batch norm is folded into convolutions, in fp32, which changes features by rounding only."""
        image = read_images(dataset.images, rows[:1], self.device)
        return folded_on_cpu(encoder.backbone, self.device, evaluation_views(image, view.view_size))

    def _embed(self, encoder: Encoder, dataset: Labelled, rows: Integers, view: _View) -> dict[str, Floats32]:
        backbone = encoder.backbone
        embeddings, blocks = [], []
        for begin in range(0, len(rows), self.batch_size):
            if self.should_stop is not None and self.should_stop():
                raise Paused
            batch = rows[begin : begin + self.batch_size]
            images = read_images(dataset.images, batch, self.device)
            if view.draw is None:
                views = evaluation_views(images, view.view_size)
            else:
                views = random_crops(images, batch, view.draw, view.view_size)
            with torch.inference_mode(), autocast(view.precision, self.device):
                embedding, last = embedding_and_blocks(backbone, views)
            embeddings.append(embedding.cpu())
            blocks.append(last.cpu())
        columns = {"embedding": torch.cat(embeddings).numpy(), "blocks": torch.cat(blocks).numpy()}
        bad = int((~np.isfinite(columns["blocks"])).any(axis=1).sum())
        if bad:
            raise DivergedError(
                f"{encoder.name}: {bad} of {len(rows)} features on {dataset.name} are not finite; "
                "the network has diverged"
            )
        return columns if view.draw is None else {"blocks": columns["blocks"]}


def statistics_rows(dataset: Labelled) -> Integers:
    """The training images for gathering batch norm statistics, see `batch_norm.limited`.

    Returns:
        int64, rows of `dataset.images`, rising, without repeats.
    """
    return limited(dataset.rows[dataset.part("train")])


def _statistics_key(dataset: Labelled) -> dict[str, str]:
    return {"images": dataset.fingerprint, "rows": array_digest(statistics_rows(dataset))}
