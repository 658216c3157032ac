"""What a user of lightly-train gives it to train DINO as a study says: a folder of images, and arguments.

Nothing here needs lightly-train; the call itself is `lightly_train_call`. Written against lightly-train 0.18.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from augscale.config import StudyConfig
from benchmarks.official_recipe import timm_options


def link_images(files: list[Path], folder: Path, number: int) -> None:
    """Fills a folder with links to the files, each as often as it takes.

    With as many images as a call trains on, no epoch ends (and nothing is saved) between its steps.
    """
    folder.mkdir(parents=True)
    for index in range(number):
        file = files[index % len(files)]
        (folder / f"{index:07d}{file.suffix}").symlink_to(file.resolve())


def pretrain_arguments(config: StudyConfig) -> dict[str, Any]:
    """What the study says, in lightly-train's words; the scales are DINO's, as in the other loops."""
    crops, recipe = config.crops, config.pretrain
    transform: dict[str, Any] = {
        "image_size": (crops.global_size, crops.global_size),
        "random_resize": {"min_scale": 0.4, "max_scale": 1.0},
        "local_view": None,
    }
    if crops.n_local:
        transform["local_view"] = {
            "num_views": crops.n_local,
            "view_size": (crops.local_size, crops.local_size),
            "random_resize": {"min_scale": 0.05, "max_scale": 0.4},
        }
    return {
        "model": f"timm/{config.backbone.name}",
        "model_args": timm_options(config),
        "method": "dino",
        "method_args": {
            "hidden_dim": recipe.head_hidden_dim,
            "bottleneck_dim": recipe.head_bottleneck_dim,
            "output_dim": recipe.out_dim,
            "batch_norm": recipe.head_batch_norm,
            "norm_last_layer": recipe.norm_last_layer,
        },
        "optim": "adamw",
        "batch_size": recipe.batch_size,
        "transform_args": transform,
    }
