"""The last block of a ViT for the class token only.

DINO reads nothing but the class token, so in the last block the queries, the projection and the MLP of all other
tokens are computed for nothing: they reach neither the embedding nor a gradient. Leaving them out changes no result
and saves 3/4 of one block's arithmetic, a fifth of a 4-block network.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F


def class_token_after(block: Any, tokens: Tensor) -> Tensor:
    """What `block(tokens)[:, 0]` is.

    Args:
        block: a plain pre-norm `timm.models.vision_transformer.Block`.
        tokens: float, shape (N, T, D), class token first.
    Returns:
        float, shape (N, D).
    """
    token = tokens[:, :1]
    token = token + block.drop_path1(block.ls1(_class_token_attention(block.attn, block.norm1(tokens))))
    token = token + block.drop_path2(block.ls2(block.mlp(block.norm2(token))))
    return token[:, 0]


def _class_token_attention(attention: Any, tokens: Tensor) -> Tensor:
    """`attention(tokens)[:, :1]`, for `timm.models.vision_transformer.Attention`."""
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
