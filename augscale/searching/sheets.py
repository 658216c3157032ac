"""Contact sheets of a finished search: the same photographs at strong, weak and the best scales."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import StudyConfig
from augscale.data.cache import open_cache
from augscale.reporting.shared.contact_sheet import contact_sheet
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.scoring.panel import panel_split

IMAGES_SHOWN = 4


def contact_sheets(run: RunFolder, config: StudyConfig, answer: dict[str, Any]) -> dict[str, bytes]:
    """One PNG per scale, by name; every sheet shows the same held-out photographs.

    Returns:
        PNG bytes for strong, weak and the best scales (once, where the best is one of those, or where there is none).
    """
    cache = open_cache(Path(read_json(run.manifest_file)["cache"]))
    _, held_out = panel_split(cache, config)
    images = np.asarray(cache.images[np.sort(held_out[:IMAGES_SHOWN])])
    scales = {name: load_scales(name) for name in ("strong", "weak")}
    for contender in answer["contenders"]:
        if contender["name"] == answer["best"]:
            scales[contender["name"]] = AugmentationScales.model_validate(contender["scales"])
    sheets = {}
    for name, value in scales.items():
        buffer = io.BytesIO()
        contact_sheet(images, {name: value}, config.crops).save(buffer, format="PNG")
        sheets[name] = buffer.getvalue()
    return sheets
