"""augscale: finds the augmentation scales for self-supervised pre-training on your own medical images.

The names below are loaded on first use, so that `import augscale` and `augscale --help` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AugmentationScales": "augscale.augmentation.scales",
    "load_scales": "augscale.augmentation.scales",
    "StudyConfig": "augscale.config",
    "load_study": "augscale.config",
    "MultiCropViews": "augscale.augmentation.views",
    "pretrain": "augscale.pretraining.loop",
    "pretrain_full": "augscale.pretraining.full",
    "export_weights": "augscale.pretraining.export",
    "separation": "augscale.diagnosis.separation",
    "search": "augscale.searching.api",
    "SearchResult": "augscale.searching.api",
    "preview": "augscale.previews",
    "diagnose": "augscale.diagnosis.api",
    "Diagnosis": "augscale.diagnosis.result",
    "evaluate": "augscale.evaluation.api",
    "promote": "augscale.searching.promote",
    "validate": "augscale.validation.api",
    "Validation": "augscale.validation.result",
    "rank_correlation": "augscale.validation.ranking",
    "load_checkpoint": "augscale.pretraining.checkpoints",
    "export_scales": "augscale.augmentation.export",
    "AugscaleError": "augscale.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'augscale' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
