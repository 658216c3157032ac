"""Makes the table of timm's models by which `augscale` recognises a state dict; half an hour on one core.

    python -m benchmarks.timm_index            # writes augscale/networks/timm_index.json

Run it again for a new release of timm. Two models count as computing the same if all modules have equal classes and
equal settings (kernel sizes, heads, epsilons, activation functions, ...), sizes of images left out.
"""

from __future__ import annotations

import functools
import hashlib
import json
import types
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

import augscale.networks
from augscale.networks.timm_index import family, signature

_TABLE = Path(augscale.networks.__file__).with_name("timm_index.json")
_SAYS_NOTHING = {
    "attn_mask", "call_super_init", "default_cfg", "drop_prob", "dump_patches", "feat_shape", "feat_size",
    "feature_info", "feature_size", "fused_attn", "grid_size", "img_size", "img_size_scaled", "init_values",
    "input_resolution", "input_size", "num_classes", "num_patches", "output_size", "pretrained_cfg", "resolution",
    "T_destination", "target_shift_size", "training",
}  # fmt: skip
"""Settings that change with the size of the images, or matter in training only."""


def main() -> None:
    warnings.filterwarnings("ignore")
    found = [described(name) for name in timm.list_models()]
    classifiers = sorted(set().union(*(model["classifier"] for model in found)))
    models = [
        [m["name"], signature(m["shapes"], classifiers), m["function"], family(m["shapes"], classifiers)] for m in found
    ]
    roots = sorted({model["root"] for model in found if model["root"]})
    write({"timm": timm.__version__, "roots": roots, "classifiers": classifiers, "models": models})


def described(name: str) -> dict[str, Any]:
    """Shapes without the classifier, names of the classifier's tensors, what it computes; no memory is taken."""
    with torch.device("meta"):
        model, full = timm.create_model(name, num_classes=0), timm.create_model(name).state_dict()
    state = model.state_dict()
    weights = [key for key, value in state.items() if value.ndim >= 2 and key.endswith("weight")]
    return {
        "name": name,
        "shapes": {key: tuple(value.shape) for key, value in state.items() if value.is_floating_point()},
        "classifier": {key for key, value in full.items() if key not in state or state[key].shape != value.shape},
        "function": function_of(model),
        "root": weights[0] if weights else None,
    }


def function_of(model: nn.Module) -> str:
    """A hash of the classes and settings of all modules."""
    text = hashlib.sha1()
    for name, module in model.named_modules():
        if type(module) is nn.Dropout:
            text.update(f"{name}:Dropout".encode())
            continue
        settings = {
            key: _plain(value)
            for key, value in vars(module).items()
            if not key.startswith("_") and key not in _SAYS_NOTHING
        }
        buffers = sorted(module._non_persistent_buffers_set)
        text.update(f"{name}:{type(module).__name__}:{sorted(settings.items())}{buffers}".encode())
    return text.hexdigest()[:12]


def write(table: dict[str, Any]) -> None:
    """One model a line, so that a new release shows as a short difference."""
    head = ",\n".join(f'"{key}": {json.dumps(table[key])}' for key in ("timm", "roots", "classifiers"))
    rows = ",\n".join(json.dumps(row) for row in table["models"])
    _TABLE.write_text(f'{{{head},\n"models": [\n{rows}\n]}}\n', encoding="utf-8")


def _plain(value: Any, depth: int = 0) -> str:
    if isinstance(value, int | float | str | None):
        return repr(value)
    if isinstance(value, list | tuple) and depth < 3:
        return "(" + ",".join(_plain(item, depth + 1) for item in value) + ")"
    if isinstance(value, functools.partial):
        keywords = {key: _plain(item, depth + 1) for key, item in value.keywords.items()}
        return f"partial{_plain(value.func)}{keywords}"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
        return value.__name__
    return "tensor" if isinstance(value, torch.Tensor) else type(value).__name__


if __name__ == "__main__":
    main()
