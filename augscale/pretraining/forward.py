"""Forward passes of a part of a step's batch: its views, and the networks' outputs on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from augscale.augmentation.views import Views
from augscale.networks.precision import autocast
from augscale.networks.stochastic_depth import DepthDraws
from augscale.pretraining.batches import Batches, Shard
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.method import Method, Part, Tensors
from augscale.pretraining.monitor import Clock
from augscale.seeding import derive_seed

ViewFunction = Callable[..., Views]
"""Maps the images and sample ids of a batch, see `Batches.draw`, to its views; with `pretrain.natural_positives` also
the images of `Batches.draw_partners`. See `MultiCropViews`."""


class Forward:
    """Runs the networks of a method.

    Args:
        method: says which network sees which views.
        batches: source of the images.
        make_views: maps images to views.
        seed: seed of the run, for stochastic depth.
        device: of images and networks.
        precision: "fp32" or "bf16".
        keep_casts: see `precision.autocast`.
        draws_by_image: stochastic depth is drawn by image, see `Method.draws_by_image`.
    """

    def __init__(
        self,
        method: Method,
        batches: Batches,
        make_views: ViewFunction,
        *,
        seed: int,
        device: torch.device,
        precision: str,
        keep_casts: bool,
        draws_by_image: bool,
    ) -> None:
        self.method, self.batches, self.make_views = method, batches, make_views
        self.seed, self.device, self.precision = seed, device, precision
        self.keep_casts, self.draws_by_image = keep_casts, draws_by_image

    def part(self, step: int, shard: Shard, clock: Clock, views: Views | None = None) -> Part:
        """The images of a shard in their views, which are a function of (seed, step, image).

        Args:
            views: used instead of views of the shard's images.
        """
        if views is None:
            with clock.part("views"):
                images, sample_ids = self.batches.draw(step, shard.index, shard.count)
                if self.method.recipe.natural_positives:
                    partners = self.batches.draw_partners(step, shard.index, shard.count)
                    views = self.make_views(images, sample_ids, partners)
                else:
                    views = self.make_views(images, sample_ids)
        return Part(views=views, shard=shard, step=step)

    def both(self, student: nn.Module, teacher: HeadedNetwork, part: Part) -> tuple[Tensors, Tensors]:
        """Outputs of the student, with gradients, and targets."""
        with self._running(part) as drawn:
            with torch.no_grad():
                targets = self.method.targets(teacher, drawn)
            return self.method.outputs(student, drawn), targets

    def targets(self, teacher: HeadedNetwork, part: Part) -> Tensors:
        """Targets alone."""
        with self._running(part) as drawn, torch.no_grad():
            return self.method.targets(teacher, drawn)

    def outputs(self, student: nn.Module, part: Part) -> Tensors:
        """Outputs of the student alone: the same in every call of a step, because draws begin anew."""
        with self._running(part) as drawn:
            return self.method.outputs(student, drawn)

    @contextmanager
    def _running(self, part: Part) -> Iterator[Part]:
        cast = autocast(self.precision, self.device, keep_casts=self.keep_casts)
        with self._stochastic_depth(part) as draws, cast:
            yield replace(part, draws=draws)

    @contextmanager
    def _stochastic_depth(self, part: Part) -> Iterator[DepthDraws | None]:
        """Random numbers of the forward pass: a function of (seed, step), and of the shard if not drawn per image."""
        shard = part.shard
        if self.draws_by_image:
            yield DepthDraws(derive_seed(self.seed, "drop-path", part.step), shard.index, shard.count, part.num_images)
            return
        on_gpu = self.device.type == "cuda"
        seed = derive_seed(self.seed, "drop-path", part.step, *([shard.index] if shard.index else []))
        with torch.random.fork_rng(devices=[self.device] if on_gpu else []):
            torch.default_generator.manual_seed(seed)
            if on_gpu:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            yield None
