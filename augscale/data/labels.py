"""Meaning of cells in label and patient columns: missing values, notations of numbers, spellings of one class.

Tables have often passed through spreadsheets and pandas, which turn a column of grades with one gap into `1.0` and
`nan`. Words for "no value" are those of `pandas.read_csv` and `?`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from augscale.errors import DataError

_NO_VALUE = frozenset({"", "NA", "na", "None"})
_NO_VALUE_IN_ANY_CASE = frozenset(
    {"nan", "-nan", "null", "n/a", "n.a.", "<na>", "#n/a", "#n/a n/a", "#na", "nat"}
    | {"1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
)
_WORDS_OF_CLASSES = frozenset({"None", "NA", "na"})
"""A class folder with one of these names is a class, because folders are named on purpose."""

_WITHOUT_FRACTION = re.compile(r"([+-]?\d+)(?:\.0*|,0+)")
_SCIENTIFIC = re.compile(r"[+-]?\d(?:\.\d*[eE][+-]?\d{1,3}|[eE][+-]\d{2})")
_ROUNDED = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d{2}")
_INVISIBLE = str.maketrans("", "", "\u200b\u200c\u200d\u2060\ufeff")
_WHOLE = re.compile(r"[+-]?\d+")
_NEGATIVE = re.compile(r"-\d+(?:[.,]\d+)?")
_SPREADSHEET_ERROR = re.compile(r"#[A-Z0-9/]+[!?]")
_VARIANTS_SHOWN = 4
_CLASSES_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class CleanLabels:
    """Labels with one spelling for each class.

    Attributes:
        labels: one for each given label; None means no label.
        notes: labels that were joined or left out, a line each.
    """

    labels: tuple[str | None, ...]
    notes: tuple[str, ...]


def is_no_value(text: str) -> bool:
    """True for an unknown value: empty, `nan`, `NA`, `None`, `null`, `?` and the like.

    `none`, unlike Python's `None`, is a word for "nothing found", a class.
    """
    text = text.strip()
    return text in _NO_VALUE or text.casefold() in _NO_VALUE_IN_ANY_CASE or not text.strip("?")


def is_no_class(folder: str) -> bool:
    """As `is_no_value`, for the name of a class folder; `None` and `NA` are classes there."""
    return is_no_value(folder) and folder.strip() not in _WORDS_OF_CLASSES


def whole_number(text: str) -> str:
    """`12` for `12.0`, `12.` and `12,0`; any other text as it is."""
    match = _WITHOUT_FRACTION.fullmatch(text)
    if match is None:
        return text
    return "0" if match[1] == "-0" else match[1].removeprefix("+")


def is_rounded(text: str) -> bool:
    """True if a spreadsheet has cut off the last digits of a long number: `1.23457E+10`."""
    return _ROUNDED.fullmatch(text) is not None


def label_text(text: str) -> str:
    """A label in the form that is compared: whole numbers without fraction, also numpy's (`1.000e+00`).

    Characters without width, which occur in text copied from a web page, are removed.
    """
    text = text.translate(_INVISIBLE).strip()
    if _SCIENTIFIC.fullmatch(text):
        value = Decimal(text)
        return str(int(value)) if value == value.to_integral_value() else text
    return whole_number(text)


def clean_labels(
    name: str,
    labels: Sequence[str | None],
    *,
    unlabelled: Collection[str] = (),
    classes: Sequence[str] | None = None,
) -> CleanLabels:
    """Removes labels that mean no label, and joins spellings of one class.

    Spellings that differ in case, spaces or Unicode form are one class, and so are `01` and `1`. The name of the class
    is the spelling in `classes`, else the most frequent one.

    Args:
        name: name of the dataset, for messages.
        labels: from tables and folders; None means no label.
        unlabelled: labels that mean no label, e.g. "-1"; compared as above.
        classes: names that are kept as they are.
    Raises:
        DataError: a negative number that is not in `unlabelled` (-1 usually means "no label"), or an error value of a
            spreadsheet.
    """
    given = [None if label is None else label_text(label) for label in labels]
    known = {_key(label_text(label)): label for label in classes or ()}
    exact = {*(classes or ())}
    no_label = {_key(label_text(word)) for word in unlabelled}
    notes = [_left_out(word, given, exact) for word in unlabelled]
    given = [label if label is None or label in exact or _key(label) not in no_label else None for label in given]
    counts = Counter(label for label in given if label is not None)
    _refuse_negative(name, {label: count for label, count in counts.items() if label not in exact})
    spellings: dict[str, list[str]] = {}
    for label in counts:
        if label not in exact:
            spellings.setdefault(_key(label), []).append(label)
    names: dict[str, str] = {}
    for key, found in spellings.items():
        chosen = known.get(key) or max(found, key=lambda label: (counts[label], -len(label), label))
        names |= dict.fromkeys(found, chosen)
        if {*found} != {chosen}:
            notes.append(_joined(chosen, [label for label in counts if _key(label) == key], counts))
    return CleanLabels(
        labels=tuple(names.get(label, label) if label is not None else None for label in given), notes=tuple(notes)
    )


def no_value_note(words: Counter[str]) -> str | None:
    """A note about cells that were read as no label; None if all of them are empty."""
    shown = [f"{word!r} ({count})" for word, count in sorted(words.items()) if word]
    if not shown:
        return None
    return f"label {', '.join(shown)}: taken as no label (a class needs another name)"


def classes_line(name: str, counts: Iterable[tuple[str, int]], splits: Iterable[tuple[str, int]]) -> str:
    """One line about the task: numbers of images of each split and each class."""
    classes = list(counts)
    shown = ", ".join(f"{label} ({count})" for label, count in classes[:_CLASSES_SHOWN])
    shown += f" and {len(classes) - _CLASSES_SHOWN} more" if len(classes) > _CLASSES_SHOWN else ""
    parts = ", ".join(f"{count} {split}" for split, count in splits)
    return f"{name}: {sum(count for _, count in classes)} images ({parts}), {len(classes)} classes: {shown}"


def _key(label: str) -> str:
    """The same text for all spellings of a class."""
    if _WHOLE.fullmatch(label):
        return str(int(label))
    return " ".join(unicodedata.normalize("NFC", label).split()).casefold()


def _left_out(word: str, labels: Sequence[str | None], exact: Collection[str]) -> str:
    key = _key(label_text(word))
    count = sum(label is not None and label not in exact and _key(label) == key for label in labels)
    return f"{count} images labelled {word!r}: no label, as declared" if count else f"no image is labelled {word!r}"


def _refuse_negative(name: str, counts: dict[str, int]) -> None:
    for label, count in sorted(counts.items()):
        if _NEGATIVE.fullmatch(label):
            raise DataError(
                f"{name}: {count} images have the label {label!r}, which mostly means no label: leave them out with "
                f"--unlabelled {label} (unlabelled in a study or in Python), or give the class a name"
            )
        if _SPREADSHEET_ERROR.fullmatch(label):
            raise DataError(f"{name}: {count} images have the label {label!r}, an error of a spreadsheet")


def _joined(chosen: str, found: Sequence[str], counts: Counter[str]) -> str:
    shown = [f"{label!r} ({counts[label]})" for label in sorted(found, key=lambda label: (-counts[label], label))]
    more = len(shown) - _VARIANTS_SHOWN
    variants = ", ".join(shown[:_VARIANTS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"class {chosen!r} is spelled in several ways and joined: {variants}"
