"""Smooth random fields on the retina: mottling of the pigment epithelium and the pattern of the choroid.

A field is a cubic B-spline through random numbers on a lattice that is fixed to the retina, so that two photographs
of one eye show the same mottling however the camera is turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from augscale.demo.draws import Draws, Floats

_LATTICE = 64
_BEND_DEG = 5.0
_COARSE_PX = 6.0  # knots further apart than this allow interpolation from every second pixel


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Retinal coordinates of every pixel, degrees, float64, shape (size, size), and resolution of the photograph."""

    x: Floats
    y: Floats
    px_per_degree: float


def smooth_field(draws: Draws, x: Floats, y: Floats, spacing_x: float, spacing_y: float) -> Floats:
    """A random field with mean 0 and standard deviation near 1.

    Args:
        draws: a random stream used by nothing else; one row of it is used.
        x, y: coordinates, float64 of one shape; the field repeats after 64 spacings.
        spacing_x, spacing_y: distance of the knots in the unit of the coordinates.
    Returns:
        float64, shape of `x`.
    """
    # A cubic B-spline averages its knots: its SD is 0.46 times theirs, that of the uniform numbers is 1 / sqrt(3).
    knots = draws.uniforms(_LATTICE * _LATTICE, -1.0, 1.0).reshape(_LATTICE, _LATTICE) * (np.sqrt(3.0) / 0.46)
    places = np.stack([y / spacing_y, x / spacing_x])
    return map_coordinates(knots, places, order=3, mode="grid-wrap", prefilter=False)


def mottling(draws: Draws, grid: Grid, spacings: tuple[float, ...]) -> Floats:
    """A sum of smooth fields, one for each spacing, in proportion to the spacing to the power 0.6.

    Args:
        draws: a random stream used by nothing else.
        grid: a turned and scaled pixel grid; fields finer than its resolution are left out.
        spacings: knot distances, degrees.
    Returns:
        float64, shape of the grid, mean 0; SD near 1 for the coarsest field alone.
    """
    total = np.zeros_like(grid.x)
    for spacing in spacings:
        if spacing * grid.px_per_degree > 0.8:
            total += (spacing / max(spacings)) ** 0.6 * _field(draws, grid, spacing)
        else:
            draws.skip()  # keeps the finer fields of every resolution on the same rows of the stream
    return total


def _field(draws: Draws, grid: Grid, spacing: float) -> Floats:
    """A smooth field; if its knots are far apart, it is computed on every second pixel and interpolated."""
    if spacing * grid.px_per_degree <= _COARSE_PX:
        return smooth_field(draws, grid.x, grid.y, spacing, spacing)
    size = grid.x.shape[0]
    every_second = Grid(x=grid.x[::2, ::2], y=grid.y[::2, ::2], px_per_degree=grid.px_per_degree / 2)
    coarse = _field(draws, every_second, spacing)
    if size % 2 == 0:
        coarse = np.pad(coarse, ((0, 1), (0, 1)), mode="reflect", reflect_type="odd")
    fine = np.empty((coarse.shape[0] * 2 - 1, coarse.shape[1] * 2 - 1))
    fine[::2, ::2] = coarse
    fine[1::2, ::2] = (coarse[1:] + coarse[:-1]) / 2
    fine[:, 1::2] = (fine[:, 2::2] + fine[:, :-1:2]) / 2
    return fine[:size, :size]


def choroid(draws: Draws, grid: Grid) -> Floats:
    """The tessellated pattern: meandering bright choroidal vessels that run away from the posterior pole.

    Returns:
        float64, shape of the grid, about -1 (pigment between the vessels) to 1 (a vessel), fading towards the macula.
    """
    x, y = grid.x, grid.y
    bend_x, bend_y = (_field(draws, grid, _BEND_DEG) for _ in range(2))
    center_x, center_y = draws.uniform(3.0, 10.0), draws.uniform(-3.0, 3.0)
    from_x, from_y = x - center_x + 1.1 * bend_x, y - center_y + 1.1 * bend_y
    distance = np.sqrt(from_x**2 + from_y**2) + 1e-6
    # The lattice has 64 knots around the circle, so the stripes close without a seam.
    turn = np.arctan2(from_y, from_x) / (2 * np.pi) * _LATTICE
    total = np.zeros_like(x)
    for repeats, spacing in ((1, 3.2), (2, 2.4)):
        field = smooth_field(draws, distance, repeats * turn, spacing, 1.0)
        width_px = distance * (2 * np.pi / (_LATTICE * repeats)) * grid.px_per_degree
        # A vessel follows the zero line of the field: such lines wind, part and meet, as vessels do.
        vessel = np.exp(-((field / 0.6) ** 2)) - 0.5
        preferred = np.exp(-((np.log(distance * 2 * np.pi / (_LATTICE * repeats) / 0.75)) ** 2) / 0.5)
        total += vessel * preferred * np.clip((width_px - 0.8) / 1.5, 0, 1)
    away_from_macula = 1 - 0.8 * np.exp(-(x**2 + y**2) / 7.0**2)
    return total * away_from_macula
