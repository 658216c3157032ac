"""Finds the checkpoints to evaluate: the given ones, else those of the newest promotion, else a public network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from augscale.errors import CheckpointError, ConfigError
from augscale.networks.checkpoints import LoadedCheckpoint, choices, load_checkpoint, load_checkpoints
from augscale.runs.files import read_json

PROMOTION_FILE = "promotion.json"
"""Written by `promote` into RUN/promote/: the contenders pre-trained in full, and their weights."""
FALLBACK = "timm:vit_small_patch16_224.dino"
"""Official DINO's ImageNet weights, the start of the paper's pre-training."""
FALLBACK_UNTRAINED = "random:vit_tiny_patch16_224"
FALLBACK_SIZE = 64
"""Pixels; small, because a random network is a demonstration."""


def checkpoints_to_evaluate(
    checkpoints: str | Path | Sequence[str | Path] | None,
    *,
    arch: str | None = None,
    key: str | None = None,
    names: Sequence[str] | None = None,
) -> tuple[list[LoadedCheckpoint], list[str]]:
    """Loads the given checkpoints, or finds some.

    Returns:
        The checkpoints under different names, and notes on the choice.
    Raises:
        ConfigError: an empty list, or not as many names as checkpoints.
        CheckpointError: a file cannot be used.
    """
    if checkpoints is not None:
        paths = [checkpoints] if isinstance(checkpoints, (str, Path)) else list(checkpoints)
        if not paths:
            raise ConfigError("evaluate: no checkpoint given; expected files, folders of trials, or timm:NAME")
        if names is not None and len(names) != len(paths):
            raise ConfigError(f"evaluate: {len(names)} names for {len(paths)} checkpoints; expected one each")
        loaded = load_checkpoints(paths, arch=arch, key=key, names=names)
        return loaded, choices(loaded)
    promotion = newest_promotion(Path("runs"))
    if promotion is not None:
        contenders = read_json(promotion)["contenders"]
        paths = [promotion.parent / c["weights"] for c in contenders]
        loaded = load_checkpoints(paths, names=[c["name"] for c in contenders])
        return loaded, [f"no checkpoint given: those of the newest promotion, {promotion.parent}, are evaluated"]
    try:
        note = f"no checkpoint given and no promotion in ./runs: {FALLBACK} (ImageNet weights) is evaluated"
        return [load_checkpoint(FALLBACK)], [note]
    except CheckpointError as error:
        note = (
            f"no checkpoint given, no promotion in ./runs, and no ImageNet weights ({error}): a network with RANDOM "
            "weights is evaluated, which demonstrates the command and nothing else"
        )
        return [load_checkpoint(FALLBACK_UNTRAINED, image_size=FALLBACK_SIZE, name="random ViT-tiny")], [note]


def newest_promotion(runs: Path) -> Path | None:
    """The promotion that finished last below a folder of runs, or None."""
    found = [path for path in runs.glob(f"*/promote/{PROMOTION_FILE}") if read_json(path)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
