"""Self-attention of a ViT in bf16 on a CPU, bit-identical to timm's with fewer passes through memory.

torch's fused kernel is several times slower there (docs/experiments.md), so timm computes attention from single
products. Here one copy rearranges queries, keys and values together, and their gradients are written directly into one
tensor; timm makes three copies and concatenates three gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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
    """Whether there are no norms and no dropout, only attention and projection."""
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
