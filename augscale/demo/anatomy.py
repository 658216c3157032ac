"""The anatomy of an eye (disc with cup, macula, pigment, vessels) and the light that it reflects.

Frame of reference and units as in `vessels`: degrees on a right eye, fovea at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augscale.demo.draws import Draws, Floats
from augscale.demo.lesions import Lesions, grow_drusen, grow_lesions
from augscale.demo.patients import PatientTraits, eye_grade, patient_traits
from augscale.demo.stamps import Blobs
from augscale.demo.texture import Grid, choroid, mottling
from augscale.demo.vessels import VesselTree, grow_vessels


@dataclass(frozen=True, kw_only=True)
class Disc:
    """The optic disc.

    center: degrees, shape (2,). radius: degrees, of the circle of the same area. elongation: height over width.
    tilt: radians. cup: cup-to-disc ratio. crescent: strength of the pale crescent on the temporal side, 0 to 1.
    pallor: brightness relative to the mean.
    """

    center: Floats
    radius: float
    elongation: float
    tilt: float
    cup: float
    crescent: float
    pallor: float


@dataclass(frozen=True, kw_only=True)
class Eye:
    """Everything about an eye that does not change between two photographs."""

    traits: PatientTraits
    disc: Disc
    vessels: VesselTree
    lesions: Lesions
    drusen: Blobs
    macula_depth: float


def grow_eye(seed: int, patient: int, eye: str) -> Eye:
    """The eye of a patient, as a right eye (a left one is mirrored by the pose)."""
    traits, disc = patient_traits(seed, patient), grow_disc(seed, patient, eye)
    vessel_draws = Draws(seed, "patient", patient, eye, "vessels")
    return Eye(
        traits=traits,
        disc=disc,
        vessels=grow_vessels(vessel_draws, disc.center, disc.radius, traits.caliber, traits.tortuosity),
        lesions=eye_lesions(seed, patient, eye),
        drusen=grow_drusen(Draws(seed, "patient", patient, eye, "drusen"), traits.drusen),
        macula_depth=Draws(seed, "patient", patient, eye, "macula").uniform(0.5, 1.15),
    )


def eye_lesions(seed: int, patient: int, eye: str) -> Lesions:
    """The lesions alone, without the work of growing the vessels."""
    disc, grade = grow_disc(seed, patient, eye), eye_grade(seed, patient, eye)
    return grow_lesions(Draws(seed, "patient", patient, eye, "lesions"), grade, disc.center, disc.radius)


def grow_disc(seed: int, patient: int, eye: str) -> Disc:
    """The optic disc of an eye."""
    draws, traits = Draws(seed, "patient", patient, eye, "disc"), patient_traits(seed, patient)
    return Disc(
        center=np.array([draws.normal(15.4, 0.6), draws.normal(1.6, 0.7)]),
        radius=draws.normal(3.25, 0.22),
        elongation=draws.normal(1.08, 0.05),
        tilt=draws.normal(0.0, 0.15),
        cup=min(max(traits.cup + draws.normal(0.0, 0.04), 0.15), 0.75),
        crescent=draws.uniform(0.2, 0.9) if draws.chance(0.3) else 0.0,
        pallor=draws.normal(1.0, 0.1),
    )


def fundus_color(draws: Draws, eye: Eye, grid: Grid) -> Floats:
    """Light reflected by pigment epithelium, choroid, macula and disc, without vessels and lesions.

    Args:
        draws: a stream that is the same for all photographs of the eye.
        eye: the eye.
        grid: the retinal coordinates of every pixel.
    Returns:
        float64, shape (size, size, 3); 1 is an average retina in each channel.
    """
    traits, x, y = eye.traits, grid.x, grid.y
    depth = np.array([0.30, 0.45, 0.40]) * (traits.pigment - 0.5)
    base = np.exp(-depth)[None, None, :] * np.ones((*x.shape, 1))
    patches = mottling(draws, grid, (12.0, 4.5, 1.6, 0.6))
    base *= np.exp(patches[:, :, None] * np.array([0.030, 0.050, 0.060]))
    hue = mottling(draws, grid, (14.0, 5.0))
    base *= np.exp(hue[:, :, None] * np.array([0.035, -0.025, -0.06]))
    stripes = choroid(draws, grid)
    amount = 0.02 + 0.36 * traits.tessellation**2
    base *= np.exp(amount * stripes[:, :, None] * np.array([0.85, 0.65, 0.2]))
    base *= _macula(eye, x, y)[:, :, None] ** np.array([0.75, 1.0, 0.9])
    base *= 1 + _fiber_sheen(draws, eye, x, y)[:, :, None] * np.array([0.6, 1.0, 1.5])
    return _with_disc(eye, base, x, y)


def _macula(eye: Eye, x: Floats, y: Floats) -> Floats:
    """Share of the light that the pigment of macula and fovea lets through."""
    squared = x**2 + (y * 1.1) ** 2
    wide, narrow = np.exp(-squared / (2 * 3.6**2)), np.exp(-squared / (2 * 1.15**2))
    return np.exp(-eye.macula_depth * (0.26 * wide + 0.42 * narrow))


def _fiber_sheen(draws: Draws, eye: Eye, x: Floats, y: Floats) -> Floats:
    """Reflexes of the fovea and of the nerve fibers above and below the disc, bright and streaked in youth."""
    from_x, from_y = x - eye.disc.center[0], y - eye.disc.center[1]
    distance = np.sqrt(from_x**2 + from_y**2)
    direction = np.arctan2(np.abs(from_y), -from_x)
    along_arcade = np.exp(-(((direction - 1.15) / 0.5) ** 2))
    streaks = 0.8 + 0.2 * np.sin(direction * 55 + 0.25 * distance + draws.uniform(0, 6.28))
    near = np.exp(-distance / 6.5) * (0.35 + 0.65 * along_arcade * streaks)
    glint = np.exp(-((x - 0.1) ** 2 + (y + 0.1) ** 2) / (2 * 0.22**2)) * max(eye.traits.youth - 0.5, 0)
    return 0.55 * (0.35 + 0.65 * eye.traits.youth) * near + 0.5 * glint


def _with_disc(eye: Eye, base: Floats, x: Floats, y: Floats) -> Floats:
    disc = eye.disc
    cosine, sine = np.cos(disc.tilt), np.sin(disc.tilt)
    from_x, from_y = x - disc.center[0], y - disc.center[1]
    across = (cosine * from_x + sine * from_y) * np.sqrt(disc.elongation) / disc.radius
    up = (cosine * from_y - sine * from_x) / np.sqrt(disc.elongation) / disc.radius
    edge_distance = np.sqrt(across**2 + up**2)
    nasal = across / np.maximum(edge_distance, 1e-6)
    rim_color = disc.pallor * np.array([1.72, 1.72, 1.95])
    cup_color = disc.pallor * np.array([1.85, 2.65, 3.4])
    crescent_color = np.array([1.3, 1.55, 1.7])
    crescent = disc.crescent * np.clip(-nasal, 0, 1) * _smooth_step((1.42 - edge_distance) / 0.18)
    base = base + (crescent_color - base) * crescent[:, :, None] * 0.6
    # A thin dark line of pigment often borders the disc.
    border = np.exp(-(((edge_distance - 1.08) / 0.07) ** 2)) * (0.05 + 0.1 * eye.traits.pigment)
    base = base * (1 - border[:, :, None])
    cup_distance = np.sqrt((across + 0.06) ** 2 + (up * 1.05) ** 2)
    in_cup = _smooth_step((disc.cup - cup_distance) / 0.3 + 0.5)
    # The nasal rim is pinker and fades into the retina, the temporal rim is pale and sharp.
    paler = 1 - 0.12 * nasal
    color = rim_color * paler[:, :, None] + (cup_color - rim_color) * in_cup[:, :, None]
    inside = _smooth_step((1 - edge_distance) / (0.16 + 0.08 * nasal) + 0.5)
    return base + (color - base) * inside[:, :, None]


def _smooth_step(ramp: Floats) -> Floats:
    ramp = np.clip(ramp, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)
