"""A photograph from its name: the eye, the pose, the layers of the retina from the back to the front, the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augscale.demo.anatomy import Disc, Eye, eye_lesions, fundus_color, grow_disc, grow_eye
from augscale.demo.camera import Camera, choose_camera, expose
from augscale.demo.draws import Draws, Floats
from augscale.demo.lesions import Lesions
from augscale.demo.patients import PhotographName, parse_image_id, patient_traits
from augscale.demo.pose import Pose, draw_pose
from augscale.demo.stamps import Blobs, Strokes, draw_blobs, draw_strokes
from augscale.errors import DataError

RENDERER = "86c24cdb517b39d8389d9627bda3f6b9"
"""Version of the photographs' pixels; keys of caches depend on it, and runs are resumed with the same version only.

Replace this text with every change that alters a pixel. The current text is the hash of the renderer's source in
augscale 0.1.0, so that runs begun with that version can be resumed.
"""
MIN_SIZE = 16

# Optical depth of each layer at full strength, for red, green and blue.
_VEIN = np.array([0.23, 0.60, 0.30])
_ARTERY = np.array([0.07, 0.42, 0.26])
_BLOOD = np.array([0.36, 0.66, 0.36])
_POOLED_BLOOD = np.array([0.55, 1.05, 0.55])
_NEW_VESSEL = np.array([0.12, 0.55, 0.35])
# Light that a layer adds, relative to an average retina.
_EXUDATE = np.array([1.52, 1.90, 1.50])
_COTTON_WOOL = np.array([1.30, 1.75, 2.30])
_DRUSEN = np.array([1.30, 1.55, 1.40])
_REFLEX = 0.16


@dataclass(frozen=True, kw_only=True)
class Landmarks:
    """Places of disc and fovea as (x, y), from 0 (left, top) to 1 (right, bottom); may lie outside the photograph."""

    disc: tuple[float, float]
    fovea: tuple[float, float]


def render(image_id: str, seed: int, size: int) -> np.ndarray:
    """Draws one photograph; the same name, seed and size give the same bits, in any order and on any machine.

    Args:
        image_id: e.g. "synthetic/p0012/left/0", as in `synthetic_records`.
        seed: root seed of the collection.
        size: width and height in pixels, at least 16.
    Returns:
        uint8, shape (size, size, 3), sRGB.
    Raises:
        DataError: the image id is not of that form, or the size is too small.
    """
    name = parse_image_id(image_id)
    if size < MIN_SIZE:
        raise DataError(f"{image_id}: size is {size} pixels; expected at least {MIN_SIZE}")
    eye = grow_eye(seed, name.patient, name.eye)
    camera = _camera(name, seed)
    pose = _pose(name, eye.disc, camera, seed, size)
    reflectance = _reflectance(eye, pose, Draws(seed, "patient", name.patient, name.eye, "texture"))
    return expose(_photograph_draws(seed, name, "exposure"), camera, reflectance, eye.traits.haze)


def lesions_of(image_id: str, seed: int) -> Lesions:
    """The lesions of the photographed eye, in degrees; an image id of another form raises DataError."""
    name = parse_image_id(image_id)
    return eye_lesions(seed, name.patient, name.eye)


def camera_of(image_id: str, seed: int) -> Camera:
    """The camera of a photograph; an image id of another form raises DataError."""
    return _camera(parse_image_id(image_id), seed)


def landmarks_of(image_id: str, seed: int) -> Landmarks:
    """The places of disc and fovea in a photograph; an image id of another form raises DataError."""
    name, size = parse_image_id(image_id), 256
    disc = grow_disc(seed, name.patient, name.eye)
    pose = _pose(name, disc, _camera(name, seed), seed, size)
    places = (pose.to_pixels(np.stack([disc.center, np.zeros(2)])) + 0.5) / size
    return Landmarks(disc=(places[0, 0], places[0, 1]), fovea=(places[1, 0], places[1, 1]))


def _photograph_draws(seed: int, name: PhotographName, purpose: str) -> Draws:
    return Draws(seed, "patient", name.patient, name.eye, "photograph", name.photograph, purpose)


def _camera(name: PhotographName, seed: int) -> Camera:
    clinic = patient_traits(seed, name.patient).clinic
    return choose_camera(clinic, _photograph_draws(seed, name, "camera"))


def _pose(name: PhotographName, disc: Disc, camera: Camera, seed: int, size: int) -> Pose:
    return draw_pose(
        _photograph_draws(seed, name, "pose"),
        photograph=name.photograph,
        disc=disc.center,
        field_deg=camera.field_deg,
        field_px=camera.crop * size,
        size=size,
        left=name.eye == "left",
    )


def _reflectance(eye: Eye, pose: Pose, draws: Draws) -> Floats:
    """Light reflected by the retina, float64 (size, size, 3); 1 is an average retina."""
    image = fundus_color(draws, eye, pose.retina_grid())
    lesions = eye.lesions
    image = _paint(image, _layer(pose, eye.drusen), _DRUSEN)
    image = _paint(image, _layer(pose, lesions.exudates), _EXUDATE)
    image = _absorb(image, _layer(pose, lesions.dark), _BLOOD)
    image = _absorb(image, _layer(pose, eye.vessels.arteries), _ARTERY)
    image = _absorb(image, _layer(pose, eye.vessels.veins), _VEIN)
    image *= 1 + _REFLEX * _layer(pose, _reflexes(eye.vessels.arteries))[:, :, None]
    image = _absorb(image, _layer(pose, lesions.new_vessels), _NEW_VESSEL)
    image = _paint(image, _layer(pose, lesions.cotton_wool), _COTTON_WOOL)
    return _absorb(image, _layer(pose, lesions.preretinal), _POOLED_BLOOD)


def _reflexes(arteries: Strokes) -> Strokes:
    """The bright line in the middle of the larger arteries."""
    large = arteries.radius > 0.1
    return Strokes(
        start=arteries.start[large],
        end=arteries.end[large],
        radius=0.3 * arteries.radius[large],
        strength=np.ones(int(large.sum())),
    )


def _layer(pose: Pose, shapes: Strokes | Blobs) -> Floats:
    layer = np.zeros((pose.size, pose.size))
    if len(shapes) and isinstance(shapes, Strokes):
        draw_strokes(layer, pose.strokes_to_pixels(shapes))
    elif len(shapes) and isinstance(shapes, Blobs):
        draw_blobs(layer, pose.blobs_to_pixels(shapes))
    return layer


def _absorb(image: Floats, layer: Floats, depth: Floats) -> Floats:
    return image * np.exp(-layer[:, :, None] * depth) if layer.any() else image


def _paint(image: Floats, layer: Floats, color: Floats) -> Floats:
    return image + (color - image) * layer[:, :, None] if layer.any() else image
