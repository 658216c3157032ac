"""Matrix product of NumPy arrays on torch's threads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]


def matmul(a: Floats, b: Floats) -> Floats:
    """`a @ b`. A worker limits torch's threads, while NumPy's BLAS would take every core."""
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
