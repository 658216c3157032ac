"""Why trials failed: their reasons grouped, what to change, and when going on would only fail again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from augscale.errors import CheckpointError, StudyError
from augscale.system.passwords import without_passwords

OF_SETTINGS = ("ConfigError", "DataError")
"""Errors that every trial meets alike, whatever its scales: one is enough to stop."""
OF_THE_STUDY = ("DivergedError",)
"""Errors that the same study meets again, for a run folder's settings of training cannot be changed."""
GROUPS_SHOWN = 3
_OTHER_OUT = "with another --out, for the settings of a run's trials stay"
_ADVICE = (
    (
        r"its worker died",
        "see RUN/workers/*.log; mostly main memory is used up: fewer --workers, or a lower --max-memory",
    ),
    (
        r"not finite|(loss|score) is -?(nan|inf)",
        f"lower pretrain.lr; pretrain.precision = fp32 shows whether bf16 is the cause; {_OTHER_OUT}",
    ),
    (r"max_memory", f"a higher --max-memory; a smaller crops.global_size, pretrain.out_dim or backbone {_OTHER_OUT}"),
    (
        r"out of memory|OutOfMemory|MemoryError|can't allocate memory",
        "fewer --workers, or a lower --max-memory for smaller micro-batches; a smaller pretrain.batch_size, "
        f"crops.global_size or backbone {_OTHER_OUT}",
    ),
    (r"CUDA|cuDNN|NCCL|device-side", "the GPU or its driver is in trouble: augscale doctor, or another --device"),
    (
        r"(?i)\bimages?\b|cache|truncated|cannot be decoded|\.(jpe?g|png|tiff?|dcm|webp|bmp)\b",
        "look at the images that are named, mend them or leave them out (--exclude)",
    ),
    (r"(?i)no space|disk|permission|read-only", "make room on the disk, or let the run folder be written"),
)
"""(Pattern of the reason, what to change); the first that is found holds."""
COLLAPSE_ADVICE = f"more pretrain.steps, pretrain.head_batch_norm = true or a lower teacher_temp, {_OTHER_OUT}"
"""For trials that completed with an embedding that says nothing."""
_UNKNOWN = "see RUN/trials/NNNN/traceback.txt and RUN/workers/*.log"
_NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """Failed trials with the same reason but for its numbers."""

    reason: str
    """The first line of the first trial's."""
    trials: tuple[int, ...]
    advice: str
    """What to change."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"reason": self.reason, "trials": list(self.trials), "advice": self.advice}

    def __str__(self) -> str:
        return f"{len(self.trials)} x {self.reason}"


def failure_groups(trials: Sequence[FrozenTrial]) -> list[FailureGroup]:
    """The failed ones among the trials, the most frequent reason first."""
    found: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        if trial.state == TrialState.FAIL:
            found.setdefault(_key(trial), []).append(trial)
    groups = [
        FailureGroup(
            reason=_reason(group[0]), trials=tuple(t.number for t in group), advice=advice_for(_reason(group[0]))
        )
        for group in found.values()
    ]
    return sorted(groups, key=lambda group: -len(group.trials))


def advice_for(reason: str) -> str:
    """What to change after a failure with this reason."""
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, reason)), _UNKNOWN)


def all_failed(trials: Sequence[FrozenTrial]) -> bool:
    """Whether there are trials and none of them came to anything else than a failure."""
    return bool(trials) and all(trial.state == TrialState.FAIL for trial in trials)


def failure_sentence(trials: Sequence[FrozenTrial]) -> str:
    """That trials failed, why, how often, and what to change; "" where none has failed."""
    groups = failure_groups(trials)
    if not groups:
        return ""
    failed = sum(len(group.trials) for group in groups)
    head = f"all {failed} trials failed" if all_failed(trials) else f"{failed} of {len(trials)} trials failed"
    return f"{head}: {_listed(groups)}"


def reason_to_stop(started: Sequence[FrozenTrial], limit: int, since: float) -> str | None:
    """Why no further trial should be started, None where one should.

    Args:
        started: every trial that was ever started, in order of number.
        limit: `search.max_failures`.
        since: seconds since the epoch when this session began. Failures before it alone are no reason to stop: what
            made them fail, say a full disk, may have been mended. But one more of the same kind is enough then.
    """
    ended = [trial for trial in started if trial.state.is_finished()]
    new = [trial for trial in ended if trial.datetime_complete and trial.datetime_complete.timestamp() >= since]
    for trial in new:
        if trial.state == TrialState.FAIL and trial.user_attrs.get("error") in OF_SETTINGS:
            reason = _reason(trial)
            return f"trial {trial.number} failed, and every other would: {reason}; {advice_for(reason)}"
    last = ended[-limit:]
    if len(last) < limit or not all_failed(last):
        return None
    again = new and len(new) < len(ended) and _key(ended[-1]) == _key(ended[-len(new) - 1]) and all_failed(new)
    hopeless = all_failed(ended) and all(trial.user_attrs.get("error") in OF_THE_STUDY for trial in ended)
    if not (len(new) >= limit or again or hopeless):
        return None
    newest = f"the last {limit} trials failed; the newest, trial {last[-1].number}: {_reason(last[-1])}"
    groups = failure_groups(last)
    more = f"; in all {_listed(groups)}" if len(groups) > 1 else f"; {groups[0].advice}"
    return newest + more + "; a higher search.max_failures goes on all the same"


def is_of_the_machine(error: Exception) -> bool:
    """Whether the next trial would fail, too, until somebody mends it: a full disk, a lost file, a broken GPU."""
    of_the_machine = (OSError, CheckpointError, StudyError, StorageInternalError)
    return isinstance(error, of_the_machine) or "CUDA error" in str(error)


def reason_of(error: Exception) -> str:
    """What an error says, in one line and without passwords; its type where it says nothing."""
    return without_passwords(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)


def _listed(groups: list[FailureGroup]) -> str:
    shown = "; ".join(f"{group} - {group.advice}" for group in groups[:GROUPS_SHOWN])
    rest = sum(len(group.trials) for group in groups[GROUPS_SHOWN:])
    return shown + (f"; and {rest} for other reasons, see trials.csv" if rest else "")


def _reason(trial: FrozenTrial) -> str:
    lines = str(trial.user_attrs.get("reason", "")).strip().splitlines()
    return lines[0] if lines else "no reason recorded"


def _key(trial: FrozenTrial) -> str:
    return _NUMBER.sub("#", _reason(trial))
