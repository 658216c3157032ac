"""Batch norm statistics from a common set of views, which networks need before they can be compared.

A network with batch norm stores, besides its weights, the mean and variance of every normalized channel. Training
gathers them on the run's own augmented views, and an untrained network has none (mean 0, variance 1). So two networks
with equal weights embed the same photograph differently, and a score of their embeddings measures the augmentation of
their training views instead of what they learned. `gather` measures the statistics again on a set of views that all
compared networks share, and `use` puts them in for the duration of a measurement.

The idea is that of `torch.optim.swa_utils.update_bn`. Here, however, the whole set is one batch if it fits, and several
batches are pooled exactly, so the result does not depend on their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.errors import ConfigError, DivergedError, Paused
from augscale.seeding import derive_seed

if TYPE_CHECKING:
    from augscale.networks.checkpoints import LoadedCheckpoint

NUM_IMAGES = 256
"""Largest number of images that statistics are gathered on. Another choice of 256 or of 512 images moves differences of
d' between networks by about 0.01 (docs/experiments.md, 2026-11-27)."""
BATCH_PIXELS = 256 * 128 * 128
"""Pixels of one batch of views: 256 of 128 px, 83 of 224 px. The size of a batch depends on nothing but the size of the
views, so that the statistics are the same on every machine."""

_CHUNK_VALUES = 2**21
"""Values of a layer's input that are measured at a time on a CPU."""
RUNNING_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Endings of the names of a layer's buffers."""

Choice = Literal["own", "data"]
"""Values of `--statistics`: the checkpoint's own statistics, or those gathered on the data at hand."""
_FROZEN = "frozen"
"""Value of a sidecar's `batch_norm`: the network was trained with the statistics that it started with."""

_Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Means and variances of the batch norm layers of one network, by the layer's name; float32, shape (C,) each."""

    means: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]
    """Unbiased, like torch's running variances."""

    @classmethod
    def none(cls) -> Statistics:
        """No statistics: the network keeps its own."""
        return cls(means={}, variances={})


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, _Norm) for module in network.modules())


def uses_batch_statistics(network: nn.Module) -> bool:
    """True if any layer, in its current mode, normalizes over the images of a batch."""
    return any(isinstance(module, _Norm) and module.training for module in network.modules())


def checked_choice(text: str | None) -> Choice | None:
    """The value of `--statistics`.

    Raises:
        ConfigError: neither own nor data.
    """
    if text is not None and text not in get_args(Choice):
        raise ConfigError(f"--statistics {text}: expected own or data")
    return cast("Choice | None", text)


def takes_common_statistics(checkpoint: LoadedCheckpoint, choice: Choice | None = None) -> bool:
    """True if a checkpoint's batch norm statistics are to be gathered again before it is embedded or evaluated.

    Args:
        checkpoint: any checkpoint.
        choice: the user's choice. None: "data" for networks that augscale trained (their own statistics are those of
            augmented training views) and for untrained ones (they have none); "own" for all others, and for networks
            that were trained with frozen statistics.
    Returns:
        False for every network without batch norm.
    """
    if not has_batch_norm(checkpoint.backbone):
        return False
    if choice is not None:
        return choice == "data"
    return checkpoint.kind in ("augscale", "untrained") and checkpoint.sidecar.batch_norm != _FROZEN


def limited(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """At most `NUM_IMAGES` of some rows; the same call always draws the same ones.

    Returns:
        int64, rising, without repeats.
    """
    rows = np.unique(rows)
    if len(rows) > NUM_IMAGES:
        generator = np.random.default_rng(derive_seed(0, "common statistics"))
        rows = np.sort(generator.permutation(rows)[:NUM_IMAGES])
    return rows


def gather(
    network: nn.Module,
    views: Tensor,
    *,
    device: str | torch.device | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Statistics:
    """Measures the batch norm statistics of some views; the network keeps its own.

    Meanwhile every layer normalizes with the statistics of the batch, as in training. Up to `BATCH_PIXELS` the set is
    one batch; a larger set is cut into equal batches, whose means and variances are pooled in float64. Everything
    else is in evaluation mode and float32, so that dropout and stochastic depth have no effect.

    Args:
        network: maps (N, 3, S, S) to embeddings.
        views: normalized, any float type, shape (N, 3, S, S), N at least 2.
        device: the network is moved there; None: where its parameters are.
        should_stop: called before every batch.
    Returns:
        The statistics; empty for a network without batch norm, which is not run.
    Raises:
        DivergedError: a mean or variance is not finite.
        Paused: `should_stop` returned True.
    """
    layers = batch_norm_layers(network)
    if not layers:
        return Statistics.none()
    if device is not None:
        network.to(device)
    target = next(network.parameters()).device
    pools = {name: _Pool() for name in layers}
    with ExitStack() as stack:
        stack.enter_context(_evaluation_mode(network))
        stack.enter_context(_kept(layers))
        stack.enter_context(torch.autocast(target.type, enabled=False))
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(_measure(pools[name])).remove)
        with torch.inference_mode():
            for batch in _batches(views):
                if should_stop is not None and should_stop():
                    raise Paused
                network(batch.to(device=target, dtype=torch.float32))
    # A layer that the forward pass does not reach keeps its own statistics.
    reached = {name: pool for name, pool in pools.items() if pool.count > 1}
    found = Statistics(
        means={name: pool.mean.float() for name, pool in reached.items()},
        variances={name: (pool.squares / (pool.count - 1)).float() for name, pool in reached.items()},
    )
    for name in reached:
        if not bool(found.means[name].isfinite().all() and found.variances[name].isfinite().all()):
            raise DivergedError(f"the inputs of the batch norm layer {name} are not finite; the network has diverged")
    return found


@contextmanager
def use(network: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Uses the given statistics in a network of the same architecture, and restores its own afterwards."""
    layers = batch_norm_layers(network)
    with _kept(layers), torch.no_grad():
        for name, mean in statistics.means.items():
            layer = layers[name]
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(statistics.variances[name])
        yield


@contextmanager
def common_statistics(
    network: nn.Module,
    views: Tensor | None,
    *,
    device: str | torch.device | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[None]:
    """Uses the statistics of some views (see `gather`) in the network, and restores its own afterwards.

    Args:
        views: as for `gather`; None: the network keeps its own statistics.
    """
    found = Statistics.none() if views is None else gather(network, views, device=device, should_stop=should_stop)
    with use(network, found):
        yield


@dataclass(kw_only=True)
class _Pool:
    """Running moments of one layer's channels (Chan, Golub and LeVeque 1979)."""

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    """Sum of squared distances from the mean."""

    def add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        """Adds the moments of more values.

        Args:
            count: values per channel.
            mean, variance: float64, shape (C,); biased.
        """
        total = self.count + count
        difference = mean - self.mean.to(mean.device)
        shared = self.count * count / total
        self.squares = self.squares.to(mean.device) + variance * count + difference.square() * shared
        self.mean = mean - difference * (self.count / total)
        self.count = total


def batch_norm_layers(network: nn.Module) -> dict[str, _Norm]:
    """Batch norm layers that normalize with running statistics in evaluation mode, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _Norm) and module.running_mean is not None
    }


def _measure(pool: _Pool) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that measures a layer's input and makes the layer normalize with the measured statistics."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _Norm)
        assert module.running_mean is not None
        assert module.running_var is not None
        count, mean, variance = _moments(inputs[0].float())
        pool.add(count, mean, variance)
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)

    return hook


def _moments(values: Tensor) -> tuple[int, Tensor, Tensor]:
    """Number of values per channel; means and biased variances, float64, shape (C,).

    Two passes over rows of channels are as exact as torch.var_mean and several times faster on a CPU, where the images
    are taken some at a time, so that copies stay in its cache.

    Args:
        values: float32, shape (N, C, ...).
    """
    most = len(values) if values.is_cuda else max(1, _CHUNK_VALUES // values[0].numel())
    chunks, count = values.split(most), values.numel() // values.shape[1]

    def rows(chunk: Tensor) -> Tensor:
        return chunk.movedim(1, -1).flatten(0, -2)

    def summed(sums: Iterable[Tensor]) -> Tensor:
        return torch.stack([one.double() for one in sums]).sum(dim=0) / count

    mean = summed(rows(chunk).sum(dim=0) for chunk in chunks)
    about = mean.float()
    return count, mean, summed((rows(chunk) - about).square_().sum(dim=0) for chunk in chunks)


def _batches(views: Tensor) -> Iterator[Tensor]:
    """Batches of at most `BATCH_PIXELS`, whose sizes differ by one view at most."""
    most = max(2, BATCH_PIXELS // (views.shape[-1] * views.shape[-2]))
    number = -(-len(views) // most)
    yield from torch.tensor_split(views, number)


@contextmanager
def _kept(layers: Mapping[str, _Norm]) -> Iterator[None]:
    """Restores the layers' statistics afterwards."""
    before = {name: (layer.running_mean, layer.running_var) for name, layer in layers.items()}
    try:
        for layer in layers.values():
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean, layer.running_var = layer.running_mean.clone(), layer.running_var.clone()
        yield
    finally:
        for name, layer in layers.items():
            layer.running_mean, layer.running_var = before[name]


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
