"""DINO as a method (Caron et al. 2021): a student learns the centered and sharpened outputs of its moving average.

Targets are compared with the student image by image, so parts are independent. What the loss takes from the batch, the
center, is that of the previous steps; it moves once per step, by the mean over all parts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from augscale.config import StudyConfig
from augscale.networks.backbones import Backbone
from augscale.networks.head import DINOHead
from augscale.pretrain_config import PretrainConfig
from augscale.pretraining.dino import (
    NUM_GLOBAL,
    dino_loss,
    information_of_shards,
    mean_entropy,
    teacher_probabilities,
    updated_center,
    weighted_dino_loss,
)
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.method import Method, Part, StepFacts, Tensors
from augscale.pretraining.pair_weights import PairWeighting
from augscale.pretraining.schedules import StepValues
from augscale.seeding import derive_seed


class DINO(Method):
    """DINO with multi-crop; `state` holds the center, float32, shape (K,)."""

    name = "dino"
    has_teacher = True
    whole_batch = False

    def __init__(self, study: StudyConfig, backbone: Backbone, seed: int, device: torch.device) -> None:
        super().__init__(study, backbone, seed, device)
        self.state = {"center": torch.zeros(study.pretrain.out_dim, device=device)}

    @classmethod
    def check(cls, study: StudyConfig, backbone: Backbone) -> None:
        """DINO reads the embedding only, so any backbone fits."""

    @classmethod
    def network(cls, study: StudyConfig, backbone: Backbone, seed: int, *, student: bool) -> HeadedNetwork:
        head = prototype_head(study, backbone.embed_dim, derive_seed(seed, "head"))
        return HeadedNetwork(backbone, head, frozen_batch_norm=study.pretrain.batch_norm == "frozen")

    @classmethod
    def chance_loss(cls, study: StudyConfig) -> float | None:
        """ln K: every prototype is equally likely."""
        return math.log(study.pretrain.out_dim)

    def targets(self, teacher: HeadedNetwork, part: Part) -> Tensors:
        logits: Tensor = teacher(part.views.global_crops)
        return {"logits": logits.unflatten(0, (NUM_GLOBAL, -1))}

    def outputs(self, student: nn.Module, part: Part) -> Tensors:
        logits: Tensor = student(part.views.global_crops, part.views.local_crops, draws=part.draws)
        return {"logits": logits.unflatten(0, (-1, part.num_images))}

    def loss(self, outputs: Tensors, targets: Tensors, facts: StepFacts) -> tuple[Tensor, Tensors]:
        logits = targets["logits"].flatten(0, 1)
        probs = teacher_probabilities(logits, self.state["center"], facts.values.teacher_temp)
        student = outputs["logits"].flatten(0, 1)
        loss = pair_loss(student, probs, self.recipe, compiled=facts.compiled)
        statistics = {"loss": loss.detach(), "teacher_logits": logits.mean(dim=0)}
        if facts.logged:
            statistics |= {"teacher_entropy": mean_entropy(probs), "teacher_probs": probs.mean(dim=0)}
        return loss, statistics

    def next_state(self, means: Tensors) -> Tensors:
        return {
            "center": updated_center(self.state["center"], means["teacher_logits"], self.recipe.center_momentum),
        }

    def withheld(self, student: HeadedNetwork, values: StepValues) -> list[nn.Parameter]:
        assert isinstance(student.head, DINOHead)
        return list(student.head.last_layer.parameters()) if values.last_layer_frozen else []

    def information(self, means: Tensors) -> float:
        """Mutual information of image and teacher output, see `dino.information`."""
        return float(information_of_shards(means["teacher_probs"], means["teacher_entropy"]))

    def schedules(self, values: StepValues) -> dict[str, float]:
        temps = {"teacher_temp": values.teacher_temp, "student_temp": self.recipe.student_temp}
        return super().schedules(values) | temps

    def described(self, values: StepValues) -> str:
        return f"{super().described(values)}, teacher_temp {values.teacher_temp:g}"


def pair_loss(student_logits: Tensor, teacher_probs: Tensor, recipe: PretrainConfig, *, compiled: bool) -> Tensor:
    """DINO's loss with the weights of pairs that the settings name; arguments as for `dino_loss`."""
    strength = PairWeighting.of(recipe).strength
    if strength:
        return weighted_dino_loss(student_logits, teacher_probs, recipe.student_temp, strength)
    return dino_loss(student_logits, teacher_probs, recipe.student_temp, compiled=compiled)


def prototype_head(study: StudyConfig, embed_dim: int, seed: int, *, of_patches: bool = False) -> DINOHead:
    """The head of the study's sizes, with random weights.

    Args:
        of_patches: the head of masked patches, which never has batch norm: a part of a batch may have a single one.
    """
    recipe = study.pretrain
    return DINOHead(
        embed_dim,
        recipe.out_dim,
        hidden_dim=recipe.head_hidden_dim,
        bottleneck_dim=recipe.head_bottleneck_dim,
        batch_norm=recipe.head_batch_norm and not of_patches,
        norm_last_layer=recipe.norm_last_layer,
        seed=seed,
    )
