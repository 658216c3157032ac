"""The four protocols by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from augscale.errors import ConfigError
from augscale.evaluation.interface import Progress, Protocol
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.settings import nearest

PROTOCOLS = ("finetune", "linear", "released", "knn")


def make_protocols(
    names: Sequence[str],
    config: ProtocolConfig,
    folder: Path,
    *,
    device: str = "auto",
    features: Path | None = None,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Protocol]:
    """Protocols that share one store of frozen features.

    Args:
        names: keys of `PROTOCOLS`.
        folder: the states of fine-tuning go to `<folder>/finetune`.
        features: folder of the features, see `kept_features.features_folder`; None: `<folder>/features`.
    Raises:
        ConfigError: an unknown name.
    """
    from augscale.evaluation.features import FeatureStore
    from augscale.evaluation.finetune import Finetune
    from augscale.evaluation.linear import Linear
    from augscale.evaluation.neighbours import Knn
    from augscale.evaluation.released import Released

    for name in names:
        if name not in PROTOCOLS:
            hint = nearest(name, list(PROTOCOLS))
            raise ConfigError(f"unknown protocol {name!r}{hint}; expected {', '.join(PROTOCOLS)}")
    store = FeatureStore(
        features or folder / "features",
        device=device,
        precision=config.feature_precision,
        batch_size=config.feature_batch_size,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    makers: dict[str, Callable[[], Protocol]] = {
        "finetune": lambda: Finetune(
            config, folder / "finetune", device=device, on_progress=on_progress, should_stop=should_stop
        ),
        "linear": lambda: Linear(config, store),
        "released": lambda: Released(config, store),
        "knn": lambda: Knn(config, store),
    }
    return [makers[name]() for name in names]
