"""`augscale.preview(...)`: a contact sheet of the same images at each set of scales, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from augscale.augmentation.scales import AugmentationScales, describe, load_scales
from augscale.config import GreyRangeSetting, load_study
from augscale.data.own_pictures import save_options
from augscale.errors import ConfigError
from augscale.runs.files import write_atomic
from augscale.seeding import derive_seed

MOST_DECODED = 64


@dataclass(frozen=True, kw_only=True)
class PreviewResult:
    """Content and place of a written preview."""

    path: Path
    """The written image."""
    scales: dict[str, AugmentationScales]
    """By caption, in the order shown."""
    image_ids: tuple[str, ...]
    """One per row of the sheet."""
    ranges: tuple[dict[str, Any], ...] = ()
    """Grey levels of files of more than 8 bits, as in a run's manifest."""
    remarks: tuple[str, ...] = ()
    """Lines about files that were passed over or excluded, and about odd images."""
    local_crops: bool = True
    """False if the study draws no local crops, so that descriptions leave them out."""

    def _repr_html_(self) -> str:
        from augscale.reporting.shared.notebook import notebook_html

        headline = f"Views of {len(self.image_ids)} images at {', '.join(self.scales)}"
        return notebook_html(headline, picture=self.path, notes=self.remarks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "scales": {name: scales.model_dump(mode="json") for name, scales in self.scales.items()},
            "descriptions": {
                name: describe(scales, local_crops=self.local_crops).splitlines()
                for name, scales in self.scales.items()
            },
            "image_ids": list(self.image_ids),
            "ranges": list(self.ranges),
            "remarks": list(self.remarks),
        }


def preview(
    data: str | Sequence[str] | None = None,
    scales: Sequence[str] = ("strong", "weak"),
    *,
    study: str | Path = "default",
    out: str | Path = "preview.png",
    images: int = 6,
    seed: int = 0,
    grey_range: GreyRangeSetting | None = None,
    views_per_image: int = 6,
    cache_root: Path | None = None,
    allow_bad: bool = False,
    exclude: Sequence[str] | None = None,
    patient_pattern: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> PreviewResult:
    """Writes a contact sheet of views; nothing is trained.

    Args:
        data: folder, CSV manifest or "synthetic", or several; None: the study's.
        scales: presets, NAME@T or scale cards, one block each.
        study: study whose decode settings and view sizes are used.
        out: the image to write; its folder is made. The ending gives the format (.png, .jpg, .webp).
        images: number of rows; the seed chooses them from 64 of the images, or from all if there are fewer.
        grey_range: as `data.range`; None: the study's.
        views_per_image: views of each image in each block: two global views, the rest local.
        cache_root: folder of decoded images; None: the default one.
        allow_bad: continue with many unreadable files.
        exclude: patterns of files to leave out; None: the study's.
        patient_pattern: as `data.patient_pattern`, so that a command for a search can be used here; None: the study's.
        on_progress: called with (done, total) while images are decoded.
    Raises:
        ConfigError: unknown scales, study or output format, or no images or views asked for.
        DataError: the images cannot be used.
    """
    from augscale.data.cache import build_cache
    from augscale.data.facts import file_lines
    from augscale.data.sanity import check_images
    from augscale.reporting.shared.contact_sheet import contact_sheet

    target = _writable(Path(out))
    if images < 1 or views_per_image < 2:
        raise ConfigError(
            f"preview: images = {images}, views per image = {views_per_image}; expected at least 1 image and 2 views"
        )
    shown = _named(scales)
    sources = None if data is None else [data] if isinstance(data, str) else list(data)
    data_settings = {"data.sources": sources, "data.range": grey_range, "data.patient_pattern": patient_pattern}
    config = load_study(study, data_settings | {"data.exclude": list(exclude) if exclude else None})
    # Only a fixed subset of a large folder is decoded; the seed chooses among it.
    few = min(config.data.max_images or MOST_DECODED, max(MOST_DECODED, images))
    data_config = config.data.model_copy(update={"max_images": few})
    cache = build_cache(data_config, cache_root=cache_root, allow_bad=allow_bad, on_progress=on_progress)
    # A preview trains nothing and shows what is wrong, so findings are reported and not refused.
    sanity = check_images(cache, allow_bad=True)
    generator = np.random.default_rng(derive_seed(seed, "preview"))
    count = min(images, len(cache.images))
    rows = np.sort(generator.choice(len(cache.images), size=count, replace=False))
    ids = tuple(cache.records[row].image_id for row in rows)
    sheet = contact_sheet(
        np.asarray(cache.images[rows]), shown, config.crops, seed=seed, views_per_image=views_per_image, labels=ids
    )
    _save(sheet, target)
    return PreviewResult(
        path=target,
        scales=shown,
        image_ids=ids,
        ranges=tuple(cache.levels.facts()),
        remarks=tuple(file_lines(cache, sanity)),
        local_crops=config.draws_local_crops,
    )


def _named(scales: Sequence[str]) -> dict[str, AugmentationScales]:
    if isinstance(scales, str):
        scales = (scales,)
    if not scales:
        raise ConfigError("preview: no scales given; expected names such as strong,weak or a .toml card")
    return {str(name): load_scales(name) for name in scales}


def _writable(path: Path) -> Path:
    from PIL import Image

    if path.suffix.lower() not in Image.registered_extensions():
        raise ConfigError(f"{path}: {path.suffix or 'no ending'} is not an image format; expected .png, .jpg or .webp")
    return path


def _save(sheet: Any, target: Path) -> None:
    from PIL import Image

    image_format = Image.registered_extensions()[target.suffix.lower()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({error.strerror or error})") from None
    write_atomic(
        target,
        lambda file: sheet.save(file, format=image_format, **save_options(image_format)),
        error_type=ConfigError,
    )
