"""Translates tensor names of other programs to timm's: DINOv2, DINOv3, Hugging Face's ViTs and torchvision's networks.

Each converter recognizes one layout by a tensor that only this layout has. Tensors that timm has no place for are left
out where they are known to be unused (mask tokens, poolers); all others keep their own names, so that they are reported
as unexpected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch

from augscale.errors import CheckpointError
from augscale.networks.tensor_files import State
from augscale.networks.torchvision_names import Rules, renamed, torchvision_names


@dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    """An encoder under timm's names."""

    state: State
    layout: str | None = None
    """The program that used the original names, e.g. "Hugging Face ViT"; None for timm's names and similar ones."""
    norm_eps: float | None = None
    """Epsilon of the layer norms if that program uses another one than timm; None: timm's."""
    named: tuple[str, ...] = ()
    """timm's models that it may be, if the layout restricts them."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Differences from timm's defaults that are needed for equal results."""


_CHUNKED_BLOCK = (r"blocks\.\d+\.(\d+)\.(?=norm[12]\.|attn\.|mlp\.|ls[12]\.)", r"blocks.\1.")
"""Meta's code may store blocks in chunks: `blocks.0.3.` is block 3."""
_VIT_ANCHOR = "patch_embed.proj.weight"


def convert(encoder: State, source: Path | str = "weights") -> Converted:
    """An encoder's tensors under timm's names.

    Official DINO, MAE and torchvision's ResNets use timm's names already.

    Args:
        encoder: names without a prefix.
        source: the file, for messages.
    Raises:
        CheckpointError: the layout is known, but no timm network computes the same.
    """
    if "embeddings.patch_embeddings.projection.weight" in encoder and "embeddings.cls_token" in encoder:
        return _hugging_face_vit(encoder, source)
    if "embeddings.patch_embeddings.weight" in encoder and "embeddings.cls_token" in encoder:
        return _hugging_face_dinov3(encoder, source)
    if "conv_proj.weight" in encoder and "class_token" in encoder:
        return Converted(state=renamed(encoder, _TORCHVISION_VIT), layout="torchvision ViT")
    if "storage_tokens" in encoder and _VIT_ANCHOR in encoder:
        return _official_dinov3(encoder, source)
    if "0.weight" in encoder and "4.0.conv1.weight" in encoder:
        return Converted(state=renamed(encoder, _SEQUENTIAL_RESNET))
    found = torchvision_names(encoder)
    if found is not None:
        state, model, overrides = found
        return Converted(state=state, layout="torchvision", named=(model,) if model else (), overrides=dict(overrides))
    return Converted(state=_dinov2(encoder))


_UNTRANSLATED = (
    ("embedder.embedder.convolution.weight", "a ResNet of Hugging Face"),
    ("embedder.convolution.weight", "a RegNet or ResNet of Hugging Face"),
    ("encoder.stages.0.layers.0.dwconv.weight", "a ConvNeXt of Hugging Face"),
    ("encoder.layers.0.blocks.0.layernorm_before.weight", "a Swin of Hugging Face"),
    ("vision_model.embeddings.patch_embedding.weight", "the image encoder of a CLIP or SigLIP of Hugging Face"),
    ("embeddings.patch_embedding.weight", "the image encoder of a CLIP or SigLIP of Hugging Face"),
    ("features.0.0.weight", "a network of torchvision"),
    ("stem.0.0.weight", "a MaxViT of torchvision"),
    ("trunk_output.block1.block1-0.f.a.0.weight", "a RegNet of torchvision"),
    ("inception3a.branch1.conv.weight", "a GoogLeNet of torchvision"),
    ("model.0.conv.weight", "a network of Ultralytics"),
    ("visual.transformer.resblocks.0.ln_1.weight", "a CLIP of OpenAI or OpenCLIP"),
    ("body.conv1.weight", "a detector of torchvision"),
    ("encoder.conv1.weight", "a segmentation network"),
)
"""A tensor that only this layout has, anywhere at the end of its name, and the layout's name."""


def untranslated_layout(names: Iterable[str]) -> str | None:
    """A layout that is recognized but not translated; None for any other."""
    known = set(names)
    for anchor, layout in _UNTRANSLATED:
        if any(name == anchor or name.endswith(f".{anchor}") for name in known):
            return layout
    return None


_TORCHVISION_VIT: Rules = (
    (r"^class_token", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
    (r"^(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
    (r"^(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.mlp\.(?:0|linear_1)\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.mlp\.(?:3|linear_2)\.", r"\1.mlp.fc2."),
    (r"^heads\.(?:head|\d+)\.", "head."),
)
_SEQUENTIAL_RESNET: Rules = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^([4-7])\.", lambda stage: f"layer{int(stage[1]) - 3}."),
)
"""`nn.Sequential(*list(resnet.children())[:-1])`, as lightly's examples build it: conv, norm, act, pool, stages."""
_DINOV2: Rules = (
    _CHUNKED_BLOCK,
    (r"(blocks\.\d+\.mlp\.)w12\.", r"\1fc1."),
    (r"(blocks\.\d+\.mlp\.)w3\.", r"\1fc2."),
)


def _dinov2(encoder: State) -> State:
    """DINOv2 differs from timm in its chunks of blocks, in the names of SwiGLU layers, and in the class token.

    With registers the class token has an entry in the position embedding; timm adds it to the token itself.
    """
    if _VIT_ANCHOR not in encoder:
        return encoder
    named = renamed(encoder, _DINOV2)
    position = named.get("pos_embed")
    if position is not None and position.ndim == 3 and {"register_tokens", "cls_token"} <= named.keys():
        named["reg_token"] = named.pop("register_tokens")
        named["cls_token"] = named["cls_token"] + position[:, :1]
        named["pos_embed"] = position[:, 1:]
    return named


# Hugging Face

_HF: Rules = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)$", r"patch_embed.proj.\1"),
    (r"^layernorm\.(weight|bias)$", r"norm.\1"),
    (r"^(?:encoder\.|model\.)?layers?\.(\d+)\.(?=.)", r"blocks.\1."),
    (r"^(blocks\.\d+)\.attention\.(?:attention\.)?(?:query|q_proj)\.", r"\1.attn.q."),
    (r"^(blocks\.\d+)\.attention\.(?:attention\.)?(?:key|k_proj)\.", r"\1.attn.k."),
    (r"^(blocks\.\d+)\.attention\.(?:attention\.)?(?:value|v_proj)\.", r"\1.attn.v."),
    (r"^(blocks\.\d+)\.attention\.(?:output\.dense|o_proj)\.", r"\1.attn.proj."),
    (r"^(blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^(blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^(blocks\.\d+)\.layer_scale([12])\.lambda1", r"\1.ls\2.gamma"),
    (r"^(blocks\.\d+)\.mlp\.weights_in\.", r"\1.mlp.fc1."),
    (r"^(blocks\.\d+)\.mlp\.weights_out\.", r"\1.mlp.fc2."),
)
"""Names of transformers, before and since version 5."""
_HF_VIT_EPS = 1e-12
"""Default of transformers' ViT, ViTMAE and DeiT; its DINOv2 has 1e-6 like timm."""


def _hugging_face_names(encoder: State) -> State:
    return renamed({name: value for name, value in encoder.items() if not name.startswith("pooler.")}, _HF)


def _with_joined_qkv(named: State) -> State:
    """Queries, keys and values in one tensor, in that order, as timm has them; a missing bias becomes 0."""
    joined = {}
    for name, value in named.items():
        match = re.fullmatch(r"(blocks\.\d+\.attn\.)([qkv])\.(weight|bias)", name)
        if not match:
            joined[name] = value
            continue
        target = f"{match[1]}qkv.{match[3]}"
        if target not in joined:
            parts = [named.get(f"{match[1]}{part}.{match[3]}") for part in "qkv"]
            joined[target] = torch.cat([torch.zeros_like(value) if part is None else part for part in parts])
    return joined


def _hugging_face_vit(encoder: State, source: Path | str) -> Converted:
    if any("relative_position_bias" in name or name.endswith("lambda_1") for name in encoder):
        raise CheckpointError(
            f"{source}: a BEiT of Hugging Face, whose names are not translated; give timm's own weights of that "
            "network (timm:NAME, or a file under timm's names)"
        )
    named = _with_joined_qkv(_hugging_face_names(encoder))
    if any(name.endswith(".layernorm_before.weight") for name in encoder):
        kind = "DeiT" if "dist_token" in named else "ViT"
        return Converted(state=named, layout=f"Hugging Face {kind}", norm_eps=_HF_VIT_EPS)
    return Converted(state=_dinov2(_with_joined_gates(named)), layout="Hugging Face DINOv2")


def _with_joined_gates(named: State) -> State:
    """SwiGLU as one layer, gate first, as DINOv2 and timm have it; transformers has two layers since version 5."""
    packed = {}
    for name, value in named.items():
        if ".mlp.gate_proj." in name:
            value = torch.cat([value, named[name.replace("gate_proj", "up_proj")]])
        elif ".mlp.up_proj." in name:
            continue
        packed[name.replace("mlp.gate_proj.", "mlp.fc1.").replace("mlp.down_proj.", "mlp.fc2.")] = value
    return packed


# DINOv3


_HF_DINOV3: Rules = (
    (r"^register_tokens$", "reg_token"),
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)
_META_DINOV3: Rules = (
    _CHUNKED_BLOCK,
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"storage_tokens", "reg_token"),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)


def _hugging_face_dinov3(encoder: State, source: Path | str) -> Converted:
    named = _hugging_face_names(encoder)
    gated = any(".mlp.gate_proj." in name for name in named)
    named = renamed(named, (*_HF_DINOV3, (r"\.mlp\.up_proj\.", ".mlp.fc1_x." if gated else ".mlp.fc1.")))
    if "reg_token" in named and not named["reg_token"].numel():
        del named["reg_token"]
    named.pop("mask_token", None)
    return _dinov3(_with_joined_qkv(named), "Hugging Face DINOv3", source)


def _official_dinov3(encoder: State, source: Path | str) -> Converted:
    """Names as in Meta's repository; masks of biases are applied, and tensors for training only are left out."""
    training_only = re.compile(r"mask_token$|rope_embed\.periods$|local_cls_norm\.")
    named = renamed({name: value for name, value in encoder.items() if not training_only.match(name)}, _META_DINOV3)
    for name in [name for name in named if name.endswith(".bias_mask")]:
        mask, bias = named.pop(name), name.removesuffix("_mask")
        if bias in named:
            # Keys are masked by 0, in early files by NaN.
            named[bias] = torch.where(torch.nan_to_num(mask) == 0, torch.zeros_like(named[bias]), named[bias])
    return _dinov3(named, "official DINOv3", source)


def _dinov3(named: State, layout: str, source: Path | str) -> Converted:
    """Meta's and Hugging Face's DINOv3 embed the class token; timm by default the mean of the patch tokens."""
    models = tuple(timm.list_models("*_dinov3*"))
    pooled = {"global_pool": "token"}
    return Converted(state=_dinov3_biases(named, source), layout=layout, named=models, overrides=pooled)


def _dinov3_biases(named: State, source: Path | str) -> State:
    """timm has q_bias and v_bias and no bias of keys; if all are 0, as in most released files, it has neither."""
    biases = {name: value for name, value in named.items() if name.endswith(".attn.qkv.bias")}
    rest = {name: value for name, value in named.items() if name not in biases}
    if not any(value.any() for value in biases.values()):
        return rest
    for name, value in biases.items():
        query, key, value = value.chunk(3)
        if key.any():
            raise CheckpointError(f"{source}: a DINOv3 whose keys have a bias ({name}), which no model of timm has")
        block = name.removesuffix("qkv.bias")
        rest |= {f"{block}q_bias": query, f"{block}v_bias": value}
    return rest
