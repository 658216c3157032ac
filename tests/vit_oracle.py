"""A ViT's forward pass as official DINO and DINOv2 write it, over their own tensor names; and tiny networks to save.

Nothing of timm's or of the package's is used in the forward pass.
"""

from __future__ import annotations

import timm
import torch
from torch import Tensor
from torch.nn import functional as F


def class_token(state: dict[str, Tensor], images: Tensor, num_heads: int, position: Tensor | None = None) -> Tensor:
    """The class token after the final norm, shape (N, D); `position` replaces the file's own."""
    return tokens(state, images, num_heads, position, norm=True)[:, 0]


def patch_mean(state: dict[str, Tensor], images: Tensor, num_heads: int) -> Tensor:
    """RETFound's fine-tuned embedding: fc_norm of the mean of the patch tokens."""
    mean = tokens(state, images, num_heads, None, norm=False)[:, 1:].mean(dim=1)
    return _norm(state, "fc_norm", mean)


def tokens(state: dict[str, Tensor], images: Tensor, num_heads: int, position: Tensor | None, norm: bool) -> Tensor:
    weight = state["patch_embed.proj.weight"]
    patches = F.conv2d(images, weight, state["patch_embed.proj.bias"], stride=weight.shape[-1])
    x = patches.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + (state["pos_embed"] if position is None else position)
    if "register_tokens" in state:
        x = torch.cat([x[:, :1], state["register_tokens"].expand(len(x), -1, -1), x[:, 1:]], dim=1)
    depth = len([key for key in state if key.endswith("norm1.weight")])
    for number in range(depth):
        block = f"blocks.{number}."
        x = x + _scaled(state, f"{block}ls1", _attention(state, block, _norm(state, f"{block}norm1", x), num_heads))
        x = x + _scaled(state, f"{block}ls2", _mlp(state, block, _norm(state, f"{block}norm2", x)))
    return _norm(state, "norm", x) if norm else x


def _attention(state: dict[str, Tensor], block: str, x: Tensor, num_heads: int) -> Tensor:
    n, t, d = x.shape
    qkv = _linear(state, f"{block}attn.qkv", x).reshape(n, t, 3, num_heads, d // num_heads).permute(2, 0, 3, 1, 4)
    weights = (qkv[0] @ qkv[1].transpose(-2, -1) / (d // num_heads) ** 0.5).softmax(dim=-1)
    return _linear(state, f"{block}attn.proj", (weights @ qkv[2]).transpose(1, 2).reshape(n, t, d))


def _mlp(state: dict[str, Tensor], block: str, x: Tensor) -> Tensor:
    if f"{block}mlp.w12.weight" in state:
        gate, value = _linear(state, f"{block}mlp.w12", x).chunk(2, dim=-1)
        return _linear(state, f"{block}mlp.w3", F.silu(gate) * value)
    return _linear(state, f"{block}mlp.fc2", F.gelu(_linear(state, f"{block}mlp.fc1", x)))


def _linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def _norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)


def _scaled(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x * state.get(f"{name}.gamma", torch.ones(()))


def tiny_state(
    name: str = "vit_tiny_patch16_224", size: int = 64, seed: int = 0, **overrides: object
) -> dict[str, Tensor]:
    """A small network's tensors under timm's names, all of them random: biases and norms too, so that none can hide."""
    model = timm.create_model(name, num_classes=0, **({"img_size": size} if "vit" in name else {}), **overrides)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            state[key] = value
            continue
        noise = torch.randn(value.shape, generator=generator)
        positive = value.ndim == 1 and key.endswith(("weight", "var", "gamma"))
        state[key] = 1 + 0.2 * noise.tanh() if positive else 0.3 * noise / max(1, value[0].numel()) ** 0.3
    return state
