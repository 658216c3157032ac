"""The linear heads of the authors' script, all seeds trained at once on features computed before.

The script trains one `nn.Linear` with SGD and runs the frozen network on every image in every epoch. Here a step is one
batched product for all seeds. Axes: s seeds, n images, b batch, k classes, l features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from augscale.evaluation.protocol_config import ReleasedConfig
from augscale.evaluation.selection import macro_auroc
from augscale.seeding import counter_uniforms, derive_seed
from augscale.statistics.arrays import Floats32, Integers

_ORDER_SEED = 0
"""The default seed of DistributedSampler, which the script does not change."""
_INITIAL_STD = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedHead:
    """The head of one seed after its best epoch.

    Attributes:
        weight: float32, shape (K, L). bias: float32, shape (K,).
        epoch: counted from 1.
        validation_auroc: one per epoch, NaN where undefined.
    """

    weight: Floats32
    bias: Floats32
    epoch: int
    validation_auroc: tuple[float, ...]


def initial_weight(seed: int, num_classes: int, num_features: int) -> Tensor:
    """N(0, 0.01), float32, shape (K, L), a function of the seed; the bias starts at 0."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_classes, num_features, generator=generator) * _INITIAL_STD


def epoch_order(epoch: int, count: int) -> Tensor:
    """The order of the images, int64 (N,): DistributedSampler's with one process, the same for all seeds."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_ORDER_SEED + epoch))


def epoch_draws(seed: int, epoch: int, count: int, draws: int) -> Integers:
    """Number of the crop that is used of each image in an epoch, int64 (N,), in [0, draws).

    Every `draws` epochs use each crop of an image once, in an order that depends on the image and the seed.
    """
    cycle, place = divmod(epoch, draws)
    uniforms = counter_uniforms(derive_seed(seed, "released-crops", cycle), np.arange(count), draws)
    result: Integers = uniforms.argsort(axis=1, kind="stable")[:, place]
    return result


def learning_rate(epoch: int, config: ReleasedConfig) -> float:
    """Learning rate, scaled by the batch size; it falls to 0 along half a cosine, once per epoch (counted from 0)."""
    return config.lr * config.batch_size / 256 * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))


def train_heads(
    crops: Floats32,
    labels: Integers,
    val_features: Floats32,
    val_labels: Integers,
    *,
    num_classes: int,
    seeds: Sequence[int],
    config: ReleasedConfig,
) -> list[TrainedHead]:
    """Trains one head per seed as the authors' script does.

    The loss is cross-entropy; SGD has momentum and no weight decay, and incomplete last batches are used. The first
    epoch with the highest macro AUROC on validation is kept, or the last epoch if the AUROC is never defined.

    Args:
        crops: float32, shape (R, N, L), R random crops of each image.
        labels: int64, shape (N,).
        val_features: float32, shape (V, L). val_labels: int64, shape (V,).
    Returns:
        In the order of the seeds. Up to rounding, the head of a seed does not depend on the other seeds.
    """
    num_draws, count, num_features = crops.shape
    flat = torch.from_numpy(crops).view(num_draws * count, num_features)
    targets = torch.from_numpy(labels)
    validation = torch.from_numpy(val_features)
    weight = torch.stack([initial_weight(seed, num_classes, num_features) for seed in seeds])
    bias = torch.zeros(len(seeds), 1, num_classes)
    momenta = torch.zeros_like(weight), torch.zeros_like(bias)
    best = weight.clone(), bias.clone()
    best_auroc = np.full(len(seeds), -math.inf)
    best_epoch = np.zeros(len(seeds), dtype=np.int64)
    history = []
    for epoch in range(config.epochs):
        rate = learning_rate(epoch, config)
        order = epoch_order(epoch, count)
        draws = np.stack([epoch_draws(seed, epoch, count, num_draws) for seed in seeds])
        rows = (torch.from_numpy(draws) * count)[:, order] + order
        for begin in range(0, count, config.batch_size):
            chosen = slice(begin, begin + config.batch_size)
            x = flat[rows[:, chosen]]
            _step(weight, bias, momenta, x, targets[order[chosen]], rate, config.momentum)
        scores = torch.einsum("vl,skl->svk", validation, weight).add_(bias).softmax(dim=-1).numpy()
        auroc = macro_auroc(val_labels, scores)
        history.append(auroc)
        last_resort = np.isnan(auroc) & (epoch == config.epochs - 1) & (best_epoch == 0)
        for place in np.flatnonzero((auroc > best_auroc) | last_resort):
            best_auroc[place], best_epoch[place] = auroc[place], epoch + 1
            best[0][place], best[1][place] = weight[place], bias[place]
    return [
        TrainedHead(
            weight=best[0][place].numpy(),
            bias=best[1][place, 0].numpy(),
            epoch=int(best_epoch[place]),
            validation_auroc=tuple(float(auroc[place]) for auroc in history),
        )
        for place in range(len(seeds))
    ]


def _step(
    weight: Tensor,
    bias: Tensor,
    momenta: tuple[Tensor, Tensor],
    x: Tensor,
    targets: Tensor,
    rate: float,
    momentum: float,
) -> None:
    """torch.optim.SGD on the mean cross-entropy, for x of shape (s, b, l), in place."""
    residual = torch.baddbmm(bias, x, weight.transpose(1, 2)).softmax(dim=-1)
    residual[:, torch.arange(len(targets)), targets] -= 1
    residual /= len(targets)
    momenta[0].mul_(momentum).add_(torch.bmm(residual.transpose(1, 2), x))
    momenta[1].mul_(momentum).add_(residual.sum(dim=1, keepdim=True))
    weight.sub_(momenta[0], alpha=rate)
    bias.sub_(momenta[1], alpha=rate)
