"""Classes shared by two datasets, for training on one and testing on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from augscale.evaluation.class_order import is_number
from augscale.evaluation.datasets import LabelledImages


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """Classes that two datasets share, in the order of the first.

    Attributes:
        train_on, test_on: names of the datasets.
        train_classes, test_classes: the shared classes in the spelling of each dataset; same position, same class.
        left_out: classes of only one of the two, as (dataset, class).
        reason: why the classes count as the same.
    """

    train_on: str
    test_on: str
    train_classes: tuple[str, ...]
    test_classes: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    reason: str

    def __str__(self) -> str:
        text = f"{self.train_on} {', '.join(self.train_classes)} -> {self.test_on} {', '.join(self.test_classes)}"
        owners = {owner for owner, _ in self.left_out}
        names = [name if len(owners) == 1 else f"{name} ({owner})" for owner, name in self.left_out]
        return f"{text}; {', '.join(names)} left out" if names else text

    def apply(self, train_on: LabelledImages, test_on: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
        """Both datasets with the shared classes only, numbered alike.

        Raises:
            DataError: these are other datasets, or one has no training or test image left.
        """
        return train_on.restricted(self.train_classes), test_on.restricted(self.test_classes)


def external_pairs(datasets: Sequence[LabelledImages]) -> list[tuple[LabelledImages, LabelledImages, LabelMap]]:
    """Every ordered pair of datasets that share classes, with the map between them.

    Two datasets are paired if their classes are equal, as within a label space of the registry, or if at least two
    class names are equal apart from case; then only those classes are used. Plain numbers count as the same only where
    all of them are equal, because grade 1 of one scale is not grade 1 of another.
    """
    pairs = []
    for train_on, test_on in permutations(datasets, 2):
        label_map = _label_map(train_on, test_on)
        if label_map is not None:
            pairs.append((train_on, test_on, label_map))
    return pairs


def _label_map(train_on: LabelledImages, test_on: LabelledImages) -> LabelMap | None:
    if train_on.classes == test_on.classes:
        shared = counterparts = train_on.classes
        same_space = train_on.label_space == test_on.label_space
        reason = (train_on.label_space if same_space else None) or "the same class names"
    else:
        written = {_plain(name): name for name in test_on.classes if not is_number(name)}
        shared = tuple(name for name in train_on.classes if _plain(name) in written)
        if len(shared) < 2:
            return None
        counterparts = tuple(written[_plain(name)] for name in shared)
        reason = f"{len(shared)} class names in common"
    left_out = [(train_on.name, name) for name in train_on.classes if name not in shared]
    left_out += [(test_on.name, name) for name in test_on.classes if name not in counterparts]
    return LabelMap(
        train_on=train_on.name,
        test_on=test_on.name,
        train_classes=shared,
        test_classes=counterparts,
        left_out=tuple(left_out),
        reason=reason,
    )


def _plain(name: str) -> str:
    return name.strip().casefold()
