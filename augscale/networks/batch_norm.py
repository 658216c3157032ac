"""Common batch norm statistics: what must be equal before two networks can be compared.

A network with batch norm carries, besides its weights, the mean and variance of every normalised channel. Training
gathers them on the run's own augmented views, and a network that was never trained has none (mean 0, variance 1). So
two networks with equal weights embed the same photograph differently, and a score of their embeddings measures the
augmentation of their training views instead of what they learned. `gather` measures the statistics again on a set of
views that all compared networks share, and `use` puts them in for the time of a measurement.

The idea is that of `torch.optim.swa_utils.update_bn`. Unlike there the whole set counts as one batch where it fits, and
batches are pooled exactly: the result does not depend on their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.errors import DivergedError, Paused
from augscale.seeding import derive_seed

NUM_IMAGES = 256
"""Images that statistics are gathered on, where there are so many. Another choice of 256 or of 512 images moves
differences of d' between networks by about 0.01 (docs/experiments.md, 2026-11-27)."""
BATCH_PIXELS = 256 * 128 * 128
"""Pixels of the views that are one batch: 256 of 128 px, 83 of 224 px. The size of a batch follows from the size of the
views alone, so that the statistics are the same on every machine."""

RUNNING_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""How the names of a layer's buffers end."""

_Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Mean and variance of every batch norm layer of one network, by the layer's name; float32, shape (C,) each."""

    means: Mapping[str, Tensor]
    variances: Mapping[str, Tensor]
    """Unbiased, as torch keeps running variances."""

    @classmethod
    def none(cls) -> Statistics:
        """No statistics: the network keeps its own."""
        return cls(means={}, variances={})


def has_batch_norm(network: nn.Module) -> bool:
    """Whether any layer is batch norm."""
    return any(isinstance(module, _Norm) for module in network.modules())


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether any layer, in the mode it is in, normalises over the images of a batch."""
    return any(isinstance(module, _Norm) and module.training for module in network.modules())


def limited(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """At most `NUM_IMAGES` of some rows, drawn once for all.

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
    """Measures the statistics that batch norm has on some views; the network itself stays as it is.

    While they are gathered every layer normalises with the statistics of the batch, as in training. The whole set is
    one batch up to `BATCH_PIXELS`; of several, equally large batches the means and variances are pooled in float64.
    Everything else is in evaluation mode and float32, so that dropout and stochastic depth play no part.

    Args:
        network: maps (N, 3, S, S) to embeddings.
        views: normalised, any float type, shape (N, 3, S, S), N at least 2.
        device: None: where the network's parameters are. The network is moved there.
        should_stop: asked before every batch.
    Returns:
        Empty for a network without batch norm, which is not run.
    Raises:
        DivergedError: a mean or variance is not finite.
        Paused: `should_stop` said so.
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
    # A layer that the forward pass does not reach keeps what it has.
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
    """Puts statistics into a network, and its own back afterwards.

    Args:
        network: the one they were gathered for, or one of the same architecture.
    """
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
    """For the time of a measurement, the network has the statistics of some views; None: it keeps its own.

    Args:
        network, views, device, should_stop: see `gather`.
    """
    if views is None:
        yield
        return
    with use(network, gather(network, views, device=device, should_stop=should_stop)):
        yield


@dataclass(kw_only=True)
class _Pool:
    """Values of one layer's channels so far (Chan, Golub and LeVeque 1979)."""

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    """Sum of squared distances from the mean."""

    def add(self, count: int, mean: Tensor, variance: Tensor) -> None:
        """More values.

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
    """Layers of batch norm that normalise with running statistics in evaluation mode, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _Norm) and module.running_mean is not None
    }


def _measure(pool: _Pool) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that measures a layer's input and makes the layer normalise with what it measured."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, _Norm)
        assert module.running_mean is not None
        assert module.running_var is not None
        # Two passes over rows of channels: as exact as torch.var_mean and several times faster on a CPU.
        values = inputs[0].float().movedim(1, -1).flatten(0, -2)
        mean = values.mean(dim=0)
        variance = (values - mean).square_().mean(dim=0)
        pool.add(len(values), mean.double(), variance.double())
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)

    return hook


def _batches(views: Tensor) -> Iterator[Tensor]:
    """Equally large batches, up to one view, of at most `BATCH_PIXELS`."""
    most = max(2, BATCH_PIXELS // (views.shape[-1] * views.shape[-2]))
    number = -(-len(views) // most)
    yield from torch.tensor_split(views, number)


@contextmanager
def _kept(layers: Mapping[str, _Norm]) -> Iterator[None]:
    """The layers' statistics are put back afterwards."""
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
