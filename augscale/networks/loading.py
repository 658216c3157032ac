"""Loads weights files of many programs into a backbone, and refuses files of another network.

`tensor_files` reads the file, `find_network` finds the network in it, `foreign_names` translates its names.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from augscale.errors import CheckpointError
from augscale.networks.checkpoint_paths import read_weights, weights_file
from augscale.networks.find_network import Network, chosen_network, find_network
from augscale.networks.foreign_names import Converted, convert
from augscale.networks.tensor_files import State, first_line, listed, printable
from augscale.networks.timm_index import classifiers
from augscale.networks.vit_architectures import patch_size

if TYPE_CHECKING:
    from augscale.networks.backbones import Backbone

MIN_MATCHED = 0.95
"""Share of a backbone's parameters that a file must hold, counted in numbers and in tensors."""

_TOKENS = ("cls_token", "reg_token", "register_tokens", "dist_token", "pos_embed")
_CLASSIFIERS = ("head", "heads", "head_drop", "fc", "classifier", "last_linear", "global_pool")
_ADDED = re.compile(
    r"(^|[._])(lora_[ab]|w_[ab]s|adapters?|(deep_)?prompt_(embeddings|tokens)|rel(ative)?_pos_bias)([._]|$)", re.I
)
"""Additions to an encoder that take part in its computation, wherever the file stores them."""
_LISTED = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """How a file's tensors match a backbone's parameters and buffers."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """In the backbone only; they keep their initial values."""
    mismatched: tuple[str, ...]
    """In both, with other shapes or kinds of numbers; they keep their initial values."""
    unexpected: tuple[str, ...]
    """In the file only, e.g. a projection head or a classifier."""
    matched_share: float
    """Share of the backbone's parameters, in numbers or in tensors, whichever is smaller; in [0, 1]."""

    def __str__(self) -> str:
        parts = [f"{self.matched_share:.1%} of the parameters matched"]
        for name in ("missing", "mismatched", "unexpected"):
            keys = getattr(self, name)
            if keys:
                parts.append(f"{len(keys)} {name} ({listed(keys, _LISTED)})")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightsFile:
    """An opened weights file: one of its networks, under timm's names."""

    path: Path
    content: dict[Any, Any]
    network: Network
    converted: Converted

    @property
    def state(self) -> State:
        """The encoder's tensors under timm's names."""
        return self.converted.state


def open_weights(path: Path, key: str | None = None) -> WeightsFile:
    """Opens a weights file, or the one in a folder of a trial or of Hugging Face; `key` as in `find_network`.

    Raises:
        CheckpointError: it cannot be read, or holds no such network.
    """
    path = weights_file(path)
    content = read_weights(path)
    network = find_network(content, path, key)
    return WeightsFile(path=path, content=content, network=network, converted=convert(network.encoder, path))


def load_weights_into(backbone: Backbone, path: Path | str) -> LoadReport:
    """Loads a weights file into a backbone.

    Reads the same files as `load_checkpoint`: removes wrappers and prefixes, takes the moving average if there are
    several networks, translates names of other programs, and resamples a position embedding of another grid.

    Args:
        backbone: keeps its own values for tensors that the file lacks.
        path: ".safetensors", a file of torch.save, or a folder of Hugging Face.
    Returns:
        The report; it is also logged if anything is missing.
    Raises:
        CheckpointError: not a weights file, another network's, or fewer than 95 % of the backbone's parameters match.
    """
    file = open_weights(Path(path))
    check_network(backbone, file, type(backbone.model).__name__)
    choice = chosen_network(file.network.taken, file.network.others)
    for line in [*([choice] if choice else []), *_differing_computations(backbone.model, file.converted)]:
        _log.warning("%s: %s", file.path, line)
    return load_opened(backbone, file)


def load_opened(backbone: Backbone, file: WeightsFile) -> LoadReport:
    """Loads an opened file into a backbone, as `load_weights_into` does, without the checks of `check_network`.

    A position embedding of another grid is resampled as timm does it, bicubic with antialiasing. Official DINO
    resamples without antialiasing, at points shifted by a tenth of a patch.
    """
    state, report = _fit(backbone, file.network.head | file.state, file.path)
    backbone.model.load_state_dict({key: state[key] for key in report.matched}, strict=False)
    if report.missing or report.mismatched:
        _log.warning("%s: %s", file.path, report)
    return report


def check_network(backbone: Backbone, file: WeightsFile, name: str, *, need_statistics: bool = False) -> None:
    """Refuses a file of another network; matching shapes and a high share of parameters do not prove it is the same.

    Args:
        backbone: may be on torch's meta device.
        file: the opened file.
        name: name of the model, for messages.
        need_statistics: refuse a file without the running statistics of batch norms.
    Raises:
        CheckpointError: it is another network's, or fewer than 95 % of the backbone's parameters match.
    """
    found, wanted = patch_size(file.state), patch_size(backbone.model.state_dict())
    if found and wanted and found != wanted:
        # timm would silently resample the filters.
        raise CheckpointError(f"{file.path}: its patches have {found} pixels, those of the named model {wanted}")
    _, report = _fit(backbone, file.state, file.path)
    if need_statistics:
        _check_statistics(report, file.path)
    _check_parts(backbone, file, report, name)


def _fit(backbone: Backbone, state: State, source: Path) -> tuple[State, LoadReport]:
    """The tensors converted for the backbone, e.g. with resampled position embedding, and how they match.

    Raises:
        CheckpointError: fewer than 95 % of the backbone's parameters match, or one of them has another shape.
    """
    try:
        state = backbone.convert_state_dict(state)
    except Exception as error:
        raise CheckpointError(f"{source}: does not fit the backbone ({first_line(error)})") from None
    own = backbone.model.state_dict()
    parameters = dict(backbone.model.named_parameters())
    report = _match(own, parameters, state)
    if report.matched_share < MIN_MATCHED:
        raise CheckpointError(f"{source}: {report}; expected at least {MIN_MATCHED:.0%}")
    for name in report.mismatched:
        # A parameter of another shape, e.g. the 3 x 3 stem of ResNets for small images, would keep random values.
        if name in parameters:
            found, wanted = ("x".join(map(str, tensor.shape)) for tensor in (state[name], parameters[name]))
            raise CheckpointError(
                f"{source}: {printable(name)} is {found}, in {type(backbone.model).__name__} {wanted}, so it is "
                "another network; name its timm model with --arch NAME, or NAME,key=value,..."
            )
    return state, report


def _match(own: State, parameters: dict[str, nn.Parameter], state: State) -> LoadReport:
    fits = {key: key in state and _alike(state[key], own[key]) for key in own}
    sizes = {key: value.numel() for key, value in parameters.items()}
    found = [sizes[key] for key in own if fits[key] and key in sizes]
    return LoadReport(
        matched=tuple(key for key in own if fits[key]),
        missing=tuple(key for key in own if key not in state),
        mismatched=tuple(key for key in own if key in state and not fits[key]),
        unexpected=tuple(key for key in state if key not in own),
        matched_share=min(sum(found) / sum(sizes.values()), len(found) / len(sizes)),
    )


def _alike(found: Tensor, own: Tensor) -> bool:
    # Integers instead of real numbers are the codes of a quantized network.
    return found.shape == own.shape and found.is_floating_point() == own.is_floating_point()


def _check_statistics(report: LoadReport, path: Path) -> None:
    """Refuses a file without running statistics: batch norms would divide by 1, and embeddings would be nonsense."""
    lost = [name for name in report.missing if name.endswith(("running_mean", "running_var"))]
    if lost:
        raise CheckpointError(
            f"{path}: holds no running statistics of its batch norms ({len(lost)} are missing, e.g. {lost[0]}); save "
            "the whole state_dict() instead of the parameters"
        )


def _check_parts(backbone: Backbone, file: WeightsFile, report: LoadReport, name: str) -> None:
    """Refuses a file whose encoder has parts that the model lacks: it is another network, whatever share matches."""
    parts = {child for child, _ in backbone.model.named_children()} - set(_CLASSIFIERS)
    if isinstance(getattr(backbone.model, "norm", None), nn.Identity):
        # The final norm of an encoder that was fine-tuned on the mean of its patch tokens is not used.
        parts -= {"norm"}
    known = [key for key in [*report.unexpected, *file.network.head] if key in file.state or _ADDED.search(key)]
    own = [key for key in known if key not in classifiers() and not key.endswith("num_batches_tracked")]
    other = [key for key in own if key.partition(".")[0] in parts or key in _TOKENS or _ADDED.search(key)]
    if other:
        raise CheckpointError(
            f"{file.path}: {len(other)} tensors of the encoder have no place in {name} ({listed(other, _LISTED)}), so "
            "it is another network; name its timm model with --arch NAME"
        )


def _differing_computations(model: nn.Module, converted: Converted) -> list[str]:
    """A line for each difference between the computation of the weights' own network and that of the model."""
    lines = []
    batch_eps, pool = converted.overrides.get("bn_eps"), converted.overrides.get("global_pool")
    found = {module.eps for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    if batch_eps is not None and found != {batch_eps}:
        lines.append(
            f"its batch norms add {batch_eps:g} to the variance; set backbone.overrides.bn_eps = {batch_eps:g}"
        )
    if pool is not None and getattr(model, "global_pool", pool) != pool:
        lines.append(f'it embeds by another pooling; set backbone.overrides.global_pool = "{pool}"')
    found = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    if converted.norm_eps is not None and found != {converted.norm_eps}:
        lines.append(f"its layer norms add {converted.norm_eps:g} to the variance, this network {max(found):g}")
    return lines
