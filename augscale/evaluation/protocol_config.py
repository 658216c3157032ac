"""Settings of the four evaluation protocols; the defaults are those of the papers and scripts they follow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from augscale.settings import Settings

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class KnnConfig(Settings):
    """Weighted nearest neighbours as in DINO (Caron et al. 2021)."""

    temperature: Positive = 0.07
    neighbours: Annotated[tuple[Count, ...], Field(min_length=1)] = (5, 10, 20, 50)
    """Candidates; the choice is made on validation images."""

    @field_validator("neighbours")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"neighbours = {list(value)}: expected rising numbers")
        return value


class LinearConfig(Settings):
    """Multinomial logistic regression on standardized features."""

    inverse_penalties: Annotated[tuple[Positive, ...], Field(min_length=1)] = tuple(
        float(f"{10 ** (exponent / 2):.3g}") for exponent in range(-10, 5)
    )
    """Candidates for C of scikit-learn, 1e-5 to 100, two per decade; the choice is made on validation images."""
    tolerance: Positive = 1e-6
    """Largest entry of the mean loss's gradient at convergence."""
    max_iterations: Count = 5000
    bootstrap: bool = False
    """Train every seed on its own resample of the training patients. Without it the seed has no effect."""

    @field_validator("inverse_penalties")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"inverse_penalties = {list(value)}: expected rising numbers")
        return value


class ReleasedConfig(Settings):
    """The script that the paper's authors released."""

    epochs: Count = 50
    batch_size: Count = 16
    lr: Positive = 1e-3
    """For a batch of 256; scaled by batch_size / 256, which gives 6.25e-5 by default."""
    momentum: Fraction = 0.9
    draws: Count = 10
    """Random crops of each training image, computed once and used in a new order every `draws` epochs; the authors draw
    a new crop every epoch."""


class FinetuneConfig(Settings):
    """RETFound's recipe (repository of November 2025)."""

    epochs: Count = 50
    batch_size: Count = 24
    lr: Positive = 5e-3
    """For a batch of 256; scaled by batch_size / 256."""
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    warmup_fraction: Fraction = 0.2
    """Share of the epochs with linearly growing learning rate (RETFound: 10 of 50)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.65
    drop_path: Fraction = 0.2
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """"auto": bf16 autocast on GPUs and on CPUs with native bf16 arithmetic, else fp32."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that augment images; 0 augments in this one. No effect on results."""


class ProtocolConfig(Settings):
    """Every setting of the protocols."""

    view_size: Annotated[int, Field(ge=8)] = 224
    """Side of the views, pixels."""
    seeds: Count = 5
    """Repeats, with seeds 0, 1, ..., of the protocols that depend on the seed."""
    feature_precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Precision of frozen features."""
    feature_batch_size: Count = 64
    knn: KnnConfig = KnnConfig()
    linear: LinearConfig = LinearConfig()
    released: ReleasedConfig = ReleasedConfig()
    finetune: FinetuneConfig = FinetuneConfig()
