"""Default order of the classes: grades by number, other classes with the normal one first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from augscale.errors import ConfigError
from augscale.settings import nearest

_NORMAL_WORDS = frozenset({"no", "none", "nodr", "normal", "healthy", "control", "negative", "without"})
_PERHAPS_NORMAL_WORDS = frozenset({"non", "not"})  # as in "non_pm"
_INDEX = re.compile(r"^[\d.\s_-]+(?=\D)")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PARTS = re.compile(r"(\d+)")


def class_order(labels: Iterable[str], classes: Sequence[str] | None = None) -> tuple[str, ...]:
    """The class names in index order.

    Labels that are all whole numbers are sorted by number, others by name, with numbers in names compared by value
    ("2.x" before "10.x"). Names whose first word, after a leading number, means normal come first (no, none, normal,
    healthy, control, negative, without; then non, not). Class 0 should be the normal one, because the paper's
    sensitivity leaves it out; if the names do not tell which one is normal, give `classes`.

    Args:
        labels: labels of the images.
        classes: the order wanted; must name every label, and may name more.
    Raises:
        ConfigError: `classes` names a class twice, or lacks one that occurs.
    """
    found = sorted(set(labels))
    if classes is None:
        if all(is_number(label) for label in found):
            return tuple(sorted(found, key=lambda label: (int(label), label)))
        return tuple(sorted(found, key=lambda label: (_normal_rank(label), _by_value(label))))
    if len(set(classes)) < len(classes):
        raise ConfigError(f"classes {', '.join(classes)}: a name occurs twice")
    unknown = [label for label in found if label not in classes]
    if unknown:
        hint = nearest(unknown[0], list(classes))
        raise ConfigError(
            f"images are labelled {unknown[0]!r}{hint}, which is none of the classes {', '.join(classes)}"
        )
    return tuple(classes)


def is_number(label: str) -> bool:
    """True for a whole number such as a grade."""
    return re.fullmatch(r"-?\d+", label) is not None


def _normal_rank(name: str) -> int:
    """0 for "normal", "no_dr", "NoDR", "0.0.Normal"; 1 for "non_pm"; 2 for other names."""
    first = _WORDS.search(_INDEX.sub("", name))
    word = first[0].casefold() if first is not None else ""
    return 0 if word in _NORMAL_WORDS else 1 if word in _PERHAPS_NORMAL_WORDS else 2


def _by_value(name: str) -> list[tuple[bool, int, str]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part.casefold()) for part in _PARTS.split(name)]
