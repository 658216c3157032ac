"""A data root, a study and settings in miniature: the whole chain in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

STUDY = """
name = "tiny-evidence"
[data]
cache_size = 32
[backbone]
name = "resnet10t"
overrides = { channels = [8, 8, 16, 16], stem_width = 8 }
drop_path = 0.0
[crops]
global_size = 32
n_local = 1
local_size = 16
[pretrain]
steps = 4
batch_size = 8
lr = 1e-3
lr_scaling = false
out_dim = 32
head_hidden_dim = 32
head_bottleneck_dim = 16
head_batch_norm = true
precision = "fp32"
checkpoint_seconds = 0
[probe]
images = 12
"""
MEASURE = """
statistics = "common"
view_size = 32
crop_source_size = 32
large_panel_size = 48
datasets = ["eyes", "synthetic_lesions", "eyes_grey"]
early_datasets = ["eyes"]
natural_pairs = ["eyes"]
released_datasets = ["eyes"]
released_epochs = 3
released_seeds = 2
pretrain_folders = ["eyes"]
draws = 10
lesion_patients = 60
grey_images = 50
folds = 3
repeats = 2
neighbours = [3, 5]
label_datasets = ["eyes"]
label_sizes = [10, 20, 100]
label_draws = 5
"""


def write_tiny(folder: Path) -> tuple[Path, Path, Path]:
    """Writes 60 images of 30 patients in two classes.

    Returns:
        The data root, the study file and the settings file.
    """
    eyes = folder / "root" / "eyes"
    eyes.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels, meta = ["file,label,split"], ["file,patient"]
    for number in range(60):
        patient, kind = number // 2, number // 2 % 2
        image = rng.integers(0, 120, size=(36, 36, 3), dtype=np.uint8)
        image[8:28, 8:28, kind] += 90
        Image.fromarray(image).save(eyes / f"{number:02d}.png")
        split = "train" if patient < 18 else "val" if patient < 23 else "test"
        labels.append(f"{number:02d}.png,{'ab'[kind]},{split}")
        meta.append(f"{number:02d}.png,{patient}")
    (eyes / "labels.csv").write_text("\n".join(labels) + "\n")
    (eyes / "meta.csv").write_text("\n".join(meta) + "\n")
    (folder / "study.toml").write_text(STUDY)
    (folder / "measure.toml").write_text(MEASURE)
    return folder / "root", folder / "study.toml", folder / "measure.toml"
