"""Reads the architecture of a ViT from the names and shapes of its tensors.

Shapes determine neither the number of attention heads (the projections of 6 heads of 64 and of 12 heads of 32 have one
shape) nor the activation function. In all published families the width determines the heads. A network with other heads
would load without an error and embed nonsense, so a width of no known family is refused unless it divides into
heads of 64, as in all but two of those families. If the file stores official DINO's command line, the two are compared.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError
from augscale.networks.tensor_files import State

_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1536: 24}
"""Number of heads by width of the published families (tiny, small, base, large, huge, giant, DINOv2's giant)."""
_HEAD_DIM = 64
_RANKS = {
    "pos_embed": 3,
    "cls_token": 3,
    "reg_token": 3,
    "blocks.0.attn.qkv.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
    "blocks.0.mlp.fc2.weight": 2,
}
"""Number of dimensions of the tensors that identify a ViT; tokens may be missing."""
_LAYER_SCALE = 1e-5
_PLAIN_VIT = re.compile(
    r"(cls_token|pos_embed|reg_token|mask_token|masked_embed)$|patch_embed\.proj\.|(fc_)?norm\.|head\.|decoder_"
    r"|blocks\.\d+\.(norm[12]|ls[12]|attn\.(qkv|proj|[qk]_norm)|mlp\.fc[12])\."
)
_DINO_ARCHS = {"vit_tiny": 192, "deit_tiny": 192, "vit_small": 384, "deit_small": 384, "vit_base": 768}
"""Width of the encoder by `args.arch` of official DINO."""


@dataclass(frozen=True)
class _ViT:
    """Properties of a ViT; the defaults are those of timm's plain ones."""

    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    hidden_dim: int
    """Rows of the first MLP layer; of SwiGLU, twice the hidden width."""
    init_values: float | None = None
    """Initial value of layer scale; None without layer scale."""
    reg_tokens: int = 0
    no_embed_class: bool = False
    swiglu: bool = False
    qkv_bias: bool = True
    proj_bias: bool = True
    qk_norm: bool = False
    class_token: bool = True


def _dinov2(
    size: str, embed_dim: int, depth: int, num_heads: int, hidden_dim: int, swiglu: bool = False
) -> dict[str, _ViT]:
    plain = _ViT(14, embed_dim, depth, num_heads, hidden_dim, init_values=_LAYER_SCALE, swiglu=swiglu)
    return {
        f"vit_{size}_patch14_dinov2": plain,
        f"vit_{size}_patch14_reg4_dinov2": replace(plain, reg_tokens=4, no_embed_class=True),
    }


VITS = {
    "vit_base_patch16_224": _ViT(16, 768, 12, 12, 3072),
    "vit_base_patch8_224": _ViT(8, 768, 12, 12, 3072),
    "vit_tiny_patch16_224": _ViT(16, 192, 12, 3, 768),
    "vit_small_patch16_224": _ViT(16, 384, 12, 6, 1536),
    "vit_small_patch8_224": _ViT(8, 384, 12, 6, 1536),
    "vit_large_patch16_224": _ViT(16, 1024, 24, 16, 4096),
    "vit_huge_patch14_224": _ViT(14, 1280, 32, 16, 5120),
    "vit_giant_patch14_224": _ViT(14, 1408, 40, 16, 6144),
    **_dinov2("small", 384, 12, 6, 1536),
    **_dinov2("base", 768, 12, 12, 3072),
    **_dinov2("large", 1024, 24, 16, 4096),
    **_dinov2("giant", 1536, 40, 24, 8192, swiglu=True),
}
"""timm's models among which the nearest is named, the first for a network of no family."""


def vit_architecture(state: State, source: Path, settings: dict[str, Any], num_heads: int | None) -> BackboneConfig:
    """The timm model with the fewest differences from a ViT, and these differences as overrides.

    Args:
        state, source, settings, num_heads: see `infer_architecture`.
    Raises:
        CheckpointError: not a plain ViT, its heads are unknown, or its tensors contradict the settings.
    """
    found = _vit(state, source, num_heads)
    _compare(found, settings, source)
    # No override asks for SwiGLU, and none takes layer scale away.
    differences = {
        name: _differences(found, known)
        for name, known in VITS.items()
        if (known.swiglu, known.init_values) == (found.swiglu, found.init_values)
    }
    if not differences:
        raise CheckpointError(f"{source}: a ViT with SwiGLU and no layer scale; name the timm model with --arch NAME")
    name = min(differences, key=lambda name: len(differences[name]))
    return BackboneConfig(name=name, overrides=pooling(state) | differences[name])


def is_plain_vit(state: State) -> bool:
    """True if all tensors but those of a classifier and a decoder have a place in timm's plain ViT."""
    is_vit = "patch_embed.proj.weight" in state and _problem(state) is None
    return is_vit and all(_PLAIN_VIT.match(name) for name in state)


def is_dinov3(state: State) -> bool:
    return {"patch_embed.proj.weight", "blocks.0.gamma_1"} <= state.keys() and "pos_embed" not in state


def dinov3_architecture(state: State, source: Path, num_heads: int | None) -> BackboneConfig:
    """The architecture of a DINOv3 of no published size.

    Raises:
        CheckpointError: not a plain DINOv3, or its heads are unknown.
    """
    weight, fc1 = state["patch_embed.proj.weight"], state.get("blocks.0.mlp.fc1.weight")
    gated = state.get("blocks.0.mlp.fc1_g.weight")
    hidden = fc1 if gated is None else gated
    if weight.ndim != 4 or hidden is None or hidden.ndim != 2 or not depth(state):
        raise CheckpointError(f"{source}: not a plain DINOv3 ViT; name the timm model with --arch NAME")
    width = int(weight.shape[0])
    biased = "blocks.0.attn.q_bias" in state
    name = ("vit_small_patch16_dinov3" if gated is None else "vit_small_plus_patch16_dinov3") + "_qkvb" * biased
    overrides: dict[str, Any] = {
        "patch_size": int(weight.shape[-1]),
        "embed_dim": width,
        "depth": depth(state),
        "num_heads": num_heads or _num_heads(state, width, source),
        "mlp_ratio": _ratio(int(hidden.shape[0]), width),
        "num_reg_tokens": int(state["reg_token"].shape[1]) if "reg_token" in state else 0,
    }
    return BackboneConfig(name=name, overrides=overrides)


def pooling(state: State) -> dict[str, Any]:
    """Overrides that make timm pool in the way that the network was trained for.

    A network with `fc_norm` (MAE and RETFound, fine-tuned) classifies by fc_norm(mean of the patch tokens); its class
    token is not trained and has no norm, so that mean is its embedding. Without `fc_norm` the embedding is the class
    token after the final norm. This includes pre-training files of MAE and RETFound, whose class token no loss has
    read: official MAE and RETFound start from it too, but distances between such embeddings say less than after
    fine-tuning.
    """
    if "fc_norm.weight" in state:
        return {"global_pool": "avg", "fc_norm": True}
    if "patch_embed.proj.weight" in state and "cls_token" not in state:
        return {"global_pool": "avg", "fc_norm": False}
    return {}


def patch_size(state: State) -> int | None:
    """Side of a ViT's patches, pixels; None for a ResNet."""
    weight = state.get("patch_embed.proj.weight")
    return int(weight.shape[-1]) if weight is not None and weight.ndim == 4 else None


def native_size(state: State) -> int | None:
    """Side of the views that a ViT's position embedding was made for, pixels; None if there is none.

    Also None for a hybrid, whose patches are cut from the features of another network.
    """
    patch, position = patch_size(state), state.get("pos_embed")
    if any(name.startswith("patch_embed.backbone.") for name in state):
        return None
    if patch is None or position is None or position.ndim != 3:
        return None
    prefix = _prefix_positions(state)
    return None if prefix is None else patch * math.isqrt(position.shape[1] - prefix)


def depth(state: State) -> int:
    """Number of transformer blocks; 0 for a ResNet, or where their numbers have gaps."""
    return count_blocks(state, r"blocks\.(\d+)\.")


def count_blocks(state: State, pattern: str) -> int:
    """How many numbers a pattern's group matches at the start of names; 0 unless they are 0, 1, 2, ..."""
    numbers = {match[1] for name in state if (match := re.match(pattern, name))}
    return len(numbers) if numbers == {str(number) for number in range(len(numbers))} else 0


def _vit(state: State, source: Path, num_heads: int | None) -> _ViT:
    weight = state["patch_embed.proj.weight"]
    if weight.ndim != 4 or weight.shape[1] != 3 or weight.shape[2] != weight.shape[3] or not weight.numel():
        raise CheckpointError(
            f"{source}: patch_embed.proj.weight has the shape {tuple(weight.shape)}; "
            "expected square patches of 3 channels"
        )
    problem = _problem(state)
    if any(".lora_" in name for name in state):
        problem = "it holds LoRA adapters apart from their layers; merge them first, in peft by merge_and_unload()"
    if problem:
        raise CheckpointError(f"{source}: not a plain ViT ({problem}); name the timm model with --arch NAME")
    if native_size(state) is None:
        entries = int(state["pos_embed"].shape[1])
        lacks = entries > 1 and "cls_token" not in state and math.isqrt(entries - 1) ** 2 == entries - 1
        hint = f": {entries - 1} patches and a class token, which the file lacks" if lacks else ""
        raise CheckpointError(
            f"{source}: the position embedding has {entries} entries, no square grid{hint}; "
            "name the timm model with --arch NAME"
        )
    embed_dim, fc1 = int(weight.shape[0]), state["blocks.0.mlp.fc1.weight"]
    return _ViT(
        patch_size=int(weight.shape[-1]),
        embed_dim=embed_dim,
        depth=depth(state),
        num_heads=num_heads or _num_heads(state, embed_dim, source),
        hidden_dim=int(fc1.shape[0]),
        init_values=_LAYER_SCALE if "blocks.0.ls1.gamma" in state else None,
        reg_tokens=int(state["reg_token"].shape[1]) if "reg_token" in state else 0,
        no_embed_class=_prefix_positions(state) == 0 and ("cls_token" in state or "reg_token" in state),
        swiglu=fc1.shape[0] == 2 * state["blocks.0.mlp.fc2.weight"].shape[1],
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        proj_bias="blocks.0.attn.proj.bias" in state,
        qk_norm="blocks.0.attn.q_norm.weight" in state,
        class_token="cls_token" in state,
    )


def _problem(state: State) -> str | None:
    """The reason why the tensors are not those of a plain ViT; None if they may be."""
    if "pos_embed" not in state:
        return "pos_embed is missing; of networks without it DINOv3s and timm's own sizes are known, else timm:NAME"
    for name, rank in _RANKS.items():
        if name not in state and not name.endswith("_token"):
            return f"{name} is missing"
        if name in state and (state[name].ndim != rank or not state[name].numel()):
            return f"{name} has the shape {tuple(state[name].shape)}; expected {rank} dimensions, none empty"
    return None if depth(state) else "its blocks are not numbered 0, 1, 2, ..."


def _num_heads(state: State, embed_dim: int, source: Path) -> int:
    norm = state.get("blocks.0.attn.q_norm.weight")
    if norm is not None and norm.ndim == 1 and norm.shape[0] and embed_dim % norm.shape[0] == 0:
        return embed_dim // int(norm.shape[0])
    if embed_dim in _HEADS:
        return _HEADS[embed_dim]
    if embed_dim % _HEAD_DIM:
        raise CheckpointError(
            f"{source}: a ViT {embed_dim} wide, of no known family, so its attention heads cannot be known; name it "
            f"with --arch NAME, e.g. --arch vit_base_patch16_224,embed_dim={embed_dim},depth={depth(state)},num_heads=H"
        )
    return embed_dim // _HEAD_DIM


def _differences(found: _ViT, known: _ViT) -> dict[str, Any]:
    names = [name for name in vars(found) if name not in ("swiglu", "hidden_dim")]
    different = {name: getattr(found, name) for name in names if getattr(found, name) != getattr(known, name)}
    if found.hidden_dim * known.embed_dim != known.hidden_dim * found.embed_dim:
        different["mlp_ratio"] = _ratio(found.hidden_dim, found.embed_dim)
    return different


def _ratio(hidden_dim: int, embed_dim: int) -> float:
    """A ratio r with int(embed_dim * r) == hidden_dim, as timm computes it."""
    exact = hidden_dim / embed_dim
    return exact if int(embed_dim * exact) == hidden_dim else (hidden_dim + 0.5) / embed_dim


def _compare(found: _ViT, settings: dict[str, Any], source: Path) -> None:
    width = _DINO_ARCHS.get(str(settings.get("arch")))
    patch = settings.get("patch_size")
    if width is not None and (width != found.embed_dim or (type(patch) is int and patch != found.patch_size)):
        raise CheckpointError(
            f"{source}: its args say {settings['arch']} with patches of {patch}, its tensors a ViT "
            f"{found.embed_dim} wide with patches of {found.patch_size}; name the right timm model with --arch NAME"
        )


def _prefix_positions(state: State) -> int | None:
    """Entries of the position embedding that belong to no patch; None if the rest is not a square grid."""
    entries = int(state["pos_embed"].shape[1])
    registers = int(state["reg_token"].shape[1]) if "reg_token" in state and state["reg_token"].ndim == 3 else 0
    class_tokens = 1 if "cls_token" in state else 0
    for prefix in dict.fromkeys((class_tokens + registers, 0)):
        patches = entries - prefix
        if patches > 0 and math.isqrt(patches) ** 2 == patches:
            return prefix
    return None
