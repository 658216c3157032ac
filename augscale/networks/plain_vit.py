"""The class token of a plain ViT, and its patch tokens, with less work than timm's forward pass and the same result.

Computations that reach neither the embedding nor a gradient are left out:

- In the last block, the queries, the projection and the MLP of all tokens but the class token, which is the only one
  that DINO reads. This is 3/4 of one block's arithmetic, and a fifth of a 4-block network's.
- On a CPU, a block's branch for the images that stochastic depth drops, which are drawn before it is computed.

`attend` is self-attention in bf16 on a CPU, bit-identical to timm's with fewer passes through memory. torch's fused
kernel is several times slower there (docs/experiments.md), so timm computes attention from single products. Here one
copy rearranges queries, keys and values together, and their gradients are written directly into one tensor; timm makes
three copies and concatenates three gradients.

`vit_on_gpu` is the counterpart for training on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import DropPath
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from augscale.networks.stochastic_depth import DepthDraws


def is_plain(model: nn.Module) -> bool:
    """True if the embedding is the class token alone and all blocks are timm's pre-norm blocks."""
    if type(model) is not VisionTransformer or model.global_pool != "token" or model.attn_pool is not None:
        return False
    return all(
        type(block) is Block and type(block.attn) is Attention and getattr(block.attn, "gate", None) is None
        for block in model.blocks
    )


def class_token(model: Any, x: Tensor, draws: DepthDraws | None = None) -> Tensor:
    """The same as `model(x)` for a plain ViT without a classifier.

    Args:
        model: a ViT for which `is_plain` holds.
        x: float, shape (N, 3, s, s).
        draws: random draws of stochastic depth in training on a CPU; None: torch's generator.
    Returns:
        float, shape (N, D).
    """
    tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
    for block in model.blocks[:-1]:
        tokens = block_output(block, tokens, draws) if block.training and tokens.device.type == "cpu" else block(tokens)
    token: Tensor = model.fc_norm(model.norm(class_token_after(model.blocks[-1], tokens, draws)))
    return token


def class_token_after(block: Any, tokens: Tensor, draws: DepthDraws | None = None) -> Tensor:
    """The same as `block(tokens)[:, 0]`.

    Args:
        block: a plain pre-norm `timm.models.vision_transformer.Block`.
        tokens: float, shape (N, T, D), class token first.
        draws: see `class_token`.
    Returns:
        float, shape (N, D).
    """

    def attention(rows: Tensor) -> Tensor:
        mixed: Tensor = block.ls1(class_token_attention(block.attn, block.norm1(rows)))
        return mixed

    token = _residual(tokens[:, :1], attention, block.drop_path1, draws, source=tokens)
    return _residual(token, lambda rows: block.ls2(block.mlp(block.norm2(rows))), block.drop_path2, draws)[:, 0]


def block_output(block: Any, tokens: Tensor, draws: DepthDraws | None = None) -> Tensor:
    """`block(tokens)` in training mode on a CPU; hooks of the block are not called."""
    tokens = _residual(tokens, lambda rows: block.ls1(attend(block.attn, block.norm1(rows))), block.drop_path1, draws)
    return _residual(tokens, lambda rows: block.ls2(block.mlp(block.norm2(rows))), block.drop_path2, draws)


def _residual(
    tokens: Tensor,
    branch: Callable[[Tensor], Tensor],
    drop_path: nn.Module,
    draws: DepthDraws | None,
    source: Tensor | None = None,
) -> Tensor:
    """tokens + drop_path(branch(source)); on a CPU the branch is computed for the kept images only.

    Draws like `timm.layers.drop_path`: one Bernoulli number per image, kept ones scaled by 1 / (1 - p).

    Args:
        source: input of the branch; None: the tokens.
    """
    source = tokens if source is None else source
    if not (isinstance(drop_path, DropPath) and drop_path.training and drop_path.drop_prob):
        return tokens + branch(source)
    if tokens.device.type != "cpu":
        return tokens + drop_path(branch(source))
    keep = 1 - drop_path.drop_prob
    if draws is None:
        rows = tokens.new_empty(len(tokens)).bernoulli_(keep).nonzero().squeeze(1)
    else:
        rows = draws.kept(len(tokens), keep)
    if not len(rows):
        return tokens
    scale = 1 / keep if drop_path.scale_by_keep else 1.0
    kept = branch(source.index_select(0, rows)).to(tokens.dtype)
    return tokens.index_add(0, rows, kept, alpha=scale)


def class_token_attention(attention: Any, tokens: Tensor) -> Tensor:
    """The same as `attention(tokens)[:, :1]` for `timm.models.vision_transformer.Attention`."""
    batch_size, num_tokens, _ = tokens.shape
    heads = attention.qkv(tokens).reshape(batch_size, num_tokens, 3, attention.num_heads, attention.head_dim)
    query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
    query, key = attention.q_norm(query[:, :, :1]), attention.k_norm(key)
    dropout_p = attention.attn_drop.p if attention.training else 0.0
    if attention.fused_attn:
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout_p)
    else:
        weights = (query * attention.scale @ key.transpose(-2, -1)).softmax(dim=-1)
        mixed = F.dropout(weights, dropout_p) @ value
    mixed = mixed.transpose(1, 2).reshape(batch_size, 1, attention.attn_dim)
    projected: Tensor = attention.proj_drop(attention.proj(attention.norm(mixed)))
    return projected


def attend(attention: Any, tokens: Tensor) -> Tensor:
    """The same as `attention(tokens)` for `timm.models.vision_transformer.Attention`.

    Args:
        tokens: float, shape (N, T, D).
    """
    if attention.fused_attn or not _is_bare(attention):
        whole: Tensor = attention(tokens)
        return whole
    qkv: Tensor = attention.qkv(tokens)
    batch_size, num_tokens, _ = qkv.shape
    heads = qkv.view(batch_size, num_tokens, 3, attention.num_heads, attention.head_dim)
    mixed: Tensor = _Attention.apply(heads, attention.scale)
    projected: Tensor = attention.proj(mixed)
    return projected


def _is_bare(attention: Any) -> bool:
    """True if the layer has only attention and projection: no norms, no dropout."""
    parts = (attention.q_norm, attention.k_norm, attention.norm)
    drops = (attention.attn_drop, attention.proj_drop)
    return all(isinstance(part, nn.Identity) for part in parts) and not any(drop.p for drop in drops)


class _Attention(torch.autograd.Function):
    """softmax(scale q k') v; takes qkv of shape (N, T, 3, H, D) and returns shape (N, T, H D)."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, scale: float) -> Tensor:
        batch_size, num_tokens, _, num_heads, head_dim = qkv.shape
        in_order = qkv.permute(2, 0, 3, 1, 4).contiguous().view(3, batch_size * num_heads, num_tokens, head_dim)
        query, key, value = in_order.unbind()
        weights = torch.bmm(query.mul_(scale), key.transpose(1, 2)).softmax(dim=-1)
        ctx.save_for_backward(query, key, value, weights)
        ctx.num_heads, ctx.scale = num_heads, scale
        return torch.bmm(weights, value).unflatten(0, (-1, num_heads)).transpose(1, 2).flatten(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        query, key, value, weights = ctx.saved_tensors
        grad = grad.unflatten(2, (ctx.num_heads, -1)).transpose(1, 2).flatten(0, 1)
        grads = torch.empty(3, *query.shape, dtype=query.dtype)
        torch.bmm(weights.transpose(1, 2), grad, out=grads[2])
        grad_weights = torch.bmm(grad, value.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        torch.bmm(grad_scores, key, out=grads[0]).mul_(ctx.scale)
        torch.bmm(grad_scores.transpose(1, 2), query, out=grads[1])
        return grads.unflatten(1, (-1, ctx.num_heads)).permute(1, 3, 0, 2, 4), None


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
