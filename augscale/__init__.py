"""augscale: finds the augmentation scales for self-supervised pre-training on your own medical images.

The names below are loaded on first use, so that `import augscale` and `augscale --help` stay fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "AugmentationScales": "augscale.augmentation.scales",
    "load_scales": "augscale.augmentation.scales",
    "StudyConfig": "augscale.config",
    "load_study": "augscale.config",
    "MultiCropViews": "augscale.augmentation.views",
    "pretrain": "augscale.pretraining.loop",
    "pretrain_full": "augscale.promotion.full_run",
    "export_weights": "augscale.networks.export_weights",
    "separation": "augscale.scoring.separation",
    "search": "augscale.searching.search",
    "SearchResult": "augscale.searching.search",
    "plan_search": "augscale.searching.dry_run",
    "compare_runs": "augscale.searching.compare_runs",
    "preview": "augscale.cli.preview",
    "diagnose": "augscale.diagnosis.diagnose",
    "Diagnosis": "augscale.diagnosis.result",
    "evaluate": "augscale.evaluation.evaluate",
    "promote": "augscale.promotion.promote",
    "validate": "augscale.validation.validate",
    "Validation": "augscale.validation.result",
    "rank_correlation": "augscale.statistics.ranking",
    "load_checkpoint": "augscale.networks.checkpoints",
    "export_scales": "augscale.augmentation.export_scales",
    "AugscaleError": "augscale.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'augscale' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
