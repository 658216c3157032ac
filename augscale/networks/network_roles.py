"""Recognizes the moving average among the networks of a checkpoint by the words that programs use for it.

The average is the network to use: the teacher of DINO and BYOL, MoCo's momentum encoder, I-JEPA's target encoder, the
"EMA" of a supervised training. Ambiguous words ("target", "key") count only beside a network of equal shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from augscale.networks.tensor_files import State

_AVERAGE_ONLY = ("teacher", "ema", "momentum", "target")
_AVERAGES = r"mean_teacher|teacher|momentum|target|ema|averaged|average|avg|swa|slow|key|shadow"
_TRAINED = r"student|online|base|query|fast"
_OF_AVERAGE = (
    re.compile(rf"(?:{_AVERAGES})_(?P<part>.+)"),
    re.compile(rf"(?P<part>.+?)_(?:{_AVERAGES}|k|m)"),
    re.compile(rf"(?P<part>.+)_(?:{_AVERAGES})_.+"),
)
_OF_TRAINED = (re.compile(rf"(?:{_TRAINED})_(?P<part>.+)"), re.compile(rf"(?P<part>.+)_(?:{_TRAINED}|q)"))
_ROLE = re.compile(r"(teacher|student)[._](.+)", re.DOTALL)
_WRAPPERS = ("model", "module", "net", "network", "state_dict", "learner", "algorithm", "method")
_ENTRY_ORDER = ("student", "state_dict", "model")
_USUAL_ENTRIES = re.compile(
    r"(?:model|net|network|params|weights|module|encoder|backbone|base|trunk|student|online)(?:_|$)|"
    r".*_(?:state_dict|state|params|weights|encoder|backbone|model|online|student|q)$"
)
_OTHER_ENTRIES = re.compile(
    r"(?:^|_)(?:optim\w*|opt|lr|sched\w*|scaler|amp|loss\w*|criterion|head|predictor|proj\w*|queue|decoder|metric\w*|"
    r"callbacks|loops|args|config|cfg|hparams|hyper\w*|rng\w*|random\w*|history|meta|center\w*|discriminator|stats)(?:_|$)"
)
_TWIN_SHARE = 0.8
"""Share of tensors with equal names and shapes that makes two networks twins."""
_TWIN_TENSORS = 4
"""A group with fewer tensors is not a network."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SideBySide:
    """One network of a state dict that holds several."""

    tensors: State
    aliases: tuple[str, ...] = ()
    """Values of `--key` that select it."""


def is_other_entry(name: str) -> bool:
    """True if the name of an entry says that it holds no encoder: optimizers, heads, settings."""
    return _OTHER_ENTRIES.search(name.lower()) is not None


def entry_rank(name: str) -> int:
    """Rank of preference of an entry of a checkpoint, 0 is the best; entries of equal rank are ambiguous."""
    name = name.lower()
    if name == "teacher":
        return 0
    if is_average(name):
        return 1
    if name in _ENTRY_ORDER:
        return 2 + _ENTRY_ORDER.index(name)
    return 5 if _USUAL_ENTRIES.match(name) else 6


def is_average(name: str) -> bool:
    """True if a name means "moving average": teacher, model_ema, state_dict_ema, target_encoder, encoder_k, ..."""
    name = name.lower()
    return name in _AVERAGE_ONLY or _part(name, _OF_AVERAGE) is not None


def networks_side_by_side(tensors: State) -> dict[str, SideBySide]:
    """The networks of a state dict that holds several, the moving average first; {} if it holds only one.

    Keys are the file's names of the networks. Tensors lose that name: "momentum_backbone.x" becomes "backbone.x".
    """
    roles = _teacher_and_student(tensors)
    if roles:
        return roles
    for prefix in ("", *_wrapping(tensors)):
        inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        roles = (prefix and _teacher_and_student(inside)) or _average_and_trained(inside)
        if roles:
            return roles
    return {}


def _wrapping(tensors: State) -> Iterable[str]:
    first = {name.partition(".")[0] for name in tensors}
    return [f"{name}." for name in first if name in _WRAPPERS or len(first) == 1]


def _teacher_and_student(tensors: State) -> dict[str, SideBySide]:
    found: dict[str, State] = {}
    for name, value in tensors.items():
        if match := _ROLE.fullmatch(name):
            found.setdefault(match[1], {})[match[2]] = value
    return {
        role: SideBySide(
            tensors=found[role], aliases=(role, *{f"{role}_{name.partition('.')[0]}" for name in found[role]})
        )
        for role in ("teacher", "student")
        if role in found
    }


def _average_and_trained(tensors: State) -> dict[str, SideBySide]:
    groups: dict[str, State] = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            groups.setdefault(first, {})[rest] = value
    twins = {name: _twin(name, groups) for name in groups if is_average(name)}
    averages = [name for name, twin in twins.items() if twin or name.lower() in _AVERAGE_ONLY]
    averages = [name for name in averages if len(groups[name]) >= _TWIN_TENSORS or any(twins.values())]
    if not any(len(groups[name]) >= _TWIN_TENSORS for name in averages):
        return {}
    main = max(averages, key=lambda name: (not is_other_entry(name), len(groups[name])))
    average = _under_parts(groups, averages, _OF_AVERAGE)
    # A third network of that size is left out, e.g. a second copy of the network that BYOL's online encoder wraps.
    size = len(groups[twins[main] or main])
    kept = [name for name in groups if name not in averages and (name == twins[main] or 2 * len(groups[name]) < size)]
    trained = _under_parts(groups, kept, _OF_TRAINED)
    trained |= {name: value for name, value in tensors.items() if "." not in name}
    found = {main: SideBySide(tensors=average, aliases=(main, "teacher"))}
    if twin := twins[main]:
        found[twin] = SideBySide(tensors=trained, aliases=(twin, "student"))
    return found


def _twin(average: str, groups: dict[str, State]) -> str | None:
    """The group with the same tensors as `average`; if there are several, the one whose name corresponds to it."""
    shapes = {name: value.shape for name, value in groups[average].items()}
    found = []
    for name, tensors in groups.items():
        equal = sum(_shape_of(tensors, inner) == shape for inner, shape in shapes.items())
        if not is_average(name) and equal >= _TWIN_SHARE * max(len(shapes), len(tensors)):
            found.append(name)
    part = _part(average.lower(), _OF_AVERAGE)
    return min(found, key=lambda name: part not in (name.lower(), _part(name.lower(), _OF_TRAINED)), default=None)


def _shape_of(tensors: State, name: str) -> object:
    """Shape of a tensor that may be stored with or without data parallelism's prefix; None if there is none."""
    candidates = (name, f"module.{name}", name.removeprefix("module."))
    return next((tensors[candidate].shape for candidate in candidates if candidate in tensors), None)


def _under_parts(groups: dict[str, State], names: list[str], patterns: tuple[re.Pattern[str], ...]) -> State:
    """The tensors of several groups in one state dict, each named by its group's name without the role."""
    named: State = {}
    for name in names:
        part = _part(name, patterns)
        if part is None:
            part = "" if name.lower() in _AVERAGE_ONLY else name
        named |= {f"{part}.{rest}".lstrip("."): value for rest, value in groups[name].items()}
    return named


def _part(name: str, patterns: tuple[re.Pattern[str], ...]) -> str | None:
    return next((match["part"] for pattern in patterns if (match := pattern.fullmatch(name))), None)
