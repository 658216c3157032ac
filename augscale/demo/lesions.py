"""Lesions of diabetic retinopathy: their kinds and places for each grade, as strokes and blobs.

The grades follow the international clinical scale (Wilkinson et al., Ophthalmology 2003): 0 none; 1 microaneurysms
only; 2 more than that; 3 many hemorrhages in all quadrants; 4 new vessels or preretinal hemorrhage. Sizes are at
the upper end of what is seen in patients, so that grades 2 to 4 still show at 96 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from augscale.demo.draws import Draws, Floats
from augscale.demo.stamps import Blobs, Strokes, concatenate

_FIELD_DEG = 21.0  # lesions lie within this distance of a point between disc and fovea
_FIELD_CENTER = np.array([4.0, 0.0])


@dataclass(frozen=True, kw_only=True)
class Lesions:
    """The lesions of one eye, in degrees on the retina of a right eye (see `vessels`).

    dark: microaneurysms and dot, blot and flame hemorrhages, below the large vessels. exudates: hard exudates.
    cotton_wool: cotton-wool spots, above the vessels. preretinal: hemorrhages that hide what lies below.
    new_vessels: strokes of neovascular tufts.
    """

    dark: Blobs
    exudates: Blobs
    cotton_wool: Blobs
    preretinal: Blobs
    new_vessels: Strokes

    @property
    def count(self) -> int:
        """Number of blobs; the strokes of new vessels are not counted."""
        return len(self.dark) + len(self.exudates) + len(self.cotton_wool) + len(self.preretinal)

    @property
    def area(self) -> float:
        """Area of all blobs and strokes in square degrees, overlaps counted twice."""
        blobs = (self.dark, self.exudates, self.cotton_wool, self.preretinal)
        length = np.sqrt(((self.new_vessels.end - self.new_vessels.start) ** 2).sum(axis=1))
        return float(sum(b.area.sum() for b in blobs) + (2 * self.new_vessels.radius * length).sum())


def grow_lesions(draws: Draws, grade: int, disc: Floats, disc_radius: float) -> Lesions:
    """The lesions of a right eye of this grade.

    Args:
        draws: stream of this eye's lesions.
        grade: 0 to 4.
        disc: center of the optic disc, degrees, shape (2,); hemorrhages and exudates keep off it.
        disc_radius: degrees.
    """
    aneurysms, blots, flames, clusters, spots = _counts(draws, grade)
    dark = concatenate(
        [
            _round(draws, _scatter(draws, aneurysms, 0.55), 0.15, 0.26, softness=0.5, uneven=0.03, strength=(0.7, 1.0)),
            _round(draws, _scatter(draws, blots, 0.9), 0.22, 0.9, softness=0.9, uneven=0.12, strength=(0.45, 1.1)),
            _flames(draws, flames, disc),
        ]
    )
    exudates = concatenate([_exudate_cluster(draws) for _ in range(clusters)] + [_no_blobs()])
    cotton_wool = _round(draws, _scatter(draws, spots, 0.7), 0.5, 1.1, softness=1.1, uneven=0.15, strength=(0.5, 0.9))
    preretinal, new_vessels = _no_blobs(), _no_strokes()
    if grade == 4:
        with_blood = draws.chance(0.55)
        preretinal = _boats(draws, draws.integer(1, 2)) if with_blood else preretinal
        new_vessels = _tufts(draws, draws.integer(2, 4) if with_blood else draws.integer(4, 7), disc, disc_radius)
    return Lesions(
        dark=_off_disc(dark, disc, disc_radius),
        exudates=_off_disc(exudates, disc, disc_radius),
        cotton_wool=_off_disc(cotton_wool, disc, disc_radius),
        preretinal=preretinal,
        new_vessels=new_vessels,
    )


def grow_drusen(draws: Draws, count: int) -> Blobs:
    """Drusen: small pale spots around the fovea of old eyes, independent of the grade."""
    center = np.stack([draws.normals(count, -0.5, 3.5), draws.normals(count, 0.0, 3.0)], axis=1)
    return _round(draws, center, 0.1, 0.3, softness=0.8, uneven=0.1, strength=(0.2, 0.5))


def _counts(draws: Draws, grade: int) -> tuple[int, int, int, int, int]:
    """Microaneurysms, blot and flame hemorrhages, clusters of exudates, cotton-wool spots."""
    if grade == 0:
        return 0, 0, 0, 0, 0
    if grade == 1:
        return draws.integer(5, 12), 0, 0, 0, 0
    if grade == 2:
        clusters = draws.integer(1, 3) if draws.chance(0.7) else 0
        return draws.integer(10, 22), draws.integer(6, 14), draws.integer(0, 2), clusters, draws.integer(0, 1)
    if grade == 3:
        clusters = draws.integer(1, 5) if draws.chance(0.75) else 0
        return draws.integer(20, 40), draws.integer(18, 40), draws.integer(3, 9), clusters, draws.integer(1, 5)
    clusters = draws.integer(1, 4) if draws.chance(0.6) else 0
    return draws.integer(15, 35), draws.integer(10, 32), draws.integer(2, 8), clusters, draws.integer(0, 4)


def _scatter(draws: Draws, count: int, spread: float) -> Floats:
    """Points in the field, shape (count, 2); spread 1 is uniform, less is denser in the middle."""
    radius = _FIELD_DEG * draws.uniforms(count) ** (0.5 / spread)
    turn = draws.uniforms(count, 0, 2 * np.pi)
    return _FIELD_CENTER + np.stack([radius * np.cos(turn), 0.85 * radius * np.sin(turn)], axis=1)


def _round(
    draws: Draws,
    center: Floats,
    smallest: float,
    largest: float,
    *,
    softness: float,
    uneven: float,
    strength: tuple[float, float],
) -> Blobs:
    """Roundish blobs; small ones are more frequent than large ones."""
    count = len(center)
    return Blobs(
        center=center,
        radius=smallest + (largest - smallest) * draws.uniforms(count) ** 2.2,
        aspect=1 + 3 * uneven * draws.uniforms(count),
        angle=draws.uniforms(count, 0, np.pi),
        lobes=draws.normals(count * 3, 0.0, uneven).clip(-0.3, 0.3).reshape(count, 3),
        phases=draws.uniforms(count * 3, 0, 2 * np.pi).reshape(count, 3),
        softness=np.full(count, softness),
        strength=draws.uniforms(count, *strength),
    )


def _flames(draws: Draws, count: int, disc: Floats) -> Blobs:
    """Hemorrhages in the nerve fiber layer: streaks that point away from the disc and bend around the macula."""
    center = disc + np.stack([draws.normals(count, -4.0, 5.0), draws.normals(count, 0.0, 7.0)], axis=1)
    blobs = _round(draws, center, 0.35, 0.8, softness=0.8, uneven=0.12, strength=(0.7, 1.0))
    away = np.arctan2(center[:, 1] - disc[1], center[:, 0] - disc[0])
    return replace(blobs, aspect=draws.uniforms(count, 2.0, 4.0), angle=away + draws.normals(count, 0.0, 0.25))


def _exudate_cluster(draws: Draws) -> Blobs:
    """A cluster or an open ring of yellow specks, mostly on the temporal side of the disc."""
    middle = np.array([draws.normal(-1.0, 5.0), draws.normal(0.0, 5.0)])
    count = draws.integer(15, 70)
    turn = draws.uniform(0, 2 * np.pi) + draws.uniforms(count, 0, draws.uniform(1.5, 6.0))
    ring = draws.chance(0.5)
    extent = draws.uniform(1.2, 3.2)
    spread = np.abs(draws.normals(count, 1.0 if ring else 0.0, 0.18 if ring else 0.7))
    center = middle + extent * (spread * np.stack([np.cos(turn), np.sin(turn)])).T
    return _round(draws, center, 0.09, 0.5, softness=0.5, uneven=0.2, strength=(0.35, 1.0))


def _boats(draws: Draws, count: int) -> Blobs:
    """Preretinal hemorrhages: large, wider than high."""
    center = np.stack([draws.uniforms(count, -9, 14), draws.uniforms(count, -12, 9)], axis=1)
    blobs = _round(draws, center, 1.4, 3.2, softness=0.35, uneven=0.12, strength=(0.85, 1.0))
    return replace(blobs, aspect=draws.uniforms(count, 1.3, 2.2), angle=draws.normals(count, 0.0, 0.2))


def _tufts(draws: Draws, count: int, disc: Floats, disc_radius: float) -> Strokes:
    """New vessels: fans of fine loops on the disc or along the arcades, as strokes."""
    steps, threads = 22, 12
    parts = []
    for _ in range(count):
        turn = draws.uniform(0, 2 * np.pi)
        away = disc_radius * draws.uniform(0.2, 0.9) if draws.chance(0.4) else draws.uniform(7.0, 15.0)
        root = disc + away * np.array([np.cos(turn), np.sin(turn)])
        extent = draws.uniform(1.2, 2.6)
        heading = draws.uniforms(threads, 0, 2 * np.pi)[:, None]
        curl = draws.normals(threads, 0.0, 0.12)[:, None] + draws.normals(threads * steps, 0, 0.35).reshape(threads, -1)
        heading = heading + np.cumsum(curl, axis=1)
        moves = extent / steps * 1.6 * np.stack([np.cos(heading), np.sin(heading)], axis=2)
        points = root + np.cumsum(moves, axis=1)
        radius = np.repeat(draws.uniforms(threads, 0.045, 0.09), steps - 1)
        parts.append((points[:, :-1].reshape(-1, 2), points[:, 1:].reshape(-1, 2), radius))
    start, end, radius = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Strokes(start=start, end=end, radius=radius, strength=np.full(len(radius), 0.75))


def _off_disc(blobs: Blobs, disc: Floats, disc_radius: float) -> Blobs:
    distance = np.sqrt(((blobs.center - disc) ** 2).sum(axis=1))
    return blobs.where(distance > 1.1 * disc_radius + blobs.radius)


def _no_blobs() -> Blobs:
    widths = {"center": 2, "lobes": 3, "phases": 3}
    return Blobs(**{name: np.zeros((0, widths[name]) if name in widths else 0) for name in Blobs.__dataclass_fields__})


def _no_strokes() -> Strokes:
    none, points = np.zeros(0), np.zeros((0, 2))
    return Strokes(start=points, end=points, radius=none, strength=none)
