"""Images per second of a training step on given views: ours beside lightly's modules, for every method.

    python -m benchmarks.throughput --methods dino,simclr,mocov3,dinov2 --study evidence

Both have the same timm backbone, sizes of heads, batch, views (tensors on the device) and precision, in one process,
and take turns, so that a drift of the machine's speed meets both. Ours is the step of the training loop: besides what
lightly's does, it draws a batch of images from memory, clips gradients and checks the loss. Not counted are the first
steps. Printed: medians over the turns, their ratio, and the smallest and largest ratio of one turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from augscale.augmentation.scales import STRONG
from augscale.augmentation.views import Views
from augscale.config import StudyConfig, load_study
from augscale.networks.backbones import build_backbone
from augscale.networks.precision import resolve_precision
from augscale.pretrain_config import method_overrides
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.methods import METHODS
from augscale.pretraining.step import Trainer

WARM_UP_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class StepRates:
    """One method: images per second of each turn."""

    method: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Ours over lightly's, medians over the turns."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def line(self) -> str:
        turns = sorted(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))
        medians = (statistics.median(rates) for rates in (self.ours, self.theirs))
        numbers = "".join(f"{median:12.1f}" for median in medians)
        return f"{self.method:8}{numbers}{self.ratio:9.2f}   {turns[0]:.2f} to {turns[-1]:.2f}"


HEADER = f"{'method':8}{'augscale':>12}{'lightly':>12}{'ratio':>9}   ratios of single turns"


def method_study(study: str, method: str, overrides: dict[str, Any]) -> StudyConfig:
    """A study for a method, with what lightly has no module for switched off.

    Networks without patch tokens have no iBOT; DINOv2's targets have a moving center.
    """
    more = method_overrides(method)
    if method == "dinov2":
        more["pretrain.sinkhorn_iterations"] = 0
        config = load_study(study, overrides | more | {"pretrain.ibot_weight": 0.0})
        with torch.device("meta"):
            backbone = build_backbone(config.backbone.model_copy(update={"init": "none"}), config.crops.global_size)
        more["pretrain.ibot_weight"] = float(backbone.has_patch_tokens)
    return load_study(study, overrides | more)


def compare(config: StudyConfig, device: str, *, steps: int, turns: int) -> StepRates:
    """Measures one method.

    Args:
        config: method, network, sizes and batch; pre-trained weights are not loaded.
        device: "cpu" or "cuda".
        steps: of a turn.
        turns: of each.
    """
    from benchmarks.lightly_methods import STEPS

    config = config.model_copy(update={"backbone": config.backbone.model_copy(update={"init": "none"})})
    views = random_views(config, device)
    trainer = our_trainer(config, device, views)
    theirs = STEPS[config.pretrain.method](config, device, resolve_precision(config.pretrain.precision, device))
    # As a loader gives them: one tensor per view.
    listed = [view for crops in (views.global_crops, views.local_crops) for view in crops.split(_batch(config))]
    contenders: tuple[Callable[[], object], ...] = (
        lambda: trainer.train_step(logged=False),
        lambda: theirs.step(listed),
    )
    rates: tuple[list[float], list[float]] = [], []
    for step in contenders:
        for _ in range(WARM_UP_STEPS):
            step()
    for turn in range(turns):
        # Who begins changes, so that neither always follows the other.
        for place in (0, 1) if turn % 2 == 0 else (1, 0):
            rates[place].append(_rate(contenders[place], device, steps, _batch(config)))
    return StepRates(method=config.pretrain.method, ours=tuple(rates[0]), theirs=tuple(rates[1]))


def random_views(config: StudyConfig, device: str) -> Views:
    """Views of noise: what a step costs does not depend on what they show."""
    crops, batch = config.crops, _batch(config)
    generator = torch.Generator().manual_seed(0)
    shapes = ((2 * batch, 3, crops.global_size, crops.global_size),)
    shapes += ((crops.n_local * batch, 3, crops.local_size, crops.local_size),)
    found = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    return Views(global_crops=found[0], local_crops=found[1])


def our_trainer(config: StudyConfig, device: str, views: Views) -> Trainer:
    """The trainer of a run whose every batch is seen in the given views."""
    batch = _batch(config)
    images = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8)

    def given(drawn: Tensor, *_: object) -> Views:
        def part(crops: Tensor) -> Tensor:
            # A thread's share of the batch.
            return crops.unflatten(0, (-1, batch))[:, : len(drawn)].flatten(0, 1) if len(crops) else crops

        whole = len(drawn) == batch
        return views if whole else Views(global_crops=part(views.global_crops), local_crops=part(views.local_crops))

    context = DistributedContext()
    trainer = Trainer(images, np.arange(batch), STRONG, config, 0, torch.device(device), context, 1, make_views=given)
    assert trainer.micro_batches.number == 1
    return trainer


def print_comparison(studies: Sequence[StudyConfig], device: str, *, steps: int, turns: int) -> None:
    """Measures methods one after the other and prints a line for each."""
    first = studies[0]
    print(f"setting     {first.backbone.name} {first.backbone.overrides or ''}, batch {_batch(first)}, {device}")
    print(f"precision   {resolve_precision(first.pretrain.precision, device)}, {torch.get_num_threads()} threads")
    print(f"turns       {turns} of each, {steps} steps each, images per second\n\n{HEADER}", flush=True)
    for study in studies:
        print(compare(study, device, steps=steps, turns=turns).line, flush=True)


def known_methods(text: str) -> list[str]:
    """Names of methods, separated by commas.

    Raises:
        ValueError: one is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"{', '.join(unknown)}: not one of {', '.join(METHODS)}")
    return names


def _batch(config: StudyConfig) -> int:
    return config.pretrain.batch_size


def _rate(step: Callable[[], object], device: str, steps: int, batch: int) -> float:
    _wait_for(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait_for(device)
    return steps * batch / (time.perf_counter() - start)


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
