"""Figure 1 of Cheng et al. (MIDL 2025) in spirit: do photographs of one kind lie closer together than varied images?

    python -m benchmarks.figure1 --data DIR                         # a ViT-S/16 with random weights at 112 px
    python -m benchmarks.figure1 --data DIR CKPT ...                # checkpoints

The paper shows that two photographs of two retinas are about as close as two augmented views of one, unlike ImageNet's
images. Here the same network embeds the photographs and as many generated images that have nothing in common (Voronoi
cells, waves, clouds, stripes and discs in random colours), under the same ladder of views, and the separation of
positive and negative pairs is printed for both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import augscale

SIDE = 256
METRICS = ("pair_auroc", "dprime", "overlap", "silhouette", "recall_at_1", "negative_mean", "positive_mean")


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(arguments.images):
            Image.fromarray(varied_image(index)).save(Path(folder) / f"{index:04d}.png")
        sets = {"photographs": arguments.data, "varied images": folder}
        found = {
            name: augscale.diagnose(
                arguments.checkpoints,
                data=data,
                images=arguments.images,
                size=arguments.size,
                untrained=False,
                bootstrap=arguments.bootstrap,
                scales=[],
            )
            for name, data in sets.items()
        }
    print(f"{arguments.images} images of each kind, 4 views each at {', '.join(_levels(found['photographs']))}\n")
    for checkpoint in (c.name for c in found["photographs"].checkpoints):
        print(f"{checkpoint}\n{'':16}" + "".join(f"{name:>26}" for name in sets))
        for metric in METRICS:
            cells = [_cell(diagnosis[checkpoint].ladder[metric]) for diagnosis in found.values()]
            print(f"  {metric:14}" + "".join(f"{cell:>26}" for cell in cells))
        print()


def varied_image(seed: int) -> npt.NDArray[np.uint8]:
    """One generated image, uint8, shape (256, 256, 3): a pattern, palette and scale of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    pattern = (_voronoi, _waves, _clouds, _stripes, _discs)[seed % 5](rng, x, y)
    palette = rng.uniform(0, 255, (6, 3))
    place = np.clip(pattern, 0, 1) * (len(palette) - 1)
    low = np.minimum(place.astype(int), len(palette) - 2)
    weight = (place - low)[..., None]
    return (palette[low] * (1 - weight) + palette[low + 1] * weight).astype(np.uint8)


Floats = npt.NDArray[np.float64]


def _voronoi(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    points = rng.uniform(0, 1, (rng.integers(5, 60), 2))
    nearest = np.argmin([(x - a) ** 2 + (y - b) ** 2 for a, b in points], axis=0)
    return rng.uniform(0, 1, len(points))[nearest]


def _waves(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    waves = [np.sin(2 * np.pi * (a * x + b * y) + p) for a, b, p in rng.normal(0, 5, (4, 3))]
    return 0.5 + 0.25 * np.sum(waves, axis=0)


def _clouds(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    total = np.zeros_like(x)
    for octave in range(1, 7):
        coarse = Image.fromarray(rng.uniform(0, 1, (2**octave, 2**octave)).astype(np.float32))
        total += np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 2**octave
    return (total - total.min()) / np.ptp(total)


def _stripes(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.03, 0.3)
    return ((x * np.cos(angle) + y * np.sin(angle)) / period % 1 > rng.uniform(0.2, 0.8)).astype(float)


def _discs(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    canvas = np.full_like(x, rng.uniform())
    for a, b, r, value in rng.uniform(0, 1, (rng.integers(3, 25), 4)):
        canvas = np.where((x - a) ** 2 + (y - b) ** 2 < (0.25 * r) ** 2, value, canvas)
    return canvas


def _levels(diagnosis: augscale.Diagnosis) -> list[str]:
    return [level.name for level in diagnosis.levels if level.kind == "ladder"]


def _cell(measured: object) -> str:
    value, interval = measured.value, measured.interval  # type: ignore[attr-defined]
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})" if interval else f"{value:.3f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", default=["random:vit_small_patch16_224"])
    parser.add_argument("--data", required=True, help="folder or manifest of photographs")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--bootstrap", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
