"""Student and teacher: a backbone and a projection head each, trained and trailing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from augscale.config import StudyConfig
from augscale.pretraining.backbones import Backbone, build_backbone, convert_sync_batchnorm
from augscale.pretraining.head import DINOHead
from augscale.pretraining.stochastic_depth import DepthDraws
from augscale.seeding import derive_seed


class DINONetwork(nn.Module):
    """A backbone with its projection head."""

    def __init__(self, backbone: Backbone, head: DINOHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, *crops: Tensor, draws: DepthDraws | None = None) -> Tensor:
        """Prototype scores of all crops.

        Args:
            crops: one batch per crop size, float, shape (N_i, 3, s_i, s_i); empty batches are passed over.
            draws: of stochastic depth, for backbones that take them.
        Returns:
            float32, shape (sum of N_i, K), in the order given. The head sees all crops at once, as in the official
            code, which decides what its batch norm averages over.
        """
        return self.head(torch.cat([self.backbone(batch, draws) for batch in crops if len(batch)]))


def build_networks(study: StudyConfig, seed: int, device: torch.device) -> tuple[DINONetwork, DINONetwork]:
    """Student and teacher with equal weights, in training mode.

    The teacher stays in training mode, as in the official code: it has no stochastic depth, and where there is batch
    norm it normalises with its own batch's statistics while its running ones settle for later use in eval mode.

    Args:
        study: backbone, crops and head.
        seed: of the run; "weights" is derived from it.
        device: of both networks.
    Raises:
        ConfigError: the model is unknown, or the crops do not fit it.
        CheckpointError: `backbone.init` cannot be loaded.
    """
    weights_seed = derive_seed(seed, "weights")
    size, drop_path = study.crops.global_size, study.backbone.drop_path
    backbone = build_backbone(study.backbone, size, drop_path=drop_path, seed=weights_seed)
    student = _build(study, backbone, weights_seed)
    if study.crops.n_local:
        student.backbone.check_view_size(study.crops.local_size, "crops.local_size")
    architecture = study.backbone.model_copy(update={"init": "none"})
    teacher = _build(study, build_backbone(architecture, size), weights_seed)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    return student.to(device).train(), teacher.to(device).train()


def has_batch_norm(network: nn.Module) -> bool:
    """Whether any layer normalises over the images of a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def synchronize_batch_norm(network: DINONetwork) -> DINONetwork:
    """The network with batch norm over all processes, on GPUs; parameters, buffers and their names stay."""
    converted: DINONetwork = convert_sync_batchnorm(network)
    return converted


def _build(study: StudyConfig, backbone: Backbone, seed: int) -> DINONetwork:
    recipe = study.pretrain
    head = DINOHead(
        backbone.embed_dim,
        recipe.out_dim,
        hidden_dim=recipe.head_hidden_dim,
        bottleneck_dim=recipe.head_bottleneck_dim,
        batch_norm=recipe.head_batch_norm,
        norm_last_layer=recipe.norm_last_layer,
        seed=derive_seed(seed, "head"),
    )
    return DINONetwork(backbone, head)
