"""Encoders from timm as `Backbone`: images in, embeddings out."""

from __future__ import annotations

import contextlib
import io
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import DropPath, convert_sync_batchnorm
from timm.models import get_pretrained_cfg, is_model_in_modules
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.checkpoint_paths import is_checkpoint_path
from augscale.networks.loading import LoadReport, load_weights_into
from augscale.networks.plain_vit import class_and_patch_tokens, class_token, has_patch_tokens, is_plain
from augscale.networks.precision import GroupedConvolutionsInFp32, has_grouped_convolutions
from augscale.networks.pretrained import WeightsUnavailable, pretrained_arguments, pretrained_size
from augscale.networks.stochastic_depth import DepthDraws
from augscale.networks.vit_on_gpu import class_token_by_factors
from augscale.settings import nearest

__all__ = ["Backbone", "build_backbone", "convert_sync_batchnorm"]

_VIT_MODULES = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva")
"""timm's modules whose ViTs take views of any size that is a multiple of the patch."""
_RESERVED = ("num_classes", "img_size", "dynamic_img_size", "pretrained", "drop_path_rate", "in_chans")


class Backbone(nn.Module):
    """A timm model without its classifier.

    The embedding is the input of timm's classifier. For a plain ViT, as in official DINO, that is the class token after
    the final norm; for ViTs that timm pools otherwise (mean of the patch tokens, attention pooling) and for ResNets
    (global average pool) it is the pooled feature.

    Attributes:
        model: the timm model; its state dict has timm's names.
        embed_dim: D.
        fixed_size: the only side of views that it accepts, pixels; None if it accepts several.
        load_report: how the tensors of the weights file matched; None if no file was loaded.
        draws_by_image: True if the argument `draws` is the only source of randomness of `forward` in training.
        compiled: True if training a plain ViT on a GPU uses functions compiled by torch; initially False.
        input_scale, input_shift: float32, shape (3, 1, 1); convert ImageNet's normalization to the network's own (see
            `expect_normalization`); None if they are the same.
    """

    input_scale: Tensor | None
    input_shift: Tensor | None

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # Some networks widen num_features to head_hidden_size before the classifier.
        self.embed_dim = int(getattr(model, "head_hidden_size", None) or model.num_features)  # type: ignore[arg-type]
        self.fixed_size: int | None = None
        self.load_report: LoadReport | None = None
        self.compiled = False
        self._attentions = [module for module in model.modules() if hasattr(module, "fused_attn")]
        self._is_plain_vit = is_plain(model)
        dropouts = any(module.p for module in model.modules() if isinstance(module, nn.Dropout))
        self.draws_by_image = self._is_plain_vit and not dropouts and isinstance(model.patch_drop, nn.Identity)
        self._drops_paths = any(isinstance(module, DropPath) and module.drop_prob for module in model.modules())
        self._memory_format = _memory_format(model)
        self._stride = _stride(model)
        self._has_grouped_convolutions = has_grouped_convolutions(model)
        self.model.to(memory_format=self._memory_format)
        # Not persistent, so that weights files hold timm's tensors only.
        self.register_buffer("input_scale", None, persistent=False)
        self.register_buffer("input_shift", None, persistent=False)

    @property
    def patch_size(self) -> int | None:
        """Side of a ViT's patches in pixels of the view (times the reduction of a hybrid's stem); None for a ResNet."""
        ratio = getattr(getattr(self.model, "patch_embed", None), "feat_ratio", None)
        return None if ratio is None else int(ratio())

    @property
    def has_patch_tokens(self) -> bool:
        """True if `tokens` can be called: the network is a plain ViT."""
        return has_patch_tokens(self.model)

    def forward(self, x: Tensor, draws: DepthDraws | None = None) -> Tensor:
        """Embeddings.

        Args:
            x: float, shape (N, 3, s, s), normalized with ImageNet's mean and standard deviation; any s for a ResNet,
                any multiple of the patch size for a ViT.
            draws: random draws of stochastic depth, see `draws_by_image`; None: torch's generator.
        Returns:
            float, shape (N, D).
        """
        x = self._prepared(x)
        with self._safe_precision(x):
            if not self._is_plain_vit:
                embedding: Tensor = self.model(x)
                return embedding
            on_gpu = self.training and x.device.type != "cpu"
            if on_gpu and self.draws_by_image and (draws is not None or not self._drops_paths):
                return class_token_by_factors(self.model, x, draws, compiled=self.compiled)
            return class_token(self.model, x, draws)

    def tokens(
        self, x: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None, draws: DepthDraws | None = None
    ) -> tuple[Tensor, Tensor]:
        """Embeddings and patch tokens; only where `has_patch_tokens`.

        Args:
            x, draws: as for `forward`.
            mask: bool, shape (N, P), patches that are replaced by the mask token; None: none.
            mask_token: float32, shape (1, D); needed with a mask.
        Returns:
            float, shapes (N, D) and (N, P, D).
        """
        x = self._prepared(x)
        with self._safe_precision(x):
            return class_and_patch_tokens(self.model, x, mask, mask_token, draws)

    def _prepared(self, x: Tensor) -> Tensor:
        self._choose_attention(x.device)
        if self.input_scale is not None and self.input_shift is not None:
            x = x * self.input_scale + self.input_shift
        return x.contiguous(memory_format=self._memory_format)

    def expect_normalization(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Makes `forward` convert views from ImageNet's normalization to that of the network's training.

        Args:
            mean: mean of each channel in training, in [0, 1].
            std: standard deviation of each channel in training, above 0.
        """
        own, ours = torch.tensor([mean, std]), torch.tensor([IMAGENET_MEAN, IMAGENET_STD])
        if torch.allclose(own, ours, rtol=0, atol=1e-6):
            return
        device = next(self.model.parameters()).device
        self.input_scale = (ours[1] / own[1]).view(3, 1, 1).to(device)
        self.input_shift = ((ours[0] - own[0]) / own[1]).view(3, 1, 1).to(device)

    def check_view_size(self, size: int, name: str) -> None:
        """Refuses views that the network does not accept; `name` is the setting that the message blames.

        Raises:
            ConfigError: `size` is not a multiple of the patch size, or not the one that the network is built for.
        """
        if self.fixed_size is not None and size != self.fixed_size:
            kind = type(self.model).__name__
            raise ConfigError(f"{name} = {size}: {kind} takes images of one size only, here {self.fixed_size} pixels")
        if self.patch_size and size % self.patch_size:
            raise ConfigError(f"{name} = {size}: expected a multiple of the backbone's patch size {self.patch_size}")

    def convert_state_dict(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Applies timm's own conversion of released weights; it resamples position embeddings to this model's grid."""
        if isinstance(self.model, VisionTransformer):
            converted: dict[str, Tensor] = checkpoint_filter_fn(dict(state_dict), self.model)
            return converted
        own = self.model.state_dict()
        if _fitting(state_dict, own) == len(own):
            return state_dict
        converted = _filtered(state_dict, self.model)
        return max((state_dict, converted), key=lambda state: _fitting(state, own))

    def _safe_precision(self, x: Tensor) -> AbstractContextManager[object]:
        """Leaves bf16 autocast on a CPU where it is wrong (very small views) or slow (gradients with groups).

        Where a strided convolution receives a single pixel, the bf16 gradient of its weights is computed from
        uninitialized memory (torch 2.14.1 with oneDNN 3.12: a 3 x 3 convolution of stride 2 on 1 x 1 pixels), so that a
        run is not repeatable or ends in NaN.
        """
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return nullcontext()
        if self._stride is not None and x.shape[-1] <= self._stride // 2:
            return torch.autocast("cpu", enabled=False)
        slow = self._has_grouped_convolutions and torch.is_grad_enabled()
        return GroupedConvolutionsInFp32() if slow else nullcontext()

    def _choose_attention(self, device: torch.device) -> None:
        """Uses torch's fused attention except in bf16 on a CPU, where its kernel is several times slower."""
        fused = not (device.type == "cpu" and torch.is_autocast_enabled("cpu"))
        for module in self._attentions:
            module.fused_attn = fused  # type: ignore[assignment]


def _filtered(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights after timm's conversion for released files of this family; unchanged if that fails."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state_dict
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return dict(convert(dict(state_dict), model))
    except Exception:  # the conversion expects the names of released files
        return state_dict


def _fitting(state_dict: dict[str, Tensor], own: dict[str, Tensor]) -> int:
    return sum(key in state_dict and state_dict[key].shape == value.shape for key, value in own.items())


def build_backbone(
    config: BackboneConfig,
    image_size: int,
    *,
    drop_path: float = 0.0,
    seed: int = 0,
    size_name: str = "crops.global_size",
) -> Backbone:
    """Builds the encoder and initializes its weights.

    Args:
        config: name, overrides for timm.create_model, and `init`: "none" (random, a pure function of the seed),
            "imagenet" (timm's weights for this name; a tag chooses among them, e.g. "vit_small_patch16_224.dino"),
            or a weights file: ours, a timm state dict, or a DINO or DINOv2 checkpoint.
        image_size: side of the global views, pixels; a ViT's position embedding is built for it.
        drop_path: stochastic depth rate, in [0, 1].
        seed: seed of random weights.
        size_name: setting that `image_size` came from, for messages.
    Raises:
        ConfigError: unknown model or argument, or views that do not fit the model.
        CheckpointError: the weights are not available, or do not fit.
    """
    _check_name(config)
    arguments: dict[str, Any] = dict(config.overrides) | {"num_classes": 0, "drop_path_rate": drop_path}
    is_vit = takes_any_size(config.name)
    if is_vit:
        arguments |= {"img_size": image_size, "dynamic_img_size": True}
    if config.init == "imagenet":
        arguments |= pretrained_arguments(config.name)
    cfg = get_pretrained_cfg(config.name)
    fixed = not is_vit and cfg is not None and cfg.fixed_input_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = _of_one_size(config, arguments, image_size) if fixed else Backbone(_create(config, arguments))
    backbone.check_view_size(image_size, size_name)
    if config.init not in ("none", "imagenet"):
        backbone.load_report = load_weights_into(backbone, Path(config.init))
    return backbone


def takes_any_size(name: str) -> bool:
    """True if a model is one of timm's ViTs that take views of any size that is a multiple of the patch."""
    return is_model_in_modules(name.split(".")[0], _VIT_MODULES)


def check_init(config: BackboneConfig) -> None:
    """Checks that the initial weights are available, without loading them.

    Raises:
        CheckpointError: they are not; the message says what to do.
    """
    if config.init == "imagenet":
        pretrained_arguments(config.name)
    elif config.init != "none" and not is_checkpoint_path(config.init):
        raise CheckpointError(
            f"backbone.init = {config.init!r}: no such file; expected none, imagenet or a weights file"
        )


def _check_name(config: BackboneConfig) -> None:
    name, _, tag = config.name.partition(".")
    if not timm.is_model(name):
        hint = nearest(name, timm.list_models())
        raise ConfigError(f"backbone.name: unknown model {config.name!r}{hint}; expected a ViT or ResNet of timm")
    known_tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in known_tags:
        raise ConfigError(f"backbone.name: {name} has no weights {tag!r}; expected one of {', '.join(known_tags)}")
    reserved = sorted(set(config.overrides) & set(_RESERVED))
    if reserved:
        raise ConfigError(f"backbone.overrides: {', '.join(reserved)} cannot be overridden; other settings decide it")


def _of_one_size(config: BackboneConfig, arguments: dict[str, Any], image_size: int) -> Backbone:
    """A network that accepts one image size: `image_size` if timm can build it for that, else its default size."""
    native = pretrained_size(config.name)
    if image_size != native:
        # Some models have no img_size; others accept one that they cannot cut into their patches and windows.
        with contextlib.suppress(ConfigError, RuntimeError), torch.no_grad():
            backbone = Backbone(_create(config, arguments | {"img_size": image_size}))
            backbone.eval()(next(backbone.parameters()).new_zeros(1, 3, image_size, image_size))
            backbone.fixed_size = image_size
            return backbone.train()
    backbone = Backbone(_create(config, arguments))
    backbone.fixed_size = native
    return backbone


def _create(config: BackboneConfig, arguments: dict[str, Any]) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(config.name, **arguments)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, TypeError) and "drop_path_rate" in reason and "drop_path_rate" in arguments:
            rate = arguments["drop_path_rate"]
            if rate:
                raise ConfigError(
                    f"backbone.drop_path = {rate}: {config.name} has no stochastic depth; expected 0"
                ) from None
            return _create(config, {name: value for name, value in arguments.items() if name != "drop_path_rate"})
        if arguments.get("pretrained") and not isinstance(error, TypeError | AssertionError):
            raise WeightsUnavailable(config.name, reason) from None
        raise ConfigError(f"backbone.overrides = {config.overrides} do not fit {config.name}: {reason}") from None
    return model


def _memory_format(model: nn.Module) -> torch.memory_format:
    """channels_last for convolutional networks: faster on CPUs and GPUs, with the same results.

    A plain ViT has one convolution, which cuts the patches, and gains nothing.
    """
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    if any(isinstance(module, nn.Conv3d) for module in model.modules()):
        return torch.contiguous_format
    return torch.channels_last if convolutions > 1 else torch.contiguous_format


def _stride(model: nn.Module) -> int | None:
    """Factor by which a convolutional network reduces the side of an image; None for others, e.g. ViTs."""
    info = getattr(model, "feature_info", None)
    if not isinstance(info, list) or _memory_format(model) != torch.channels_last:
        return None
    return max((int(stage["reduction"]) for stage in info), default=None)
