"""From the host to a device, without making the host wait for it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """A host array on the device; on a GPU it gets there in its turn, from pinned memory."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers that are wanted again and again; never to be changed in place.

    Returns:
        float32, shape (len(values),), on the device.
    """
    return torch.tensor(values, device=device)
