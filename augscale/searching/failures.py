"""Groups failed trials by reason, advises what to change, and stops a search whose next trial would fail as well."""

from __future__ import annotations

import re
from collections.abc import Sequence

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from augscale.errors import CheckpointError, StudyError
from augscale.records.answer import FailureRecord
from augscale.system.passwords import without_passwords

SETTINGS_ERRORS = ("ConfigError", "DataError")
"""Errors that occur in every trial, whatever its scales: one such failure stops the search."""
STUDY_ERRORS = ("DivergedError",)
"""Errors that come again when the same study is resumed, because its training settings cannot be changed."""
GROUPS_SHOWN = 3
_NEW_RUN = "with another --out, because the settings of a run's trials cannot change"
_ADVICE = (
    (
        r"its worker died",
        "see RUN/workers/*.log; usually main memory is used up: fewer --workers, or a lower --max-memory",
    ),
    (
        r"not finite|(loss|score) is -?(nan|inf)",
        f"lower pretrain.lr; pretrain.precision = fp32 shows whether bf16 is the cause; {_NEW_RUN}",
    ),
    (r"max_memory", f"a higher --max-memory; a smaller crops.global_size, pretrain.out_dim or backbone {_NEW_RUN}"),
    (
        r"out of memory|OutOfMemory|MemoryError|can't allocate memory",
        "fewer --workers, or a lower --max-memory for smaller micro-batches; a smaller pretrain.batch_size, "
        f"crops.global_size or backbone {_NEW_RUN}",
    ),
    (r"CUDA|cuDNN|NCCL|device-side", "the GPU or its driver failed: run augscale doctor, or use another --device"),
    (
        r"(?i)\bimages?\b|cache|truncated|cannot be decoded|\.(jpe?g|png|tiff?|dcm|webp|bmp)\b",
        "repair the images that are named, or leave them out (--exclude)",
    ),
    (r"(?i)no space|disk|permission|read-only", "make room on the disk, or make the run folder writable"),
)
"""Pairs of a pattern of the reason and the advice on what to change; the first pattern that matches applies."""
COLLAPSE_ADVICE = f"more pretrain.steps, pretrain.head_batch_norm = true or a lower teacher_temp, {_NEW_RUN}"
"""Advice on trials that completed with a collapsed embedding."""
_UNKNOWN = "see RUN/trials/NNNN/traceback.txt and RUN/workers/*.log"
_NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?")


def failure_groups(trials: Sequence[FrozenTrial]) -> list[FailureRecord]:
    """The failed trials grouped by reason, the most frequent reason first."""
    found: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        if trial.state == TrialState.FAIL:
            found.setdefault(_key(trial), []).append(trial)
    groups = []
    for group in found.values():
        reason = _reason(group[0])
        groups.append(FailureRecord(reason=reason, trials=tuple(t.number for t in group), advice=advice_for(reason)))
    return sorted(groups, key=lambda group: -len(group.trials))


def advice_for(reason: str) -> str:
    """Advice on what to change after a failure with this reason."""
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, reason)), _UNKNOWN)


def all_failed(trials: Sequence[FrozenTrial]) -> bool:
    """True if there are trials and all of them failed."""
    return bool(trials) and all(trial.state == TrialState.FAIL for trial in trials)


def failure_sentence(trials: Sequence[FrozenTrial]) -> str:
    """One sentence on how many trials failed, why, and what to change; "" if none failed."""
    groups = failure_groups(trials)
    if not groups:
        return ""
    failed = sum(len(group.trials) for group in groups)
    head = f"all {failed} trials failed" if all_failed(trials) else f"{failed} of {len(trials)} trials failed"
    return f"{head}: {_listed(groups)}"


def reason_to_stop(started: Sequence[FrozenTrial], limit: int, since: float) -> str | None:
    """The reason to start no further trial; None if the search may continue.

    Args:
        started: every trial that was ever started, in order of number.
        limit: `search.max_failures`.
        since: start of this session in seconds since the epoch. Earlier failures alone do not stop the search: their
            cause, e.g. a full disk, may have been removed. One new failure of the same kind then stops it.
    """
    ended = [trial for trial in started if trial.state.is_finished()]
    new = [trial for trial in ended if trial.datetime_complete and trial.datetime_complete.timestamp() >= since]
    for trial in new:
        if trial.state == TrialState.FAIL and trial.user_attrs.get("error") in SETTINGS_ERRORS:
            reason = _reason(trial)
            return f"trial {trial.number} failed, and every other trial would fail, too: {reason}; {advice_for(reason)}"
    last = ended[-limit:]
    if len(last) < limit or not all_failed(last):
        return None
    again = new and len(new) < len(ended) and _key(ended[-1]) == _key(ended[-len(new) - 1]) and all_failed(new)
    hopeless = all_failed(ended) and all(trial.user_attrs.get("error") in STUDY_ERRORS for trial in ended)
    if not (len(new) >= limit or again or hopeless):
        return None
    newest = f"the last {limit} trials failed; the newest, trial {last[-1].number}: {_reason(last[-1])}"
    groups = failure_groups(last)
    more = f"; in all {_listed(groups)}" if len(groups) > 1 else f"; {groups[0].advice}"
    return newest + more + "; a higher search.max_failures continues anyway"


def is_machine_fault(error: Exception) -> bool:
    """True if the cause is in the machine (full disk, lost file, broken GPU): the next trial would fail, too."""
    machine_errors = (OSError, CheckpointError, StudyError, StorageInternalError)
    return isinstance(error, machine_errors) or "CUDA error" in str(error)


def reason_of(error: Exception) -> str:
    """The first line of an error's message, without passwords; the error's type where there is no message."""
    return without_passwords(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)


def _listed(groups: list[FailureRecord]) -> str:
    shown = "; ".join(f"{group} - {group.advice}" for group in groups[:GROUPS_SHOWN])
    rest = sum(len(group.trials) for group in groups[GROUPS_SHOWN:])
    return shown + (f"; and {rest} for other reasons, see trials.csv" if rest else "")


def _reason(trial: FrozenTrial) -> str:
    lines = str(trial.user_attrs.get("reason", "")).strip().splitlines()
    return lines[0] if lines else "no reason recorded"


def _key(trial: FrozenTrial) -> str:
    return _NUMBER.sub("#", _reason(trial))
