"""Features of the authors' script: class tokens of the last four blocks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from augscale.networks.backbones import Backbone

NUM_BLOCKS = 4


def has_class_token(backbone: Backbone) -> bool:
    """True for a transformer of blocks whose first token is a class token (DINO, DINOv2, MAE)."""
    model: Any = backbone.model
    has_parts = all(hasattr(model, name) for name in ("blocks", "norm"))
    return has_parts and getattr(model, "cls_token", None) is not None and getattr(model, "num_prefix_tokens", 0) > 0


def embedding_and_blocks(backbone: Backbone, x: Tensor) -> tuple[Tensor, Tensor]:
    """The embedding, and the training features of `released`, in one pass.

    The latter are the class tokens of the last 4 blocks (of all blocks if there are fewer), each through the final
    norm, in the order of the blocks: 1536 numbers for a ViT-S. For networks without a class token (ResNets, ViTs that
    pool patch tokens) they are the embedding, as in DINO's linear evaluation of networks other than ViTs.

    Args:
        x: float32, shape (N, 3, s, s), normalized.
    Returns:
        float32, shapes (N, D) and (N, L).
    """
    if not has_class_token(backbone):
        embedding = backbone(x).float()
        return embedding, embedding
    model: Any = backbone.model
    tokens: list[Tensor] = []
    last: list[Tensor] = []
    with ExitStack() as hooks:
        for block in model.blocks[-NUM_BLOCKS:-1]:
            handle = block.register_forward_hook(lambda _module, _inputs, output: tokens.append(output[:, 0]))
            hooks.callback(handle.remove)
        # The norm gets all tokens, or the class token alone.
        handle = model.norm.register_forward_hook(
            lambda _module, _inputs, output: last.append(output if output.ndim == 2 else output[:, 0])
        )
        hooks.callback(handle.remove)
        embedding = backbone(x)
    blocks = [*(model.norm(token) for token in tokens), last[0]]
    return embedding.float(), torch.cat(blocks, dim=-1).float()
