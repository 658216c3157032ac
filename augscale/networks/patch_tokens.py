"""Class token and patch tokens of a plain ViT, with some patches replaced by a mask token (iBOT, Zhou et al. 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from augscale.networks.plain_vit import block_output, is_plain
from augscale.networks.stochastic_depth import DepthDraws


def has_patch_tokens(model: nn.Module) -> bool:
    """True if `class_and_patch_tokens` can run the model: a plain ViT that keeps all its patches in training."""
    return is_plain(model) and isinstance(model.patch_drop, nn.Identity)


def class_and_patch_tokens(
    model: Any, x: Tensor, mask: Tensor | None, mask_token: Tensor | None, draws: DepthDraws | None = None
) -> tuple[Tensor, Tensor]:
    """The final tokens of a ViT.

    Args:
        model: a ViT for which `has_patch_tokens` holds.
        x: float, shape (N, 3, s, s).
        mask: bool, shape (N, P), row by row of the patch grid: patches whose embedding is replaced before the position
            embedding is added; None: none.
        mask_token: float32, shape (1, D); needed with a mask.
        draws: random draws of stochastic depth in training on a CPU; None: torch's generator.
    Returns:
        The embedding, shape (N, D), which for an empty mask is that of `plain_vit.class_token`; and the patch tokens,
        shape (N, P, D), without class and register tokens.
    """
    patches = model.patch_embed(x)
    if mask is not None and mask_token is not None:
        replaced = mask.view(patches.shape[:-1]).unsqueeze(-1)
        patches = torch.where(replaced, mask_token.to(patches.dtype), patches)
    tokens = model.norm_pre(model._pos_embed(patches))
    for block in model.blocks:
        on_cpu = block.training and tokens.device.type == "cpu"
        tokens = block_output(block, tokens, draws) if on_cpu else block(tokens)
    tokens = model.norm(tokens)
    return model.fc_norm(tokens[:, 0]), tokens[:, model.num_prefix_tokens :]
