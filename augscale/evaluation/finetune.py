"""Protocol `finetune`: trains the whole network by RETFound's recipe, whose parts are in `finetune_recipe`.

It departs from the recipe in two ways besides the input of the head. The seed also decides the order of the images
(RETFound's sampler has a seed of its own), so that the spread over seeds covers it. A training set smaller than a batch
is one batch (RETFound drops incomplete batches and would not train). Every random number is a function of (seed,
epoch), so a run that was killed continues after its last finished epoch and, on a CPU, ends bit for bit like an
uninterrupted one.

The state of a run is one file, written whole after every epoch and read as data only.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, DivergedError, Paused
from augscale.evaluation.finetune_recipe import AugmentedImages, Classifier, learning_rate, parameter_groups
from augscale.evaluation.interface import Encoder, Labelled, Progress, check_trainable, dataset_digest, softmax
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.selection import retfound_score
from augscale.evaluation.transforms import evaluation_views, read_images
from augscale.networks.backbones import build_backbone
from augscale.networks.precision import autocast, resolve_precision
from augscale.runs.files import write_atomic
from augscale.seeding import derive_seed
from augscale.statistics.arrays import Floats
from augscale.system.devices import resolve_device

_DIGEST_BYTES = 16
_FORMAT = 1
_PREDICT_IMAGES = 64
"""Batch size of predictions."""


class Finetune:
    """The protocol.

    Args:
        folder: of the states, `<key>/seed-N.pt`. Each is as large as four copies of the network during training and
            as one afterwards.
        on_progress: called after every epoch.
        should_stop: called before every step.
    """

    name = "finetune"
    seeds_matter = True

    def __init__(
        self,
        config: ProtocolConfig,
        folder: Path,
        *,
        device: str = "auto",
        on_progress: Progress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.device = torch.device(resolve_device(device))
        self.precision = resolve_precision(config.finetune.precision, self.device)
        self.on_progress = on_progress
        self.should_stop = should_stop

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> FittedFinetune:
        """Trains, or continues an interrupted run with the same settings.

        Raises:
            ConfigError: the view size does not fit the network.
            DataError: no training images, or all of one class.
            CheckpointError: the state cannot be written or read; the state of the epoch before is intact.
            DivergedError: the loss is no longer finite.
            Paused: `should_stop` returned True; at most one epoch is lost.
        """
        check_trainable(self.name, train_on)
        network.backbone.check_view_size(self.config.view_size, "view_size")
        with _generators_kept(self.device):  # layers draw their first weights, which are then replaced
            run = _Run(self, network, train_on, seed)
        run.resume()
        while run.epoch < self.config.finetune.epochs:
            run.train_epoch()
            run.validate()
            run.save()
            if self.on_progress is not None:
                what = f"fine-tuning {network.name} on {train_on.name}, seed {seed}"
                self.on_progress(what, run.epoch, self.config.finetune.epochs)
        run.network.load_state_dict(run.best)
        return run.fitted()

    def state_path(self, network: Encoder, train_on: Labelled, seed: int) -> Path:
        """The file of one run. It depends on everything that changes the result, so not on the number of workers."""
        facts = {
            "weights": network.fingerprint,
            "dataset": dataset_digest(train_on),
            "view_size": self.config.view_size,
            "recipe": self.config.finetune.model_dump(exclude={"workers", "precision"}),
            "precision": self.precision,
        }
        key = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=_DIGEST_BYTES).hexdigest()
        return self.folder / key / f"seed-{seed}.pt"


class _Run:
    """The network, the optimizer and the state that is kept from epoch to epoch."""

    def __init__(self, protocol: Finetune, encoder: Encoder, dataset: Labelled, seed: int) -> None:
        self.protocol = protocol
        self.recipe = protocol.config.finetune
        self.view_size = protocol.config.view_size
        self.encoder = encoder
        self.dataset = dataset
        self.seed = seed
        self.device = protocol.device
        self.path = protocol.state_path(encoder, dataset, seed)
        self.key = f"{self.path.parent.name} {seed}"
        self.network = _classifier(encoder, dataset, self.view_size, self.recipe.drop_path, seed).to(self.device)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.network, self.recipe), lr=0.0, fused=True)
        part = dataset.part("train")
        self.images = AugmentedImages(dataset.images, dataset.rows[part], dataset.labels[part], self.view_size, seed)
        self.batch_size = min(self.recipe.batch_size, len(part))
        self.epoch = 0
        self.best: dict[str, Tensor] = {}
        self.meta: dict[str, Any] = {"best_epoch": 0, "best_score": None, "losses": [], "scores": [], "seconds": 0.0}
        self.started = time.monotonic()

    def resume(self) -> None:
        """Reads the state of an earlier run, if there is one.

        Raises:
            CheckpointError: damaged, or not of this run.
        """
        if not self.path.exists():
            return
        remedy = "remove it to start from the first epoch"
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            same = state["format"] == _FORMAT and state["key"] == self.key
            self.epoch, self.best, self.meta = state["epoch"], state["best"], state["meta"]
            network, optimizer = state["network"], state["optimizer"]
        except Exception:
            raise CheckpointError(f"{self.path}: damaged, or not the state of a fine-tuning; {remedy}") from None
        if not same:
            raise CheckpointError(f"{self.path}: was saved by a run with other settings, weights or images; {remedy}")
        if network is not None:
            self.network.load_state_dict(network)
            self.optimizer.load_state_dict(optimizer)

    def train_epoch(self) -> None:
        """One pass over the training images.

        Raises:
            Paused: `should_stop` returned True; the epoch is lost.
            DivergedError: its mean loss is not finite.
        """
        self.network.train()
        total = torch.zeros((), device=self.device)
        with _generators_kept(self.device):
            steps = len(self.images) // self.batch_size
            for step, (x, targets) in enumerate(self._batches()):
                if self.protocol.should_stop is not None and self.protocol.should_stop():
                    raise Paused
                rate = learning_rate(self.epoch + step / steps, self.recipe, self.batch_size)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate * group["lr_scale"]
                torch.manual_seed(derive_seed(self.seed, "drop-path", self.epoch, step))
                with autocast(self.protocol.precision, self.device):
                    logits = self.network(x.to(self.device, non_blocking=True))
                loss = F.cross_entropy(logits.float(), targets.to(self.device, non_blocking=True))
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
                total += loss.detach()
        self.epoch += 1
        mean = float(total) / steps
        if not math.isfinite(mean):
            raise DivergedError(
                f"loss is {mean} in epoch {self.epoch} of fine-tuning {self.encoder.name} on {self.dataset.name}, "
                f"seed {self.seed} (lr {rate:.1e})"
            )
        self.meta["losses"].append(mean)

    def validate(self) -> None:
        """Keeps the weights of the first epoch with the best score, or of the last epoch if no score is defined."""
        labels = self.dataset.labels[self.dataset.part("val")]
        score = retfound_score(labels, self.fitted().predict(self.dataset, "val"))
        self.meta["scores"].append(score if math.isfinite(score) else None)
        best = self.meta["best_score"]
        last_resort = best is None and self.epoch == self.recipe.epochs
        if (math.isfinite(score) and (best is None or score > best)) or last_resort:
            self.meta |= {"best_epoch": self.epoch, "best_score": self.meta["scores"][-1]}
            self.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    def save(self) -> None:
        """Writes the state. For a finished run it contains the best weights only.

        Raises:
            CheckpointError: it cannot be written; an older state is intact.
        """
        now = time.monotonic()
        self.meta["seconds"] += now - self.started
        self.started = now
        done = self.epoch == self.recipe.epochs
        content = {
            "format": _FORMAT,
            "key": self.key,
            "epoch": self.epoch,
            "network": None if done else self.network.state_dict(),
            "optimizer": None if done else self.optimizer.state_dict(),
            "best": self.best,
            "meta": self.meta,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{self.path.parent}: cannot be made ({error.strerror})") from None
        write_atomic(self.path, lambda file: torch.save(content, file))

    def fitted(self) -> FittedFinetune:
        """The network with its present weights, in eval mode."""
        return FittedFinetune(
            network=self.network.eval(),
            device=self.device,
            precision=self.protocol.precision,
            view_size=self.view_size,
            selection={
                "epoch": self.meta["best_epoch"],
                "epochs": self.recipe.epochs,
                "validation_score": self.meta["best_score"],
                "losses": self.meta["losses"],
                "validation_scores": self.meta["scores"],
                "training_seconds": self.meta["seconds"],
            },
        )

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.images.epoch = self.epoch
        order = np.random.default_rng(derive_seed(self.seed, "order", self.epoch)).permutation(len(self.images))
        return iter(
            DataLoader(
                self.images,
                batch_size=self.batch_size,
                sampler=order.tolist(),
                drop_last=True,
                num_workers=self.recipe.workers,
                pin_memory=self.device.type == "cuda",
            )
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedFinetune:
    """A network with a trained head."""

    network: Classifier
    device: torch.device
    precision: str
    view_size: int
    selection: dict[str, Any]

    def predict(self, on: Labelled, split: str) -> Floats:
        """Class probabilities through the evaluation transform."""
        rows = on.rows[on.part(split)]
        parts = [np.zeros((0, self.network.head.out_features))]
        for begin in range(0, len(rows), _PREDICT_IMAGES):
            images = read_images(on.images, rows[begin : begin + _PREDICT_IMAGES], self.device)
            with torch.inference_mode(), autocast(self.precision, self.device):
                logits = self.network(evaluation_views(images, self.view_size))
            parts.append(softmax(logits.float().cpu().numpy()))
        return np.concatenate(parts)


def _classifier(encoder: Encoder, dataset: Labelled, view_size: int, drop_path: float, seed: int) -> Classifier:
    """A trainable copy of the encoder for views of this size, with a fresh head."""
    config = BackboneConfig(name=encoder.arch, overrides=encoder.overrides, init="none")
    backbone = build_backbone(config, encoder.image_size, drop_path=drop_path)
    backbone.model.load_state_dict(encoder.backbone.model.state_dict())
    model: Any = backbone.model
    if view_size != encoder.image_size and hasattr(model, "set_input_size"):
        # Resized once, as in RETFound, instead of in every step.
        model.set_input_size(img_size=view_size)
    return Classifier(backbone, len(dataset.classes), derive_seed(seed, "head"))


@contextmanager
def _generators_kept(device: torch.device) -> Iterator[None]:
    """Restores the states of the global generators of `random`, numpy and torch afterwards."""
    numpy_state = np.random.get_state()  # noqa: NPY002 - the one that timm draws from
    state = random.getstate()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
