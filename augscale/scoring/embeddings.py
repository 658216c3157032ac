"""Computes the embeddings of views with a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from augscale.errors import DivergedError, Paused


def embed(
    backbone: nn.Module,
    views: Tensor,
    *,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    autocast: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> npt.NDArray[np.float32]:
    """Embeds views in evaluation mode, without gradients.

    Args:
        backbone: maps float32 (B, 3, S, S) to (B, D). Moved to `device`; every module's mode is restored afterwards.
        views: normalized, any float type, shape (N, 3, S, S), on any device; converted to float32 batch by batch.
        batch_size: at least 1; changes the result by rounding only.
        device: None: the device of the backbone's parameters.
        autocast: use bfloat16 autocast.
        should_stop: called before every batch.
    Returns:
        float32, shape (N, D): row i belongs to view i.
    Raises:
        DivergedError: an embedding is not finite.
        Paused: `should_stop` returned True.
    """
    target = torch.device(device) if device is not None else _device_of(backbone)
    backbone.to(target)
    parts = []
    with _evaluation_mode(backbone), torch.inference_mode():
        for batch in views.split(batch_size):
            if should_stop is not None and should_stop():
                raise Paused
            with torch.autocast(target.type, dtype=torch.bfloat16, enabled=autocast):
                embedded = backbone(batch.to(device=target, dtype=torch.float32))
            parts.append(embedded.float().cpu())
    embeddings = torch.cat(parts).numpy()
    bad = int((~np.isfinite(embeddings)).any(axis=1).sum())
    if bad:
        raise DivergedError(f"{bad} of {len(embeddings)} embeddings are not finite; the backbone has diverged")
    return embeddings


def _device_of(backbone: nn.Module) -> torch.device:
    parameter = next(backbone.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


@contextmanager
def _evaluation_mode(backbone: nn.Module) -> Iterator[None]:
    # Module by module: a backbone may hold parts that are frozen in evaluation mode while the rest trains.
    training = [module for module in backbone.modules() if module.training]
    backbone.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
