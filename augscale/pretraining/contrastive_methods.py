"""SimCLR and MoCo v3 as methods: two global views of every image, and the other images of the batch as negatives."""

from __future__ import annotations

import math

from torch import Tensor, nn

from augscale.config import StudyConfig
from augscale.networks.backbones import Backbone
from augscale.networks.projection_head import PredictorHead, ProjectionHead
from augscale.pretraining.contrastive import nt_xent, symmetric_info_nce
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.method import Method, Part, StepFacts, Tensors
from augscale.pretraining.pair_weights import PairWeighting
from augscale.seeding import derive_seed

NUM_VIEWS = 2
_PREDICTOR_LAYERS = 2
_MATRICES = 8
"""Number of matrices of all candidates that the loss and its gradient hold at once."""


class _Contrastive(Method):
    """What both methods share. The sign of collapse is `contrastive.information`."""

    whole_batch = True

    @classmethod
    def check(cls, study: StudyConfig, backbone: Backbone) -> None:
        """A projection of the embedding is all that is read, so any backbone fits."""

    def outputs(self, student: nn.Module, part: Part) -> Tensors:
        projections: Tensor = student(part.views.global_crops, draws=part.draws)
        return {"projections": projections.unflatten(0, (NUM_VIEWS, -1))}

    def information(self, means: Tensors) -> float:
        return float(means["information"])

    def kept_bytes(self, images: int) -> int:
        rows = NUM_VIEWS * self.recipe.batch_size
        return 4 * rows * (_MATRICES * rows + 3 * self.recipe.projection_dim)

    def _objective(self, loss: Tensor, told: Tensor, facts: StepFacts) -> tuple[Tensor, Tensors]:
        # Every process differentiates the whole loss with respect to its own projections only. The loss's gradient is
        # the sum over processes, and gradients are averaged over them.
        statistics = {"loss": loss.detach(), "information": told}
        return loss * facts.context.world_size, statistics


class SimCLR(_Contrastive):
    """NT-Xent over both views of the batch of all processes (Chen et al. 2020); there is no second network."""

    name = "simclr"
    has_teacher = False

    @classmethod
    def network(cls, study: StudyConfig, backbone: Backbone, seed: int, *, student: bool) -> HeadedNetwork:
        recipe = study.pretrain
        head = projector(study, backbone.embed_dim, recipe.projection_layers, derive_seed(seed, "head"))
        return HeadedNetwork(backbone, head, frozen_batch_norm=recipe.batch_norm == "frozen")

    @classmethod
    def chance_loss(cls, study: StudyConfig) -> float | None:
        """ln(2 B - 1): the positive is one of all other views; a little less where patients share a batch."""
        return math.log(NUM_VIEWS * study.pretrain.batch_size - 1)

    def loss(self, outputs: Tensors, targets: Tensors, facts: StepFacts) -> tuple[Tensor, Tensors]:
        projections = facts.context.gather(outputs["projections"], dim=1)
        weighting = PairWeighting.of(self.recipe)
        return self._objective(*nt_xent(projections, self.recipe.contrast_temp, facts.patients, weighting), facts)


class MoCoV3(_Contrastive):
    """Symmetric InfoNCE between a student with predictor and its moving average (Chen, Xie & He 2021)."""

    name = "mocov3"
    has_teacher = True

    @classmethod
    def network(cls, study: StudyConfig, backbone: Backbone, seed: int, *, student: bool) -> HeadedNetwork:
        recipe = study.pretrain
        first = projector(study, backbone.embed_dim, recipe.projection_layers, derive_seed(seed, "head"))
        second = None
        if student:
            second = projector(study, recipe.projection_dim, _PREDICTOR_LAYERS, derive_seed(seed, "predictor"))
        if recipe.freeze_patch_projection and backbone.patch_size is not None:
            projection = backbone.model.patch_embed.proj  # type: ignore[union-attr]
            projection.requires_grad_(False)
        return HeadedNetwork(backbone, PredictorHead(first, second), frozen_batch_norm=recipe.batch_norm == "frozen")

    @classmethod
    def chance_loss(cls, study: StudyConfig) -> float | None:
        """4 temp ln B: the right key is one of B; a little less where patients share a batch."""
        return 4 * study.pretrain.contrast_temp * math.log(study.pretrain.batch_size)

    def targets(self, teacher: HeadedNetwork, part: Part) -> Tensors:
        keys: Tensor = teacher(part.views.global_crops)
        return {"keys": keys.unflatten(0, (NUM_VIEWS, -1))}

    def loss(self, outputs: Tensors, targets: Tensors, facts: StepFacts) -> tuple[Tensor, Tensors]:
        predictions, keys = (facts.context.gather(x, dim=1) for x in (outputs["projections"], targets["keys"]))
        weighting, temp = PairWeighting.of(self.recipe), self.recipe.contrast_temp
        return self._objective(*symmetric_info_nce(predictions, keys, temp, facts.patients, weighting), facts)


def projector(study: StudyConfig, in_dim: int, layers: int, seed: int) -> ProjectionHead:
    """A projector or predictor of the study's sizes, with random weights."""
    recipe = study.pretrain
    return ProjectionHead(
        in_dim,
        recipe.projection_dim,
        hidden_dim=recipe.head_hidden_dim,
        layers=layers,
        batch_norm=recipe.head_batch_norm,
        seed=seed,
    )
