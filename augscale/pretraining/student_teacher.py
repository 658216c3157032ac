"""Student and teacher networks: a backbone and a projection head each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from augscale.config import StudyConfig
from augscale.networks.backbones import Backbone, build_backbone, convert_sync_batchnorm
from augscale.networks.batch_norm import batch_norm_layers, has_batch_norm
from augscale.networks.head import DINOHead
from augscale.networks.stochastic_depth import DepthDraws
from augscale.seeding import derive_seed


class DINONetwork(nn.Module):
    """A backbone with its projection head.

    Args:
        frozen_batch_norm: the backbone's batch norm keeps its statistics in training mode too.
    """

    def __init__(self, backbone: Backbone, head: DINOHead, *, frozen_batch_norm: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.frozen_batch_norm = frozen_batch_norm

    def train(self, mode: bool = True) -> DINONetwork:
        """Sets the mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.frozen_batch_norm:
            for layer in batch_norm_layers(self.backbone).values():
                layer.eval()
        return self

    def forward(self, *crops: Tensor, draws: DepthDraws | None = None) -> Tensor:
        """Prototype scores of all crops.

        Args:
            crops: one batch per crop size, float, shape (N_i, 3, s_i, s_i); empty batches are skipped.
            draws: random numbers of stochastic depth, for backbones that accept them.
        Returns:
            float32, shape (sum of N_i, K), in the order given. The head sees all crops at once, as in the official
            code, so its batch norm averages over all of them.
        """
        return self.head(torch.cat([self.backbone(batch, draws) for batch in crops if len(batch)]))


def build_networks(study: StudyConfig, seed: int, device: torch.device) -> tuple[DINONetwork, DINONetwork]:
    """Student and teacher with equal weights, in training mode.

    The teacher stays in training mode, as in the official code: it has no stochastic depth, and its batch norm, if any,
    normalizes with the statistics of its own batch while its running statistics converge. These depend on the training
    views, so networks are compared with common statistics, see `networks.batch_norm`.

    Args:
        study: backbone, crops and head.
        seed: seed of the run, from which the seed of the weights is derived.
        device: device of both networks.
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


def gathers_statistics(study: StudyConfig) -> bool:
    """True if a study's networks are compared with common batch norm statistics, see `networks.batch_norm`.

    False without batch norm, and for frozen batch norm, whose statistics are those of the start in every network.
    """
    if study.pretrain.batch_norm == "frozen":
        return False
    with torch.device("meta"):
        backbone = build_backbone(study.backbone.model_copy(update={"init": "none"}), study.crops.global_size)
    return has_batch_norm(backbone)


def synchronize_batch_norm(network: DINONetwork) -> DINONetwork:
    """The network with batch norm over all processes, on GPUs; parameters and buffers keep their names."""
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
    return DINONetwork(backbone, head, frozen_batch_norm=recipe.batch_norm == "frozen")
