"""Tensors of other programs under timm's names: DINOv2, DINOv3, Hugging Face's ViTs and torchvision's.

Each converter knows one layout by a tensor that only this layout has. What timm has no place for is either told apart
by its name and left out (mask tokens, poolers), or kept under its own name, so that it is reported as unexpected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from augscale.errors import CheckpointError
from augscale.networks.torchvision_names import torchvision_names

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    """An encoder under timm's names."""

    state: State
    layout: str | None = None
    """Whose names they were, e.g. "Hugging Face ViT"; None for timm's own and those that differ little."""
    norm_eps: float | None = None
    """Of the layer norms, where that layout's own code has another than timm; None: timm's."""
    named: tuple[str, ...] = ()
    """timm's models among which it is, where the layout says so."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """What has to differ from timm's defaults for equal results."""


_CHUNKED_BLOCK = re.compile(r"blocks\.\d+\.(\d+)\.(?=norm[12]\.|attn\.|mlp\.|ls[12]\.)")
_VIT_ANCHOR = "patch_embed.proj.weight"


def timm_names(encoder: State) -> State:
    """See `convert`."""
    return convert(encoder).state


def convert(encoder: State, source: Path | str = "weights") -> Converted:
    """An encoder's tensors under timm's names.

    Official DINO, MAE and torchvision's ResNets use timm's names already.

    Args:
        encoder: with no prefix before its names.
        source: the file, for messages.
    Raises:
        CheckpointError: the layout is known and this file of it computes what no network of timm does.
    """
    if "embeddings.patch_embeddings.projection.weight" in encoder and "embeddings.cls_token" in encoder:
        return _hugging_face_vit(encoder, source)
    if "embeddings.patch_embeddings.weight" in encoder and "embeddings.cls_token" in encoder:
        return _hugging_face_dinov3(encoder, source)
    if "conv_proj.weight" in encoder and "class_token" in encoder:
        return _torchvision_vit(encoder)
    if "storage_tokens" in encoder and _VIT_ANCHOR in encoder:
        return _official_dinov3(encoder, source)
    if "0.weight" in encoder and "4.0.conv1.weight" in encoder:
        return Converted(state=_sequential_resnet(encoder))
    found = torchvision_names(encoder)
    if found is not None:
        state, paired = found
        named, overrides = ((paired.name,), paired.overrides) if paired else ((), {})
        return Converted(state=state, layout="torchvision", named=named, overrides=dict(overrides))
    return Converted(state=_dinov2(encoder))


def _dinov2(encoder: State) -> State:
    """DINOv2 differs from timm in three things.

    Blocks may be kept in chunks (`blocks.0.3.` is block 3), SwiGLU layers are w12 and w3, and with registers the class
    token has a position of its own, which timm adds to the token once and for all.
    """
    if _VIT_ANCHOR not in encoder:
        return encoder
    named = {}
    for name, value in encoder.items():
        name = _CHUNKED_BLOCK.sub(r"blocks.\1.", name)
        name = re.sub(r"(blocks\.\d+\.mlp\.)w12\.", r"\1fc1.", name)
        named[re.sub(r"(blocks\.\d+\.mlp\.)w3\.", r"\1fc2.", name)] = value
    position = named.get("pos_embed")
    if position is not None and position.ndim == 3 and {"register_tokens", "cls_token"} <= named.keys():
        named["reg_token"] = named.pop("register_tokens")
        named["cls_token"] = named["cls_token"] + position[:, :1]
        named["pos_embed"] = position[:, 1:]
    return named


def _sequential_resnet(encoder: State) -> State:
    """`nn.Sequential(*list(resnet.children())[:-1])`, as lightly's examples build it: conv, norm, act, pool, stages."""
    parts = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    return {
        ".".join((parts.get(first, first), rest)): value
        for (first, _, rest), value in ((name.partition("."), value) for name, value in encoder.items())
    }


_HF_RENAMED = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.mask_token", "mask_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.register_tokens", "register_tokens"),
    (r"embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)", r"patch_embed.proj.\1"),
    (r"layernorm\.(weight|bias)", r"norm.\1"),
)
_HF_BLOCK = re.compile(r"(?:encoder\.|model\.)?layers?\.(\d+)\.(.+)")
_HF_IN_BLOCK = (
    (r"attention\.(?:attention\.)?(?:query|q_proj)\.", "attn.q."),
    (r"attention\.(?:attention\.)?(?:key|k_proj)\.", "attn.k."),
    (r"attention\.(?:attention\.)?(?:value|v_proj)\.", "attn.v."),
    (r"attention\.(?:output\.dense|o_proj)\.", "attn.proj."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"output\.dense\.", "mlp.fc2."),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"mlp\.weights_in\.", "mlp.fc1."),
    (r"mlp\.weights_out\.", "mlp.fc2."),
)
"""Names of transformers, before and since version 5."""
_HF_VIT_EPS = 1e-12
"""Default of transformers' ViT, ViTMAE and DeiT; its DINOv2 has 1e-6 as timm."""


def _hugging_face_names(encoder: State) -> State:
    named = {}
    for name, value in encoder.items():
        block = _HF_BLOCK.fullmatch(name)
        if block:
            rest = _first_match(_HF_IN_BLOCK, block[2], re.match)
            named[f"blocks.{block[1]}.{rest}"] = value
        elif not name.startswith("pooler."):
            named[_first_match(_HF_RENAMED, name, re.fullmatch)] = value
    return named


def _first_match(renamed: tuple[tuple[str, str], ...], name: str, match: Callable[..., re.Match[str] | None]) -> str:
    for pattern, replacement in renamed:
        if match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return name


def _with_joined_qkv(named: State) -> State:
    """Queries, keys and values in one tensor, in that order, as timm has them; a missing bias is 0."""
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
        if "dist_token" in named:
            return Converted(state=named, layout="Hugging Face DeiT", norm_eps=_HF_VIT_EPS)
        return Converted(state=named, layout="Hugging Face ViT", norm_eps=_HF_VIT_EPS)
    return Converted(state=_dinov2(_with_packed_gates(named)), layout="Hugging Face DINOv2")


def _with_packed_gates(named: State) -> State:
    """SwiGLU as one layer, gate first, as DINOv2 and timm have it; transformers keeps two since version 5."""
    packed = {}
    for name, value in named.items():
        if ".mlp.gate_proj." in name:
            value = torch.cat([value, named[name.replace("gate_proj", "up_proj")]])
        elif ".mlp.up_proj." in name:
            continue
        packed[name.replace("mlp.gate_proj.", "mlp.fc1.").replace("mlp.down_proj.", "mlp.fc2.")] = value
    return packed


def _hugging_face_dinov3(encoder: State, source: Path | str) -> Converted:
    named = _hugging_face_names(encoder)
    named["reg_token"] = named.pop("register_tokens", torch.zeros(0))
    renamed = {}
    for name, value in named.items():
        name = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name)
        gated = any(".mlp.gate_proj." in other for other in named)
        name = name.replace(".mlp.gate_proj.", ".mlp.fc1_g.")
        name = name.replace(".mlp.up_proj.", ".mlp.fc1_x." if gated else ".mlp.fc1.")
        renamed[name.replace(".mlp.down_proj.", ".mlp.fc2.")] = value
    if not renamed["reg_token"].numel():
        del renamed["reg_token"]
    renamed.pop("mask_token", None)
    return _dinov3(_with_joined_qkv(renamed), "Hugging Face DINOv3", source)


def _official_dinov3(encoder: State, source: Path | str) -> Converted:
    """Names as in Meta's repository; masks are multiplied in, and what is only for training is left out."""
    named = {}
    for name, value in encoder.items():
        if name in ("mask_token", "rope_embed.periods") or name.startswith("local_cls_norm."):
            continue
        name = _CHUNKED_BLOCK.sub(r"blocks.\1.", name)
        name = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name).replace("storage_tokens", "reg_token")
        name = name.replace(".mlp.w1.", ".mlp.fc1_g.").replace(".mlp.w2.", ".mlp.fc1_x.")
        named[name.replace(".mlp.w3.", ".mlp.fc2.")] = value
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
    """timm has q_bias and v_bias, and none for keys; where all are 0, as in most released files, it has neither."""
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


_TV_RENAMED = (
    (r"class_token", "cls_token"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding", "pos_embed"),
    (r"encoder\.ln\.", "norm."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.", r"blocks.\1.mlp.fc2."),
    (r"heads\.(?:head|\d+)\.", "head."),
)


def _torchvision_vit(encoder: State) -> Converted:
    renamed = {_first_match(_TV_RENAMED, name, re.match): value for name, value in encoder.items()}
    return Converted(state=renamed, layout="torchvision ViT")


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


def foreign_layout(names: Iterable[str]) -> str | None:
    """Whose network it is, of those that are known and not translated; None for any other."""
    known = set(names)
    for anchor, layout in _UNTRANSLATED:
        if any(name == anchor or name.endswith(f".{anchor}") for name in known):
            return layout
    return None
