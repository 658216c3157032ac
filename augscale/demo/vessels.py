"""Arteries and veins of one eye: trunks that leave the disc along the arcades, branching and tapering.

Frame of reference: degrees of visual angle on the retina of a right eye as photographed, x to the right (nasal),
y upwards, fovea at the origin. One degree is about 0.29 mm (Bennett et al., 1994), which turns the usual widths of
the large vessels at the disc (about 90 um for arteries, 130 um for veins) into the radii below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from augscale.demo.draws import Draws, Floats
from augscale.demo.stamps import Strokes, concatenate

_STEP_DEG = 0.45
_WOBBLE_DEG = 1.4  # length over which the heading of a vessel keeps its direction
_VEIN_RADIUS_DEG = 0.27
_ARTERY_RADIUS_DEG = 0.195
_MIN_RADIUS_DEG = 0.03
_LEVELS = 3
_BRANCH_SPACING_DEG = 3.2
_FORK_RADIUS_DEG = 0.11
_FULL_STRENGTH_RADIUS_DEG = 0.22
_TAPER = 0.6

# Trunks of a right eye: (heading at the disc, heading far away, degrees over which it turns, length, relative
# radius), headings in degrees counter-clockwise from nasal. The upper half; the lower half is its mirror image.
_TRUNKS = (
    (88.0, 187.0, 9.8, 42.0, 1.0),  # temporal arcade
    (85.0, 35.0, 6.0, 24.0, 0.72),  # nasal
    (150.0, 178.0, 4.0, 10.0, 0.28),  # twig towards the macula
    (60.0, 8.0, 3.0, 13.0, 0.4),  # twig towards the nasal side
)


@dataclass(frozen=True, kw_only=True)
class VesselTree:
    """Strokes in degrees; strength is the optical depth of the blood column relative to a large vessel."""

    arteries: Strokes
    veins: Strokes


@dataclass(frozen=True, kw_only=True)
class _Paths:
    """Vessels of one level: points (n, k, 2), heading (n, k), radius (n, k), valid (n, k)."""

    points: Floats
    heading: Floats
    radius: Floats
    valid: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Buds:
    """Starting points and courses of vessels; arrays with one row for each vessel, angles in radians."""

    start: Floats
    heading: Floats
    final_heading: Floats
    turning: Floats
    length: Floats
    radius: Floats


def grow_vessels(draws: Draws, disc: Floats, disc_radius: float, caliber: float, tortuosity: float) -> VesselTree:
    """The vessel tree of one right eye.

    Args:
        draws: stream of this eye's vessels.
        disc: center of the optic disc, degrees, shape (2,).
        disc_radius: degrees.
        caliber: widths relative to the mean.
        tortuosity: SD of the heading around its course, radians.
    """
    free_zone = draws.uniform(1.3, 2.2)
    trees = []
    for base_radius, is_vein in ((_ARTERY_RADIUS_DEG, False), (_VEIN_RADIUS_DEG, True)):
        buds = _trunks(draws, disc, disc_radius, base_radius * caliber, is_vein)
        strokes = []
        for level in range(_LEVELS + 1):
            paths = _follow(draws, buds, tortuosity * (0.8 if is_vein else 1.0), free_zone)
            strokes.append(_strokes(paths))
            if level < _LEVELS:
                buds = _branch(draws, paths, level)
        trees.append(concatenate(strokes))
    return VesselTree(arteries=trees[0], veins=trees[1])


def _trunks(draws: Draws, disc: Floats, disc_radius: float, base_radius: float, is_vein: bool) -> _Buds:
    rows = []
    for side in (1.0, -1.0):
        # Artery and vein of a pair run side by side, in an order that differs from eye to eye.
        pair_turn = draws.normal(0.0, 7.0) + (5.0 if is_vein else -5.0)
        for heading, final, turning, length, relative_radius in _TRUNKS:
            small = relative_radius < 0.5
            spread = 18.0 if small else 8.0
            first = heading + draws.normal(0.0, spread) + pair_turn
            last = final + draws.normal(0.0, 9.0)
            offset = disc_radius * np.array([draws.uniform(0.0, 0.3), draws.uniform(0.0, 0.25)])
            rows.append(
                (
                    disc[0] + offset[0],
                    disc[1] + side * offset[1],
                    side * np.deg2rad(first),
                    side * np.deg2rad(last),
                    turning * draws.uniform(0.82, 1.25),
                    length * draws.uniform(0.85, 1.15),
                    base_radius * relative_radius * draws.uniform(0.85, 1.12),
                )
            )
    table = np.array(rows)
    heading, final_heading, turning, length, radius = table[:, 2:].T
    return _Buds(
        start=table[:, :2], heading=heading, final_heading=final_heading, turning=turning, length=length, radius=radius
    )


def _follow(draws: Draws, buds: _Buds, tortuosity: float, free_zone: float) -> _Paths:
    """Walks every vessel from its bud: the heading relaxes to its final value and wobbles on the way."""
    count = len(buds.length)
    num_points = int(np.ceil(buds.length.max() / _STEP_DEG)) + 1
    traveled = np.arange(num_points) * _STEP_DEG
    noise = draws.normals(count * num_points).reshape(count, num_points)
    sigma = _WOBBLE_DEG / _STEP_DEG
    wobble = gaussian_filter1d(noise, sigma, axis=1, mode="nearest") * np.sqrt(2 * np.sqrt(np.pi) * sigma)
    finer = np.clip(0.15 / buds.radius, 0.8, 1.7)[:, None]  # small vessels wind more
    wobble *= finer * tortuosity * (1 - np.exp(-traveled / 1.5))
    settle = np.exp(-traveled / buds.turning[:, None])
    heading = buds.final_heading[:, None] + (buds.heading - buds.final_heading)[:, None] * settle + wobble
    steps = _STEP_DEG * np.stack([np.cos(heading), np.sin(heading)], axis=2)
    points = buds.start[:, None, :] + np.concatenate(
        [np.zeros((count, 1, 2)), np.cumsum(steps, axis=1)[:, :-1]], axis=1
    )
    share = traveled / buds.length[:, None]
    radius = buds.radius[:, None] * (1 - _TAPER * np.minimum(share, 1))
    in_free_zone = (points**2).sum(axis=2) < free_zone**2
    valid = (share <= 1) & (np.cumsum(in_free_zone, axis=1) == 0)
    return _Paths(points=points, heading=heading, radius=radius, valid=valid)


def _branch(draws: Draws, paths: _Paths, level: int) -> _Buds:
    """Buds along every vessel; from the arcades about half of them turn towards the macula."""
    count, num_points = paths.radius.shape
    place = np.arange(num_points)
    # One branch per interval spreads them evenly; independent places would bunch.
    intervals = int(np.ceil(num_points * _STEP_DEG / _BRANCH_SPACING_DEG))
    along = np.arange(intervals) + draws.uniforms(count * intervals).reshape(count, intervals)
    points_along = np.minimum(along * _BRANCH_SPACING_DEG / _STEP_DEG, num_points - 1).astype(np.int64)
    marked = np.zeros((count, num_points), dtype=np.bool_)
    marked[np.arange(count)[:, None], points_along] = True
    can_bud = paths.valid & (place >= (6 if level == 0 else 3)) & (paths.radius > 1.6 * _MIN_RADIUS_DEG)
    buds = can_bud & marked
    fork_place = np.rint(draws.uniforms(count, 3.5, 12.0) / _STEP_DEG)[:, None]
    forks = can_bud & (place == fork_place) & (paths.radius > _FORK_RADIUS_DEG)
    vessel, point = np.nonzero(buds | forks)
    if not len(vessel):
        vessel, point = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    at = (vessel, point)
    return _buds(draws, paths.points[at], paths.heading[at], paths.radius[at], forks[at])


def _buds(draws: Draws, start: Floats, heading: Floats, parent: Floats, fork: npt.NDArray[np.bool_]) -> _Buds:
    """Branches at these places: a fork divides into two nearly equal vessels, any other branch is thin."""
    count = len(parent)
    side = np.where(draws.uniforms(count) < 0.5, -1.0, 1.0)
    first = heading + side * np.deg2rad(np.where(fork, draws.uniforms(count, 22, 42), draws.uniforms(count, 35, 75)))
    last = heading + side * np.deg2rad(np.where(fork, draws.uniforms(count, 5, 40), draws.uniforms(count, 10, 85)))
    to_fovea = np.arctan2(-start[:, 1], -start[:, 0]) + np.deg2rad(draws.normals(count, 0, 35))
    inward = ~fork & (side * np.sin(to_fovea - heading) > 0.2)
    # Take the shorter turn, so that no branch makes a loop.
    turn = np.angle(np.exp(1j * (to_fovea - first)))
    last = np.where(inward, first + 0.6 * turn, last)
    thin = (0.32 + 0.45 * draws.uniforms(count) ** 1.2) * np.where(inward, 0.85, 1.0)
    ratio = np.where(fork, draws.uniforms(count, 0.7, 0.95), thin)
    radius = np.maximum(parent * ratio, _MIN_RADIUS_DEG)
    length = np.clip(10.0 * (radius / 0.1) ** 0.8 * draws.uniforms(count, 0.4, 1.5), 1.2, 26.0)
    turning = draws.uniforms(count, 2.0, 6.0)
    return _Buds(start=start, heading=first, final_heading=last, turning=turning, length=length, radius=radius)


def _strokes(paths: _Paths) -> Strokes:
    both = paths.valid[:, 1:] & paths.valid[:, :-1]
    radius = (paths.radius[:, 1:] + paths.radius[:, :-1])[both] / 2
    strength = np.minimum((radius / _FULL_STRENGTH_RADIUS_DEG) ** 0.65, 1.15)
    return Strokes(start=paths.points[:, :-1][both], end=paths.points[:, 1:][both], radius=radius, strength=strength)
