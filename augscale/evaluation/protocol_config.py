"""Settings of the four evaluation protocols. Defaults are those of the papers and scripts that they follow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from augscale.settings import Settings

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class KnnConfig(Settings):
    """Weighted nearest neighbors as in DINO (Caron et al. 2021)."""

    temperature: Positive = 0.07
    """Temperature of the votes: a neighbor weighs exp(cosine similarity / temperature)."""
    neighbours: Annotated[tuple[Count, ...], Field(min_length=1)] = (5, 10, 20, 50)
    """Numbers of neighbors k, rising; the one with the highest macro AUROC on the validation images is used."""

    @field_validator("neighbours")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"neighbours = {list(value)}: expected rising numbers")
        return value


class LinearConfig(Settings):
    """Logistic regression on standardized features, multinomial for more than two classes."""

    inverse_penalties: Annotated[tuple[Positive, ...], Field(min_length=1)] = tuple(
        float(f"{10 ** (exponent / 2):.3g}") for exponent in range(-10, 5)
    )
    """Values of scikit-learn's C, rising; the one with the highest macro AUROC on the validation images is used. The
    default has two per decade."""
    tolerance: Positive = 1e-6
    """Largest entry of the mean loss's gradient at which the fit counts as converged."""
    max_iterations: Count = 5000
    """Largest number of iterations for each value of C."""
    bootstrap: bool = False
    """Train each seed on its own resample of the training patients; without it, the seed changes nothing."""

    @field_validator("inverse_penalties")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"inverse_penalties = {list(value)}: expected rising numbers")
        return value


class ReleasedConfig(Settings):
    """A linear layer, trained as in the script that the paper's authors released."""

    epochs: Count = 50
    """Number of epochs."""
    batch_size: Count = 16
    """Images per step."""
    lr: Positive = 1e-3
    """Learning rate for a batch of 256 images; scaled by batch_size / 256, to 6.25e-5 at the default batch size."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    draws: Count = 10
    """Number of random crops of each training image, computed once and used in a new order every `draws` epochs; the
    authors draw a new crop every epoch."""


class FinetuneConfig(Settings):
    """Training of the whole network with RETFound's recipe (repository of November 2025)."""

    epochs: Count = 50
    """Number of epochs."""
    batch_size: Count = 24
    """Images per step."""
    lr: Positive = 5e-3
    """Peak learning rate for a batch of 256 images; scaled by batch_size / 256."""
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    """Learning rate at which the cosine schedule ends."""
    warmup_fraction: Fraction = 0.2
    """Share of the epochs in which the learning rate rises linearly from 0 to its peak (RETFound: 10 of 50)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Weight decay of AdamW."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.65
    """Factor on the learning rate from each layer to the one below it."""
    drop_path: Fraction = 0.2
    """Rate of stochastic depth."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic; "auto" is bf16 autocast on GPUs and on CPUs with native bf16 arithmetic, else fp32."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Number of processes that augment images; 0 augments in the main process. Changes no result."""


class ProtocolConfig(Settings):
    """Settings of all protocols."""

    view_size: Annotated[int, Field(ge=8)] = 224
    """Side of the views, in pixels. `evaluate` uses the view size of the first checkpoint if this is not set."""
    seeds: Count = 5
    """Number of repeats, with seeds 0, 1, ..., of the protocols that depend on a seed."""
    feature_precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of frozen features; "auto" as in `finetune.precision`. bf16 moves AUROC by up to .02, so it
    is not the default."""
    feature_batch_size: Count = 64
    """Images per forward pass of the frozen network; on a CPU at most 16."""
    knn: KnnConfig = KnnConfig()
    linear: LinearConfig = LinearConfig()
    released: ReleasedConfig = ReleasedConfig()
    finetune: FinetuneConfig = FinetuneConfig()
