"""Studies of every method whose training takes milliseconds."""

from __future__ import annotations

from typing import Any

from tiny_runs import tiny_study

from augscale.config import StudyConfig
from augscale.pretraining.methods import METHODS as ALL

METHODS = list(ALL)
TWO_VIEWS = ("simclr", "mocov3")


def method_study(method: str, *, backbone: dict[str, Any] | None = None, **pretrain: Any) -> StudyConfig:
    """Four steps of eight images each."""
    recipe = {"method": method, "steps": 4, "batch_size": 8, "projection_dim": 8, "clip_grad": 0.0}
    vit = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    backbone = {"overrides": vit} | (backbone or {})
    crops = {"n_local": 0 if method in TWO_VIEWS else 1}
    return tiny_study(backbone=backbone, crops=crops, **(recipe | pretrain))
