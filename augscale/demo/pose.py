"""Direction of the camera: the map between the retina in degrees and the photograph in pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from augscale.demo.draws import Draws, Floats
from augscale.demo.stamps import Blobs, Strokes
from augscale.demo.texture import Grid


@dataclass(frozen=True, kw_only=True)
class Pose:
    """A turned, scaled and, for left eyes, mirrored view of the retina.

    gaze: retinal point in the middle of the photograph, degrees in the frame of a right eye. turn: radians,
    counter-clockwise. px_per_degree: scale. size: pixels. mirrored: the eye is a left one. Pixel (0, 0) is the center
    of the upper left pixel.
    """

    gaze: tuple[float, float]
    turn: float
    px_per_degree: float
    size: int
    mirrored: bool

    def to_pixels(self, points: Floats) -> Floats:
        """Retinal points (N, 2), degrees, to pixels (N, 2), x to the right and y downwards."""
        x = (points[:, 0] - self.gaze[0]) * (-1.0 if self.mirrored else 1.0)
        y = points[:, 1] - self.gaze[1]
        cosine, sine, middle = np.cos(self.turn), np.sin(self.turn), (self.size - 1) / 2
        turned = np.stack([cosine * x - sine * y, -sine * x - cosine * y], axis=1)
        return middle + self.px_per_degree * turned

    def retina_grid(self) -> Grid:
        """The retinal coordinates of every pixel."""
        axis = (np.arange(self.size) - (self.size - 1) / 2) / self.px_per_degree
        across, up = axis[None, :], -axis[:, None]
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        x = (cosine * across + sine * up) * (-1.0 if self.mirrored else 1.0)
        y = cosine * up - sine * across
        return Grid(x=x + self.gaze[0], y=y + self.gaze[1], px_per_degree=self.px_per_degree)

    def strokes_to_pixels(self, strokes: Strokes) -> Strokes:
        """The strokes in pixels."""
        start, end = self.to_pixels(strokes.start), self.to_pixels(strokes.end)
        return replace(strokes, start=start, end=end, radius=strokes.radius * self.px_per_degree)

    def blobs_to_pixels(self, blobs: Blobs) -> Blobs:
        """The blobs in pixels; a mirrored outline is as probable as the outline itself."""
        angle = -(blobs.angle + self.turn)
        return replace(
            blobs,
            center=self.to_pixels(blobs.center),
            radius=blobs.radius * self.px_per_degree,
            angle=np.pi - angle - 2 * self.turn if self.mirrored else angle,
            phases=-blobs.phases if not self.mirrored else blobs.phases,
        )


def draw_pose(
    draws: Draws, *, photograph: int, disc: Floats, field_deg: float, field_px: float, size: int, left: bool
) -> Pose:
    """The view of one photograph: the first of an eye is centered near the macula, later ones often on the disc.

    Args:
        draws: stream of this photograph's pose.
        photograph: number of the photograph of this eye.
        disc: center of the optic disc, degrees, shape (2,).
        field_deg: angular diameter of the camera's field.
        field_px: the same in pixels.
        size: pixels.
        left: True for a left eye.
    """
    kind = draws.pick((0.6, 0.35, 0.05) if photograph == 0 else (0.35, 0.35, 0.3))
    share = (0.12, 0.42, 0.95)[kind]
    gaze = (share * disc[0] + draws.normal(0.0, 1.6), share * disc[1] + draws.normal(0.0, 1.3))
    zoom = 1 + draws.normal(0.0, 0.025)
    turn = draws.normal(0.0, 0.07)
    return Pose(gaze=gaze, turn=turn, px_per_degree=zoom * field_px / field_deg, size=size, mirrored=left)
