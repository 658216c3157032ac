"""Settings of pre-training in a study file: the method, its recipe, and how its steps are computed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from augscale.settings import Settings
from augscale.system.memory import parse_size

Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]

METHOD_NAMES = {"dino": "DINO", "simclr": "SimCLR", "mocov3": "MoCo v3", "dinov2": "DINOv2"}
"""Names of the methods in text."""
TWO_VIEW_METHODS = ("simclr", "mocov3")
"""Methods without local views."""


class PretrainConfig(Settings):
    """Method and recipe of pre-training. Defaults are those of official DINO (Caron et al. 2021) if it states them."""

    method: Literal["dino", "simclr", "mocov3", "dinov2"] = "dino"
    """Method of pre-training, see docs/methods.md."""
    steps: Annotated[int, Field(ge=1)] = 1000
    """Optimizer steps of a complete trial."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images per optimizer step, all processes and micro-batches together."""
    lr: Annotated[float, Field(ge=0)] = 5e-4
    """Peak learning rate for a batch of 256 images (see `lr_scaling`); 0, with `min_lr = 0`, switches learning off, as
    in the null of a search."""
    lr_scaling: bool = True
    """Multiply `lr` by batch_size / 256; `min_lr` is never scaled."""
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    """Learning rate at which the cosine schedule ends; at most `lr`."""
    warmup_fraction: Fraction = 0.1
    """Share of the steps in which the learning rate rises linearly to its peak (official: 10 of 100 epochs)."""
    head_warmup_fraction: Fraction = 0.0
    """Share of the steps, from the first, in which only the head is trained, for a start from weights: the backbone
    keeps its parameters, without gradients and weight decay, and its batch norm goes on as `batch_norm` says. Then the
    backbone's learning rate rises from 0 in as many steps as the head's did."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from each layer of the backbone to the one below it (BEiT: 0.65 to 0.95, DINOv2:
    0.9); the head has the whole rate, the last layer `layer_decay` times it. 1 is the same rate everywhere."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.04
    """Weight decay at the first step; it follows a cosine to `weight_decay_end`."""
    weight_decay_end: Annotated[float, Field(ge=0)] = 0.4
    """Weight decay at the last step."""
    teacher_momentum: Fraction = 0.996
    """Weight of the old teacher in the moving average at the first step; a cosine leads to `teacher_momentum_end`."""
    teacher_momentum_end: Fraction = 1.0
    """Weight of the old teacher in the moving average at the last step; at least `teacher_momentum`."""
    student_temp: Annotated[float, Field(gt=0)] = 0.1
    """Softmax temperature of the student."""
    teacher_temp_start: Annotated[float, Field(gt=0)] = 0.04
    """Softmax temperature of the teacher at the first step of its warm-up."""
    teacher_temp: Annotated[float, Field(gt=0)] = 0.04
    """Softmax temperature of the teacher after its warm-up."""
    teacher_temp_warmup_fraction: Fraction = 0.0
    """Share of the steps in which the teacher temperature moves linearly to `teacher_temp`."""
    center_momentum: Fraction = 0.9
    """Weight of the old center in the moving average of the teacher outputs."""
    out_dim: Annotated[int, Field(ge=2)] = 65536
    """Number of outputs of the projection head."""
    head_hidden_dim: Annotated[int, Field(ge=1)] = 2048
    """Width of the hidden layers of the projection head."""
    head_bottleneck_dim: Annotated[int, Field(ge=1)] = 256
    """Width of the bottleneck of the projection head, the input of its last layer."""
    head_batch_norm: bool = False
    """Use batch norm in the projection head; it helps short runs to leave the loss plateau at ln(out_dim)."""
    batch_norm: Literal["train", "frozen"] = "train"
    """Batch norm of the backbone: "train" normalizes with the statistics of the batch, as the official code does;
    "frozen" keeps the statistics of a pre-trained start."""
    norm_last_layer: bool = True
    """Fix the weight norm of the head's last layer at 1 (official advice: false for ViT-S)."""
    freeze_last_layer_fraction: Fraction = 0.01
    """Share of the steps, from the first, in which the head's last layer is not updated (official: 1 of 100 epochs)."""
    dino_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss of class tokens in `dinov2`."""
    ibot_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss of masked patches in `dinov2`; 0 switches it off, as networks without patch tokens need it."""
    koleo_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the spread of class tokens (KoLeo) in `dinov2`; 0 switches it off."""
    sinkhorn_iterations: Annotated[int, Field(ge=0, le=20)] = 3
    """Iterations of Sinkhorn-Knopp that assign the targets of `dinov2`; 0 uses a moving center as `dino` does."""
    mask_ratio: Range = (0.1, 0.5)
    """Range of the share of patches that are masked in a masked view of `dinov2`."""
    mask_probability: Fraction = 0.5
    """Share of the global views that are masked in `dinov2`."""
    contrast_temp: Annotated[float, Field(gt=0)] = 0.2
    """Temperature of the losses of `simclr` (Chen et al. 2020: 0.1) and `mocov3` (Chen, Xie and He 2021: 0.2)."""
    projection_dim: Annotated[int, Field(ge=2)] = 256
    """Number of outputs of the projector of `simclr` and `mocov3`; its hidden layers have `head_hidden_dim` units."""
    projection_layers: Annotated[int, Field(ge=1, le=4)] = 3
    """Number of layers of that projector (SimCLR: 2, version 2: 3; MoCo v3: 3 for ViTs, 2 for ResNets)."""
    freeze_patch_projection: bool = True
    """Keep the initial patch projection of a ViT in `mocov3`, which makes its training stable."""
    pair_weighting: Literal["none", "hard"] = "none"
    """Weights of pairs in the loss: "none" weighs all alike; "hard" weighs near negatives and far positives more."""
    pair_strength: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Strength of "hard": 0 is "none" (beta of Robinson et al. 2021)."""
    negative_prior: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a negative shows the same as the anchor, which "hard" subtracts (tau+ of Chuang et al. 2020)."""
    natural_positives: bool = False
    """Take the second global view, and every second local one, from another photograph of the same patient if there is
    one: the other eye, or another visit."""
    clip_grad: Annotated[float, Field(ge=0)] = 3.0
    """Largest L2 norm of each parameter tensor's gradient; 0 switches clipping off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic; "auto" is bf16 autocast on GPUs and on CPUs with native bf16 arithmetic, else fp32."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Use of torch.compile on GPUs; "auto" compiles runs of 700 or more steps if torch can. Changes rounding only."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Longest time between two saves of the resumable state, in seconds; every rung saves it, too."""
    max_memory: str | None = None
    """Memory that each process may use, e.g. "8GB": GPU memory, or main memory on a CPU; if not set, what is free. It
    determines the number of micro-batches per step."""

    @property
    def head_warmup_steps(self) -> int:
        """Steps in which only the head is trained."""
        return round(self.head_warmup_fraction * self.steps)

    @property
    def has_prototypes(self) -> bool:
        """True if the head has `out_dim` prototypes, i.e. the method belongs to the DINO family."""
        return self.method not in TWO_VIEW_METHODS

    @property
    def multi_crop(self) -> bool:
        """True if the method takes local views besides the two global ones."""
        return self.method not in TWO_VIEW_METHODS

    @field_validator("max_memory")
    @classmethod
    def _is_a_size(cls, max_memory: str | None) -> str | None:
        if max_memory is not None:
            parse_size(max_memory)
        return max_memory

    @model_validator(mode="after")
    def _dinov2_has_a_loss(self) -> PretrainConfig:
        if self.method == "dinov2" and self.dino_weight == self.ibot_weight == 0:
            raise ValueError("dino_weight = ibot_weight = 0 leaves nothing to predict; expected one of them above 0")
        if self.method == "dinov2" and self.ibot_weight and not self.mask_probability * self.mask_ratio[1]:
            raise ValueError(
                f"ibot_weight = {self.ibot_weight:g} needs masked patches; expected mask_probability and mask_ratio "
                "above 0, or ibot_weight = 0"
            )
        return self

    @field_validator("mask_ratio")
    @classmethod
    def _shares_rise(cls, ratio: Range) -> Range:
        if not 0 <= ratio[0] <= ratio[1] <= 1:
            raise ValueError(f"{list(ratio)} is not accepted; expected [low, high] with 0 <= low <= high <= 1")
        return ratio

    @model_validator(mode="after")
    def _prior_of_weighted_pairs(self) -> PretrainConfig:
        if self.negative_prior and self.has_prototypes:
            raise ValueError(f'negative_prior = {self.negative_prior:g}: method = "{self.method}" has no negatives')
        if self.negative_prior and self.pair_weighting == "none":
            raise ValueError(
                f'negative_prior = {self.negative_prior:g} belongs to pair_weighting = "hard"; found "none"'
            )
        return self

    @model_validator(mode="after")
    def _backbone_has_steps(self) -> PretrainConfig:
        if self.head_warmup_steps >= self.steps:
            raise ValueError(
                f"head_warmup_fraction = {self.head_warmup_fraction:g} of steps = {self.steps} leaves no step for the "
                "backbone; expected less"
            )
        return self

    @model_validator(mode="after")
    def _ordered(self) -> PretrainConfig:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr = {self.min_lr} is above lr = {self.lr}; expected min_lr <= lr")
        if self.teacher_momentum > self.teacher_momentum_end:
            raise ValueError(
                f"teacher_momentum = {self.teacher_momentum} is above teacher_momentum_end = "
                f"{self.teacher_momentum_end}; expected start <= end <= 1"
            )
        return self


def method_overrides(method: str | None) -> dict[str, Any]:
    """The settings that `--method` stands for, by dotted key: a method of two views makes no local ones."""
    if method is None:
        return {}
    return {"pretrain.method": method} | ({"crops.n_local": 0} if method in TWO_VIEW_METHODS else {})
