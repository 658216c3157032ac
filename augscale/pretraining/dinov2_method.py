"""DINOv2 as a method (Oquab et al. 2024): DINO on class tokens, iBOT on masked patches, and KoLeo.

The targets are assigned by Sinkhorn-Knopp over the class tokens, and over the masked patches, of the whole batch; or by
a moving center, as in DINO. KoLeo compares the class tokens of one global view of all images. Each of the three losses
has a weight, and a weight of 0 switches it off. Networks without patch tokens are trained by DINO and KoLeo alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from augscale.config import StudyConfig
from augscale.errors import ConfigError
from augscale.networks.backbones import Backbone
from augscale.networks.head import DINOHead
from augscale.pretraining.block_masks import block_masks
from augscale.pretraining.dino import (
    NUM_GLOBAL,
    information_of_shards,
    mean_entropy,
    teacher_probabilities,
    updated_center,
)
from augscale.pretraining.dino_method import pair_loss, prototype_head
from augscale.pretraining.dinov2_losses import ibot_loss, koleo_loss, sinkhorn_probabilities
from augscale.pretraining.dinov2_network import DINOv2Network
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.method import Method, Part, StepFacts, Tensors
from augscale.pretraining.schedules import StepValues
from augscale.seeding import derive_seed
from augscale.system.devices import to_device

_COPIES = 4
"""Number of copies of all prototype scores that the losses and their gradients hold at once."""


class DINOv2(Method):
    """DINOv2; with `sinkhorn_iterations = 0`, `state` holds the centers of class and patch outputs, shape (K,) each."""

    name = "dinov2"
    has_teacher = True
    whole_batch = True

    def __init__(self, study: StudyConfig, backbone: Backbone, seed: int, device: torch.device) -> None:
        super().__init__(study, backbone, seed, device)
        self.with_patches = self.recipe.ibot_weight > 0
        if not self.recipe.sinkhorn_iterations:
            names = ("center", "patch_center") if self.with_patches else ("center",)
            self.state = {name: torch.zeros(self.recipe.out_dim, device=device) for name in names}
        self._masks: tuple[int, Tensor] | None = None

    @classmethod
    def check(cls, study: StudyConfig, backbone: Backbone) -> None:
        """iBOT needs the patch tokens of a plain ViT.

        Raises:
            ConfigError: the backbone has none.
        """
        if study.pretrain.ibot_weight > 0 and not backbone.has_patch_tokens:
            raise ConfigError(
                f"pretrain.ibot_weight = {study.pretrain.ibot_weight:g} with backbone.name = {study.backbone.name!r}: "
                "iBOT needs the patch tokens of a plain ViT; expected ibot_weight = 0 or such a ViT"
            )

    @classmethod
    def network(cls, study: StudyConfig, backbone: Backbone, seed: int, *, student: bool) -> HeadedNetwork:
        head = prototype_head(study, backbone.embed_dim, derive_seed(seed, "head"))
        ibot_head = None
        if study.pretrain.ibot_weight > 0:
            ibot_head = prototype_head(study, backbone.embed_dim, derive_seed(seed, "patch head"), of_patches=True)
        frozen = study.pretrain.batch_norm == "frozen"
        return DINOv2Network(backbone, head, ibot_head, frozen_batch_norm=frozen)

    @classmethod
    def chance_loss(cls, study: StudyConfig) -> float | None:
        """None: the loss is a sum, and KoLeo has no bound."""
        return None

    @property
    def draws_by_image(self) -> bool:
        # On a GPU, `patch_tokens` leaves stochastic depth to timm's blocks.
        return super().draws_by_image and not (self.with_patches and self.device.type != "cpu")

    def targets(self, teacher: HeadedNetwork, part: Part) -> Tensors:
        chosen, none = self._chosen(part), part.views.local_crops[:0]
        logits, _, patches = teacher(part.views.global_crops, none, chosen)
        found = {"logits": logits.unflatten(0, (NUM_GLOBAL, -1))}
        if chosen is None:
            return found
        weights = (1 / chosen.sum(dim=1, keepdim=True).clamp(min=1)).expand_as(chosen)[chosen]
        # Masked patches of a part are one row: parts are joined along dimension 1.
        return found | {"patches": patches.unsqueeze(0), "weights": weights.unsqueeze(0)}

    def outputs(self, student: nn.Module, part: Part) -> Tensors:
        views = part.views
        chosen = self._chosen(part)
        logits, embeddings, patches = student(
            views.global_crops, views.local_crops, chosen, masked=True, draws=part.draws
        )
        found = {
            "logits": logits.unflatten(0, (-1, part.num_images)),
            "embeddings": embeddings.unflatten(0, (NUM_GLOBAL, -1)),
        }
        return found if patches is None else found | {"patches": patches.unsqueeze(0)}

    def loss(self, outputs: Tensors, targets: Tensors, facts: StepFacts) -> tuple[Tensor, Tensors]:
        """DINO on class tokens, iBOT on masked patches, and KoLeo on the student's class tokens, each by its weight."""
        recipe, context = self.recipe, facts.context
        logits = targets["logits"].flatten(0, 1)
        probs = self._assigned(logits, "center", facts)
        student = outputs["logits"].flatten(0, 1)
        parts = {"dino_loss": recipe.dino_weight * pair_loss(student, probs, recipe, compiled=facts.compiled)}
        statistics = {"teacher_logits": logits.mean(dim=0)}
        if self.with_patches:
            patches = targets["patches"][0]
            patch_probs = self._assigned(patches, "patch_center", facts)
            entropy = ibot_loss(
                outputs["patches"][0], patch_probs, targets["weights"][0], recipe.student_temp, num_views=len(logits)
            )
            parts["ibot_loss"] = recipe.ibot_weight * entropy
            statistics |= {"patch_sum": patches.sum(dim=0), "num_patches": patches.new_tensor(float(len(patches)))}
        objective = torch.stack(list(parts.values())).sum()
        loss = objective.detach()
        if recipe.koleo_weight > 0:
            # Every process differentiates the whole loss with respect to its own images only, and gradients are
            # averaged over processes.
            everyone = context.gather(outputs["embeddings"], dim=1)
            koleo = recipe.koleo_weight * torch.stack([koleo_loss(view, facts.patients) for view in everyone]).sum()
            objective, loss = objective + koleo * context.world_size, loss + koleo.detach()
        statistics["loss"] = loss
        if facts.logged:
            statistics |= {"teacher_entropy": mean_entropy(probs), "teacher_probs": probs.mean(dim=0)}
        return objective, statistics

    def next_state(self, means: Tensors) -> Tensors:
        if not self.state:
            return {}
        found = {"center": means["teacher_logits"]}
        if self.with_patches:
            found["patch_center"] = means["patch_sum"] / means["num_patches"].clamp(min=1e-6)
        momentum = self.recipe.center_momentum
        return {name: updated_center(self.state[name], mean, momentum) for name, mean in found.items()}

    def withheld(self, student: HeadedNetwork, values: StepValues) -> list[nn.Parameter]:
        if not values.last_layer_frozen:
            return []
        heads = [head for head in (student.head, getattr(student, "ibot_head", None)) if isinstance(head, DINOHead)]
        return [parameter for head in heads for parameter in head.last_layer.parameters()]

    def information(self, means: Tensors) -> float:
        """Mutual information of image and teacher output, see `dino.information`."""
        return float(information_of_shards(means["teacher_probs"], means["teacher_entropy"]))

    def kept_bytes(self, images: int) -> int:
        rows = images * (2 * NUM_GLOBAL + self.study.crops.n_local)
        if self.with_patches:
            rows += 2 * round(NUM_GLOBAL * images * self.recipe.mask_probability * self._grid**2)
        return 4 * _COPIES * rows * self.recipe.out_dim

    def schedules(self, values: StepValues) -> dict[str, float]:
        temps = {"teacher_temp": values.teacher_temp, "student_temp": self.recipe.student_temp}
        return super().schedules(values) | temps

    def described(self, values: StepValues) -> str:
        return f"{super().described(values)}, teacher_temp {values.teacher_temp:g}"

    def _assigned(self, logits: Tensor, center: str, facts: StepFacts) -> Tensor:
        """The teacher's distributions, rows that sum to 1."""
        temp, iterations = facts.values.teacher_temp, self.recipe.sinkhorn_iterations
        if iterations:
            return sinkhorn_probabilities(logits, temp, iterations, facts.context)
        return teacher_probabilities(logits, self.state[center], temp)

    @property
    def _grid(self) -> int:
        """Patches along one side of a global view."""
        patch_size = self.backbone.patch_size
        assert patch_size is not None, "`check` has refused networks without patches"
        return self.study.crops.global_size // patch_size

    def _chosen(self, part: Part) -> Tensor | None:
        """bool, shape (2 B, P): the masked patches of the part's global views; None without iBOT.

        The masks of a step are drawn for the whole batch, so that they do not depend on its division.
        """
        if not self.with_patches:
            return None
        if self._masks is None or self._masks[0] != part.step:
            recipe, views = self.recipe, NUM_GLOBAL * self.recipe.batch_size
            generator = np.random.default_rng(derive_seed(self.seed, "masks", part.step))
            grid = (self._grid, self._grid)
            drawn = block_masks(views, grid, recipe.mask_ratio, recipe.mask_probability, generator)
            self._masks = part.step, to_device(drawn.reshape(NUM_GLOBAL, recipe.batch_size, -1), self.device)
        begin = part.shard.index * (self.recipe.batch_size // part.shard.count)
        return self._masks[1][:, begin : begin + part.num_images].flatten(0, 1)
