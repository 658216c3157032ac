"""The paper's six labelled retinal datasets: what they are, preparing a download, checking what was prepared."""

from augscale.data.retinal.check import CheckResult, Finding, check
from augscale.data.retinal.listing import DatasetStatus, list_datasets, missing_text
from augscale.data.retinal.prepare import SPLIT_KINDS, prepare
from augscale.data.retinal.prepared import Prepared, default_data_root, read_prepared
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
