"""The class token of a plain ViT in training on a GPU, with timm's result, in functions that torch can compile.

Differences from timm's forward pass:

- the patch embedding is one matrix product; a strided convolution takes ten times as long;
- stochastic depth multiplies dropped rows by 0, with factors drawn beforehand as on a CPU (`stochastic_depth`);
- the last block computes only what reaches the class token (`plain_vit`);
- the last sum of a block is left to the next block, so that this sum and the next norm need one pass through memory.

All blocks have the same form, so one compiled block serves every block of every network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.layers import DropPath, PatchEmbed
from torch import Tensor
from torch.nn import functional as F

from augscale.networks.plain_vit import class_token_attention
from augscale.networks.stochastic_depth import DepthDraws
from augscale.system.compiling import compiled_version


def class_token_by_factors(model: Any, x: Tensor, draws: DepthDraws | None, *, compiled: bool) -> Tensor:
    """The same as `model(x)` for a plain ViT (see `plain_vit`) without a classifier and without dropout.

    Args:
        model: a ViT for which `plain_vit.is_plain` holds.
        x: float, shape (N, 3, s, s).
        draws: random draws of stochastic depth; None: no stochastic depth.
        compiled: use functions compiled by torch.
    Returns:
        float, shape (N, D).
    """
    functions = (embedded_patches, block_by_factors, last_block_by_factors)
    embed, one_block, last_block = map(compiled_version, functions) if compiled else functions
    tokens, branch = embed(model, x), None
    *blocks, last = model.blocks
    *factors, last_factors = _factors(model, draws, tokens)
    for block, factor in zip(blocks, factors, strict=True):
        tokens, branch = one_block(block, tokens, branch, factor)
    token = last_block(last, tokens, branch, last_factors)
    embedding: Tensor = model.fc_norm(model.norm(token))
    return embedding


def embedded_patches(model: Any, x: Tensor) -> Tensor:
    """Tokens before the first block, float, shape (N, T, D)."""
    embed = model.patch_embed
    if type(embed) is PatchEmbed and not embed.dynamic_img_pad and not embed.flatten:
        batch, channels, height, width = x.shape
        rows, columns = embed.patch_size
        patches = x.reshape(batch, channels, height // rows, rows, width // columns, columns)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)
        embedded = embed.norm(F.linear(patches, embed.proj.weight.flatten(1), embed.proj.bias))
    else:
        embedded = embed(x)
    tokens: Tensor = model.norm_pre(model._pos_embed(embedded))
    return tokens


def block_by_factors(
    block: Any, tokens: Tensor, branch: Tensor | None, factors: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A block that begins with the last sum of the block before and leaves its own last sum to the next block.

    Args:
        block: a plain pre-norm `timm.models.vision_transformer.Block`; its own stochastic depth is ignored.
        tokens: float, shape (N, T, D).
        branch: output of the previous block's MLP, to be added to the tokens; None in the first block.
        factors: float32, shape (2, N), for `branch` and for the attention's output; None: all 1.
    Returns:
        Tokens, and the output of the MLP that is to be added to them.
    """
    tokens = _plus(tokens, branch, factors, 0)
    tokens = _plus(tokens, block.ls1(block.attn(block.norm1(tokens))), factors, 1)
    return tokens, block.ls2(block.mlp(block.norm2(tokens)))


def last_block_by_factors(block: Any, tokens: Tensor, branch: Tensor | None, factors: Tensor | None) -> Tensor:
    """The class token after the last block, float, shape (N, D); `factors` has shape (3, N), the MLP's row last."""
    tokens = _plus(tokens, branch, factors, 0)
    mixed = class_token_attention(block.attn, block.norm1(tokens))
    token = _plus(tokens[:, :1], block.ls1(mixed), factors, 1)
    return _plus(token, block.ls2(block.mlp(block.norm2(token))), factors, 2)[:, 0]


def _plus(tokens: Tensor, branch: Tensor | None, factors: Tensor | None, which: int) -> Tensor:
    if branch is None:
        return tokens
    return tokens + (branch if factors is None else factors[which][:, None, None] * branch)


def _factors(model: Any, draws: DepthDraws | None, tokens: Tensor) -> Sequence[Tensor | None]:
    """Factors of each block: for the previous MLP (1 in the first block), its attention, and in the last its MLP."""
    paths = [path for block in model.blocks for path in (block.drop_path1, block.drop_path2)]
    keep = [1.0 - path.drop_prob if isinstance(path, DropPath) else 1.0 for path in paths]
    if draws is None or min(keep) == 1:
        return [None] * len(model.blocks)
    scaled = all(path.scale_by_keep for path in paths if isinstance(path, DropPath))
    factors = draws.factors(len(tokens), [1.0, *keep], scaled, tokens.device)
    return [factors[2 * i : 2 * i + 2] for i in range(len(model.blocks) - 1)] + [factors[-3:]]
