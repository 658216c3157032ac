"""The medical transforms of `weak+med`: blur, noise and bias field, with TorchIO's parameters.

TorchIO (Pérez-García et al. 2021) is made for volumes; here a view is a slice of depth 1, so the third axis of its blur
and of its polynomial has no effect (the coefficients of powers of z multiply zeros). The paper does not say when the
transforms are applied; here they follow all others, on values in [0, 1], in the order blur, noise, bias field.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from augscale.augmentation.draw import ViewParameters
from augscale.augmentation.photometric import blur_rows, gaussian_matrices, update_rows
from augscale.system.devices import to_device

POOL_SIZE = 2**22
"""Number of normal numbers in the pool that noise is taken from; each view starts at another place in it."""
_POOL_SEED = 2501_02451
_SCIPY_TRUNCATE = 4.0


def medical(views: Tensor, params: ViewParameters) -> Tensor:
    """Blur, noise and bias field, in this order.

    Args:
        views: float32, shape (B, 3, V, V), in [0, 1], contiguous; overwritten.
        params: one row per view.
    Returns:
        The same tensor. Noise and bias field may leave [0, 1], as in TorchIO.
    """
    med_blur(views, params)
    add_noise(views, params)
    apply_bias_field(views, params)
    return views


def has_medical(params: ViewParameters) -> bool:
    """True if `medical` changes any view."""
    return bool(params.med_blur_sigma.any() or params.noise_sigma.any() or params.bias_field.any())


def med_blur(views: Tensor, params: ViewParameters) -> None:
    """scipy's `gaussian_filter` with a sigma per axis (TorchIO `Blur`, spacing 1), in place.

    The kernel's radius is int(4 sigma + 0.5): below a sigma of 0.125 px it is 0 and nothing happens.
    """
    sigma, size = params.med_blur_sigma, views.shape[-1]
    radius = (_SCIPY_TRUNCATE * sigma + 0.5).astype(np.int64)
    rows = np.flatnonzero(radius.any(axis=1))
    if not len(rows):
        return
    matrices = [
        gaussian_matrices(sigma[rows, axis], radius[rows, axis], size, views.device, mirror_edge=True)
        for axis in range(2)
    ]
    blur_rows(views, rows, *matrices)


def add_noise(views: Tensor, params: ViewParameters) -> None:
    """Adds normal noise of each image's own sigma (TorchIO `Noise`, mean 0), in place.

    The noise is a section of a fixed pool, so it is the same on every device.
    """
    chosen = np.flatnonzero(params.noise_sigma > 0)
    if not len(chosen):
        return
    numel = views[0].numel()
    pool_size = POOL_SIZE
    while pool_size < 4 * numel:
        pool_size *= 2
    begin = to_device((params.noise_position[chosen] * (pool_size - numel)).astype(np.int64), views.device)
    places = begin[:, None] + torch.arange(numel, device=views.device)
    noise = normal_pool(pool_size, str(views.device)).take(places).view(-1, *views.shape[1:])
    sigma = to_device(params.noise_sigma[chosen].astype(np.float32), views.device)
    views.index_add_(0, to_device(chosen, views.device), noise.mul_(sigma[:, None, None, None]))


@lru_cache(maxsize=4)
def normal_pool(size: int, device: str) -> Tensor:
    """float32, shape (size,): standard normal numbers, the same on every device."""
    numbers = np.random.default_rng(_POOL_SEED).standard_normal(size, dtype=np.float32)
    return torch.from_numpy(numbers).to(device)


def apply_bias_field(views: Tensor, params: ViewParameters) -> None:
    """Multiplies by exp of each image's own polynomial (TorchIO `BiasField`), in place."""
    size, order = views.shape[-1], params.bias_field_order
    basis = _polynomials(size, order, str(views.device))

    def shade(images: Tensor, coefficients: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            field = (coefficients @ basis).exp_()
        return images * field.view(-1, 1, size, size)

    update_rows(views, params.bias_field, shade, params.bias_coefficients)


@lru_cache(maxsize=8)
def _polynomials(size: int, order: int, device: str) -> Tensor:
    """float32, shape (K, size * size): y^i x^j, i outer and j inner, at pixel centers scaled to [-1, 1]."""
    line = np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
    powers = [line**k for k in range(order + 1)]
    terms = [np.outer(powers[i], powers[j]).ravel() for i in range(order + 1) for j in range(order + 1 - i)]
    return torch.from_numpy(np.stack(terms).astype(np.float32)).to(device)
