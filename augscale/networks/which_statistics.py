"""Which batch norm statistics a checkpoint is compared with: its own, or those gathered on the data at hand."""

from __future__ import annotations

from typing import Literal, get_args

from augscale.errors import ConfigError
from augscale.networks.batch_norm import has_batch_norm
from augscale.networks.checkpoints import LoadedCheckpoint

Choice = Literal["own", "data"]
FROZEN = "frozen"
"""In a sidecar's `batch_norm`: the statistics are those of the start, the network was trained with them."""


def checked_choice(text: str | None) -> Choice | None:
    """What `--statistics` says.

    Raises:
        ConfigError: neither own nor data.
    """
    for choice in get_args(Choice):
        if text == choice:
            found: Choice = choice
            return found
    if text is None:
        return None
    raise ConfigError(f"--statistics {text}: expected own or data")


def takes_common_statistics(checkpoint: LoadedCheckpoint, choice: Choice | None = None) -> bool:
    """Whether a checkpoint's batch norm statistics are gathered anew before it is embedded or evaluated.

    Args:
        checkpoint: any.
        choice: what was asked for. None: "data" for networks that augscale has trained, whose own statistics are of
            the augmented views of that training, and for untrained ones, which have none; "own" for all others, and
            for a network that was trained with frozen statistics.
    Returns:
        False for every network without batch norm.
    """
    if not has_batch_norm(checkpoint.backbone):
        return False
    if choice is not None:
        return choice == "data"
    frozen = checkpoint.sidecar.get("batch_norm") == FROZEN
    return checkpoint.kind in ("augscale", "untrained") and not frozen
