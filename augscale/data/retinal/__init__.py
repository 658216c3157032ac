"""The paper's six labelled retinal datasets: registry, preparation of a download, check of a prepared dataset."""

from augscale.data.retinal.check import CheckResult, Finding, check
from augscale.data.retinal.prepare import SPLIT_KINDS, prepare
from augscale.data.retinal.prepared import (
    DatasetStatus,
    Prepared,
    default_data_root,
    list_datasets,
    missing_text,
    read_prepared,
)
from augscale.data.retinal.registry import NAMES, REGISTRY, RetinalDataset, find_dataset, get_dataset

__all__ = [
    "NAMES",
    "REGISTRY",
    "SPLIT_KINDS",
    "CheckResult",
    "DatasetStatus",
    "Finding",
    "Prepared",
    "RetinalDataset",
    "check",
    "default_data_root",
    "find_dataset",
    "get_dataset",
    "list_datasets",
    "missing_text",
    "prepare",
    "read_prepared",
]
