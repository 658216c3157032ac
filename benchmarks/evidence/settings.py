"""What is measured of every run: datasets, sizes, protocols. The study file says how runs are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from augscale.settings import Settings, parse_settings, read_toml
from benchmarks.evidence.plan import Plan

DEFAULT_FILE = Path(__file__).with_name("measure.toml")
LESIONS = "synthetic_lesions"
"""Name of the controlled dataset, see `lesions`."""
GREY = "_grey"
"""Ending of the name of a dataset seen without colour and illumination, e.g. aptos2019_grey."""

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Layer = Literal["embedding", "earlier", "bottleneck"]


class MeasureSettings(Settings):
    """Settings of the measurements."""

    plan: Plan = "scratch"
    """Which runs there are, see `plan`; `--plan` of a command chooses another one."""
    statistics: Literal["own", "common"] = "own"
    """Which batch norm statistics networks are measured with: "own", gathered on the views that each was trained on, as
    until 2026-11-27, or "common", gathered anew on the same images for all."""
    view_size: Annotated[int, Field(ge=16)] = 64
    """Side of the whole images that outcomes are measured on, pixels."""
    crop_source_size: Annotated[int, Field(ge=16)] = 96
    """Side of the images that `released` draws its crops from, pixels."""
    features: tuple[Layer, ...] = ("embedding",)
    """Layers whose outputs, side by side, the outcomes are measured on."""
    datasets: tuple[str, ...] = ("aptos2019", "odir3", "srahim_dr", "palm", LESIONS, "aptos2019_grey")
    """Folders of the data root, the controlled dataset, and any of them seen without colour (`_grey`)."""
    early_datasets: tuple[str, ...] = ()
    """Datasets that are also measured at rungs before the last."""
    large_panel_size: Annotated[int, Field(ge=16)] | None = None
    """Side of the panel's ladder views drawn once more at another size, at the last rung only; None: not at all."""
    grey_images: Annotated[int, Field(ge=50)] | None = None
    """Use so many images of a dataset seen without colour, whole patients; None: all."""
    protocols: Annotated[tuple[Literal["linear", "knn", "cv"], ...], Field(min_length=1)] = ("linear", "knn", "cv")
    """Outcomes to measure, see `outcomes`; the tables of the study need all."""
    natural_pairs: tuple[str, ...] = ("odir3", "srahim_dr")
    """Datasets whose patients' two eyes are natural positive pairs."""
    released_datasets: tuple[str, ...] = ("aptos2019", "odir3", "srahim_dr", "palm")
    released_draws: Count = 1
    """Random crops of each training image; the authors draw a new one in every epoch."""
    released_seeds: Count = 3
    released_epochs: Count = 50
    inverse_penalties: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """C of `linear`, chosen on validation."""
    tolerance: float = 1e-4
    """Of the logistic regression's gradient."""
    neighbours: tuple[int, ...] = (5, 10, 20, 50)
    folds: Annotated[int, Field(ge=2)] = 5
    repeats: Count = 3
    """Of the cross-validation."""
    draws: Annotated[int, Field(ge=0)] = 200
    """Resamples of the labelled images, the same for every run."""
    label_datasets: tuple[str, ...] = ()
    """Datasets on which scores from few labels are computed, see `label_draws`; of `datasets`."""
    label_sizes: tuple[Annotated[int, Field(ge=10)], ...] = (10, 25, 50, 100, 200)
    """Numbers of labelled images that such a score is given."""
    label_draws: Count = 50
    """How often so many are drawn."""
    lesion_patients: Count = 500
    """Of the controlled dataset; about 70 % of them have an eye with a usable grade."""
    pretrain_folders: tuple[str, ...] = ("aptos2019", "odir3", "srahim_dr", "palm", "pool")
    """Folders of the data root whose training images are pre-trained on, unlabelled. Images that no table assigns to a
    split (the pool's) are left out by `data.splits`."""
    panel_precision: Literal["bf16", "fp32"] = "bf16"
    """Of the panel's embeddings and of the crops of `released`; bf16 moves a pair AUROC by about 0.0003."""
    outcome_precision: Literal["bf16", "fp32"] = "fp32"
    """Of the features that outcomes are measured on. bf16 would not do: its rounding hides what little the features of
    an untrained network differ by (AUROC .768 instead of .783 on odir3), which flatters pre-training."""


def load_settings(path: Path | None) -> MeasureSettings:
    """Reads a settings file, by default the one of the study.

    Raises:
        ConfigError: the file or a value is wrong.
    """
    path = path or DEFAULT_FILE
    return parse_settings(MeasureSettings, read_toml(path), str(path))
