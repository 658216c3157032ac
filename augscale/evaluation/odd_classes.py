"""Finds classes that are not classes of photographs: folders of masks, or of images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from augscale.data.cache import ImageCache
from augscale.data.image_records import ImageRecord
from augscale.data.mask_names import mask_words
from augscale.data.sanity import MOST_BAD, WORDS, Sanity, advice
from augscale.errors import DataError

_PHOTOGRAPHS = frozenset(
    {"image", "images", "img", "imgs", "photo", "photos", "original", "originals", "input", "inputs"}
)
_EXAMPLES = 2


def check_classes(
    name: str, records: Sequence[ImageRecord], cache: ImageCache, sanity: Sanity, *, allow_bad: bool
) -> list[str]:
    """Looks for classes whose images are black, of one color or masks, and for classes named after images and masks.

    Args:
        name: of the dataset.
        records: the labelled images; each is in the cache, itself or its exact copy.
        cache, sanity: the images and the findings about them.
        allow_bad: return a note instead of refusing the dataset.
    Returns:
        Notes, a line each.
    Raises:
        DataError: most images of a class are not photographs, and `allow_bad` is False.
    """
    rows = {record.image_id: row for row, record in enumerate(cache.records)}
    of_class: dict[str, list[ImageRecord]] = {}
    for record in records:
        of_class.setdefault(record.label or "", []).append(record)
    notes = []
    for label, members in sorted(of_class.items()):
        cached = [rows[cache.duplicates.get(record.image_id, record.image_id)] for record in members]
        odd = sanity.bad[cached]
        if odd.mean() <= MOST_BAD:
            continue
        kind = max(("mask", "black", "constant"), key=lambda kind: int(sanity.flags[kind][cached].sum()))
        text = _class_text(label, members, odd.tolist(), kind, records)
        if not allow_bad:
            raise DataError(f"{name}: {text}, or --allow-bad goes on")
        notes.append(text)
    return notes or _called_like_parts(list(of_class))


def _class_text(
    label: str, members: Sequence[ImageRecord], odd: Sequence[bool], kind: str, records: Sequence[ImageRecord]
) -> str:
    names = [record.name_below_source for record in members]
    shown = [below for below, is_odd in zip(names, odd, strict=True) if is_odd]
    others = [record.name_below_source for record in records if record.label != label]
    verb = "look" if kind == "mask" else "are"
    return (
        f"{len(shown)} of {len(names)} images of the class {label!r} {verb} {WORDS[kind]}, e.g. "
        f"{', '.join(shown[:_EXAMPLES])}; expected classes of photographs: {advice(names, others)}"
    )


def _called_like_parts(labels: Sequence[str]) -> list[str]:
    """A note where the classes are called `images` and `masks`, or similar."""
    masks = [label for label in labels if any(mask_words(PurePosixPath(label)))]
    photographs = [label for label in labels if label.lower() in _PHOTOGRAPHS]
    if masks and photographs and len(masks) + len(photographs) == len(labels):
        return [f"the classes are called {', '.join(sorted(labels))}: are these photographs and their masks?"]
    return []
