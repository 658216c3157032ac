"""A training step of every method as a user writes it from lightly's documentation, on views that are given.

Needs `pip install lightly` (written against 1.6), which is not among this project's dependencies. Heads, losses, masks
and momentum updates are lightly's modules around a timm backbone. Two things it does not have: MoCo v3's loss, which is
that of the paper's pseudo-code here, and Sinkhorn-Knopp, so DINOv2's targets have a moving center.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss, NTXentLoss
from lightly.models.modules import (
    DINOProjectionHead,
    DINOv2ProjectionHead,
    MaskedVisionTransformerTIMM,
    MoCoProjectionHead,
    SimCLRProjectionHead,
)
from lightly.models.utils import deactivate_requires_grad, random_block_mask, update_momentum
from torch import Tensor, nn
from torch.nn import functional as F

from augscale.config import StudyConfig
from benchmarks.official_recipe import build_timm

_LR = 1e-4


class LightlyStep(ABC):
    """One method's networks, optimizer and step.

    Args:
        config: network, sizes of views and heads.
        device: of everything.
        precision: "fp32", or "bf16" for autocast.
    """

    def __init__(self, config: StudyConfig, device: str, precision: str = "fp32") -> None:
        self.config, self.recipe, self.device = config, config.pretrain, device
        self.autocast = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=precision == "bf16")
        torch.manual_seed(0)
        self.trained = self.build().to(device)
        parameters = [parameter for parameter in self.trained.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=_LR)

    @abstractmethod
    def build(self) -> nn.Module:
        """Makes the networks; returns those that the optimizer trains."""

    @abstractmethod
    def loss(self, views: Sequence[Tensor]) -> Tensor:
        """The loss of a batch, in each of its views (B, 3, s, s), the two global ones first."""

    def before_update(self) -> None:  # noqa: B027  # a hook that most methods leave empty
        """Called between the gradients and the update."""

    def step(self, views: Sequence[Tensor]) -> None:
        with self.autocast:
            loss = self.loss(views)
        loss.backward()
        self.before_update()
        self.optimizer.step()
        self.optimizer.zero_grad()


class LightlyDINO(LightlyStep):
    """The backbone sees view after view, as in lightly's example."""

    def build(self) -> nn.Module:
        recipe = self.recipe
        self.student = build_timm(self.config)
        self.teacher = copy.deepcopy(self.student).to(self.device)
        dims = (self.student.num_features, recipe.head_hidden_dim, recipe.head_bottleneck_dim, recipe.out_dim)
        options = {"batch_norm": recipe.head_batch_norm, "norm_last_layer": recipe.norm_last_layer}
        self.student_head = DINOProjectionHead(*dims, freeze_last_layer=1, **options)
        self.teacher_head = DINOProjectionHead(*dims, **options).to(self.device)
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(output_dim=recipe.out_dim, warmup_teacher_temp_epochs=5).to(self.device)
        return nn.ModuleList([self.student, self.student_head])

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        update_momentum(self.student, self.teacher, m=0.996)
        update_momentum(self.student_head, self.teacher_head, m=0.996)
        teacher = [self.teacher_head(self.teacher(view)) for view in views[:2]]
        student = [self.student_head(self.student(view)) for view in views]
        loss: Tensor = self.criterion(teacher, student, epoch=0)
        return loss

    def before_update(self) -> None:
        self.student_head.cancel_last_layer_gradients(current_epoch=1)


class LightlySimCLR(LightlyStep):
    def build(self) -> nn.Module:
        recipe = self.recipe
        self.backbone = build_timm(self.config)
        self.head = SimCLRProjectionHead(
            self.backbone.num_features,
            recipe.head_hidden_dim,
            recipe.projection_dim,
            num_layers=recipe.projection_layers,
            batch_norm=recipe.head_batch_norm,
        )
        self.criterion = NTXentLoss(temperature=recipe.contrast_temp)
        return nn.ModuleList([self.backbone, self.head])

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        first, second = (self.head(self.backbone(view)) for view in views[:2])
        loss: Tensor = self.criterion(first, second)
        return loss


class LightlyMoCoV3(LightlyStep):
    def build(self) -> nn.Module:
        recipe = self.recipe
        self.backbone = build_timm(self.config)
        if recipe.freeze_patch_projection and hasattr(self.backbone, "patch_embed"):
            deactivate_requires_grad(self.backbone.patch_embed.proj)
        options = {"batch_norm": recipe.head_batch_norm}
        sizes = (recipe.head_hidden_dim, recipe.projection_dim)
        self.head = MoCoProjectionHead(
            self.backbone.num_features, *sizes, num_layers=recipe.projection_layers, **options
        )
        self.predictor = MoCoProjectionHead(recipe.projection_dim, *sizes, num_layers=2, **options)
        self.momentum_backbone = copy.deepcopy(self.backbone).to(self.device)
        self.momentum_head = copy.deepcopy(self.head).to(self.device)
        deactivate_requires_grad(self.momentum_backbone)
        deactivate_requires_grad(self.momentum_head)
        return nn.ModuleList([self.backbone, self.head, self.predictor])

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        update_momentum(self.backbone, self.momentum_backbone, m=0.99)
        update_momentum(self.head, self.momentum_head, m=0.99)
        q1, q2 = (self.predictor(self.head(self.backbone(view))) for view in views[:2])
        with torch.no_grad():
            k1, k2 = (self.momentum_head(self.momentum_backbone(view)) for view in views[:2])
        return self._contrast(q1, k2) + self._contrast(q2, k1)

    def _contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        temp = self.recipe.contrast_temp
        logits = F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T / temp
        return 2 * temp * F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class LightlyDINOv2(LightlyStep):
    """DINO and KoLeo, and with a ViT (`ibot_weight` above 0) iBOT by a head of its own."""

    def build(self) -> nn.Module:
        recipe, self.with_patches = self.recipe, self.recipe.ibot_weight > 0
        network = build_timm(self.config)
        dims = (network.num_features, recipe.head_hidden_dim, recipe.head_bottleneck_dim, recipe.out_dim)
        if self.with_patches:
            network = MaskedVisionTransformerTIMM(vit=network, antialias=False, pos_embed_initialization="skip")
        self.student, self.teacher = network, copy.deepcopy(network).to(self.device)
        self.student_heads, self.teacher_heads = self._heads(dims), self._heads(dims).to(self.device)
        self.teacher_heads.load_state_dict(self.student_heads.state_dict())
        deactivate_requires_grad(self.teacher)
        deactivate_requires_grad(self.teacher_heads)
        self.dino, self.ibot = (loss(output_dim=recipe.out_dim).to(self.device) for loss in (DINOLoss, IBOTPatchLoss))
        self.koleo = KoLeoLoss().to(self.device)
        return nn.ModuleList([self.student, self.student_heads])

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        recipe, temp = self.recipe, self.recipe.teacher_temp
        update_momentum(self.student, self.teacher, m=0.992)
        update_momentum(self.student_heads, self.teacher_heads, m=0.992)
        global_views = torch.cat(list(views[:2]))
        mask, blocks = self._mask(len(global_views))
        with torch.no_grad():
            tokens, classes = self._encoded(self.teacher, global_views, None)
            targets = self.teacher_heads[0](classes)
            patch_targets = self.teacher_heads[1](tokens[mask]) if mask is not None else None
        tokens, global_classes = self._encoded(self.student, global_views, mask)
        outputs = [self.student_heads[0](global_classes)]
        if len(views) > 2:
            outputs.append(self.student_heads[0](self._encoded(self.student, torch.cat(list(views[2:])), None)[1]))
        loss: Tensor = recipe.dino_weight * self.dino(
            list(targets.chunk(2)), list(torch.cat(outputs).chunk(len(views))), teacher_temp=temp
        )
        if mask is not None:
            patches = self.student_heads[1](tokens[mask])
            loss = loss + recipe.ibot_weight * self.ibot(patch_targets, patches, blocks, teacher_temp=temp)
        if recipe.koleo_weight:
            loss = loss + recipe.koleo_weight * sum(self.koleo(view) for view in global_classes.chunk(2))
        return loss

    def _heads(self, dims: tuple[int, ...]) -> nn.ModuleList:
        heads = [DINOv2ProjectionHead(*dims, batch_norm=self.recipe.head_batch_norm)]
        return nn.ModuleList([*heads, *([DINOv2ProjectionHead(*dims)] if self.with_patches else [])])

    def _encoded(self, network: nn.Module, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """All tokens and the class token; a network without tokens gives its embedding twice."""
        if not self.with_patches:
            embedding = network(images)
            return embedding, embedding
        tokens = network.encode(images, mask=mask)
        return tokens, tokens[:, 0]

    def _mask(self, number: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Which tokens of each global view are masked, class token first; and the same as a grid of patches."""
        if not self.with_patches:
            return None, None
        low, high = self.recipe.mask_ratio
        blocks = random_block_mask(
            (number, *self.student.vit.patch_embed.grid_size),
            batch_mask_ratio=self.recipe.mask_probability,
            min_image_mask_ratio=low,
            max_image_mask_ratio=high,
            device=self.device,
        )
        return F.pad(blocks.flatten(1), (1, 0)), blocks


STEPS: dict[str, type[LightlyStep]] = {
    "dino": LightlyDINO,
    "simclr": LightlySimCLR,
    "mocov3": LightlyMoCoV3,
    "dinov2": LightlyDINOv2,
}
"""By the name that `pretrain.method` gives each."""
