"""Prepares a diagnosis for display: printable texts, short names, and means over the ladder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from augscale.records.diagnosis import CheckpointRecord, DiagnosisRecord, Metric

NAME_LENGTH = 40
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def displayed(diagnosis: DiagnosisRecord) -> DiagnosisRecord:
    """The same diagnosis with printable texts.

    Control characters and bytes that are not text are replaced, names too long for a heading are cut in the middle, and
    means over the ladder are computed where a file does not hold them, without intervals.
    """
    values = _printable(diagnosis.to_dict())
    shorter = _shorter([checkpoint["name"] for checkpoint in values["checkpoints"]])
    for checkpoint in values["checkpoints"]:
        checkpoint["name"] = shorter[checkpoint["name"]]
    for comparison in values["comparisons"]:
        comparison |= {side: shorter.get(comparison[side], comparison[side]) for side in ("a", "b")}
    shown = DiagnosisRecord.model_validate(values)
    checkpoints = [
        checkpoint.model_copy(update={"ladder": _means(checkpoint, shown.ladder_levels) | dict(checkpoint.ladder)})
        for checkpoint in shown.checkpoints
    ]
    return shown.model_copy(update={"checkpoints": tuple(checkpoints)})


def _printable(value: Any) -> Any:
    # The name of a file may contain bytes that are not text, or terminal control sequences.
    if isinstance(value, str):
        return _CONTROLS.sub(" ", value.encode("utf-8", "replace").decode("utf-8"))
    if isinstance(value, Mapping):
        return {_printable(key): _printable(entry) for key, entry in value.items()}
    return [_printable(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _shorter(names: Sequence[str]) -> dict[str, str]:
    """Names to show: cut, unless two of them would become the same."""
    half = NAME_LENGTH // 2
    cut = {name: name if len(name) <= NAME_LENGTH else f"{name[:half]}…{name[-half:]}" for name in names}
    return cut if len(set(cut.values())) == len(cut) else {name: name for name in names}


def _means(checkpoint: CheckpointRecord, names: Sequence[str]) -> dict[str, Metric]:
    """Means over levels; for a single level, the level's own values."""
    shown = [checkpoint.levels[name].metrics for name in names if name in checkpoint.levels]
    if len(shown) == 1:
        return dict(shown[0])
    means = {}
    for key in dict.fromkeys(key for metrics in shown for key in metrics):
        entries = [metrics.get(key, Metric(reason="not computed at every level")) for metrics in shown]
        values = [entry.value for entry in entries if entry.value is not None]
        reason = next((entry.reason for entry in entries if entry.value is None), None)
        means[key] = Metric(value=fmean(values) if len(values) == len(entries) else None, reason=reason)
    return means
