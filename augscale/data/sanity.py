"""Checks, before any training, that the decoded images look like photographs.

It finds nearly black images (a wrong range of grey levels), images of one color, masks among the photographs, names of
masks, images far darker or brighter than the rest, and near-duplicates. Nothing is printed about good data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.data.cache import ImageCache
from augscale.data.image_records import ImageRecord
from augscale.data.image_signs import ImageSigns, image_signs
from augscale.data.mask_names import exclude_pattern, named_masks
from augscale.errors import DataError

Flags = npt.NDArray[np.bool_]

WORDS = {
    "black": "nearly black",
    "constant": "of one color",
    "mask": "like masks or drawings (few grey levels)",
    "name": "named like masks and do not look like them",
    "brightness": "far darker or brighter than the others of their source",
    "twin": "nearly the same as another",
}
"""Description of the images by kind of finding, the most serious first."""
BAD_KINDS = ("black", "constant", "mask")
MOST_BAD = 0.5
"""A larger share of images that are black, of one color or masks stops a run."""
LEAST_SAID = dict.fromkeys(WORDS, 0.005) | {"twin": 0.03}
"""A finding about a smaller share of images is in the manifest, but not printed: every large set has a few."""
_OUTLIER_SIGMAS, _OUTLIER_LEVELS = 6.0, 30.0
"""Robust standard deviations, and grey levels; outliers are farther than both from the median of their source."""
_LEAST_SOURCE = 20
_EXAMPLES = 3
_WORST = 12


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One oddity of some of the images.

    Attributes:
        kind: a key of `WORDS`.
        count: number of images; an estimate if not all were examined.
        total: number of all images.
        examples: paths of some odd images, below their source.
        text: the line to print.
        said: True if the line is printed.
    """

    kind: str
    count: int
    total: int
    examples: tuple[str, ...]
    text: str
    said: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Sanity:
    """Result of the check.

    Attributes:
        findings: at most one of each kind, the most serious first.
        flags: odd images, bool, shape (N,), by kind.
    """

    findings: tuple[Finding, ...]
    flags: dict[str, Flags]

    @property
    def bad(self) -> Flags:
        """Images that are black, of one color, or masks; bool, shape (N,)."""
        return np.logical_or.reduce([self.flags[kind] for kind in BAD_KINDS])

    def lines(self) -> list[str]:
        """Lines to print, one for each finding; empty for good data."""
        return [finding.text for finding in self.findings if finding.said]

    def facts(self) -> list[dict[str, Any]]:
        """Plain values of each finding, for manifests."""
        return [{**vars(finding), "examples": list(finding.examples)} for finding in self.findings]

    def require_photographs(self) -> None:
        """Refuses a set of images most of which are not photographs.

        Raises:
            DataError: most are black, of one color, or masks.
        """
        bad = [finding for finding in self.findings if finding.kind in BAD_KINDS]
        if not bad or sum(finding.count for finding in bad) <= MOST_BAD * bad[0].total:
            return
        parts = "; ".join(
            f"{found.count} {_verb(found.kind)} {WORDS[found.kind]}, e.g. {', '.join(found.examples[:2])}"
            for found in bad
        )
        black = any(found.kind == "black" for found in bad)
        ranges = ", data.range sets what is black and white in files of more than 8 bits" if black else ""
        raise DataError(
            f"most of the {bad[0].total} images are not photographs: {parts}; expected fewer than half of such images "
            f"(--exclude GLOB leaves files out{ranges}, --allow-bad goes on)"
        )

    def worst(self) -> list[tuple[int, str]]:
        """Rows and kinds of up to 12 odd images to show, alternating between kinds; near-duplicates are left out."""
        queues = [[(int(row), kind) for row in np.flatnonzero(self.flags[kind])] for kind in WORDS if kind != "twin"]
        shown: dict[int, str] = {}
        for turn in range(_WORST):
            for queue in queues:
                if turn < len(queue) and len(shown) < _WORST:
                    shown.setdefault(*queue[turn])
        return list(shown.items())


def check_images(cache: ImageCache, *, allow_bad: bool = False) -> Sanity:
    """Checks the decoded images; signs that were found before are read from the cache.

    Raises:
        DataError: most of them are black, of one color, or masks, and `allow_bad` is false.
    """
    signs = image_signs(cache)
    names = [record.name_below_source for record in cache.records]
    flags = {"black": signs.black, "constant": signs.constant, "mask": signs.mask}
    flags["name"] = named_masks(names, signs.mask) & ~np.logical_or.reduce(list(flags.values()))
    flags["brightness"] = brightness_outliers(signs, cache.records)
    flags["twin"] = np.zeros(len(names), dtype=bool)
    flags["twin"][signs.looked_at[signs.twins >= 0]] = True
    findings = [_finding(kind, flags[kind], signs, names) for kind in WORDS if flags[kind].any()]
    sanity = Sanity(findings=tuple(findings), flags=flags)
    if not allow_bad:
        sanity.require_photographs()
    return sanity


def brightness_outliers(signs: ImageSigns, records: Sequence[ImageRecord]) -> Flags:
    """Images more than 6 robust standard deviations and 30 grey levels from the median of their source; bool, (N,).

    Images with a more serious finding and sources of fewer than 20 images are left out.
    """
    usual = ~(signs.black | signs.constant | signs.mask)
    outlier = np.zeros(len(records), dtype=bool)
    sources = np.array([record.source for record in records])
    for source in np.unique(sources):
        rows = np.flatnonzero((sources == source) & usual)
        if len(rows) < _LEAST_SOURCE:
            continue
        away = np.abs(signs.brightness[rows] - np.median(signs.brightness[rows]))
        outlier[rows] = away > max(_OUTLIER_LEVELS, _OUTLIER_SIGMAS * 1.4826 * float(np.median(away)))
    return outlier


def advice(names: Sequence[str], others: Sequence[str]) -> str:
    """How to leave images out, with a pattern if a simple one matches exactly these images."""
    pattern = exclude_pattern(names, others)
    return f"--exclude '{pattern}' leaves them out" if pattern else "--exclude GLOB leaves files out"


def _finding(kind: str, flags: Flags, signs: ImageSigns, names: Sequence[str]) -> Finding:
    rows = np.flatnonzero(flags).tolist()
    named = [names[row] for row in rows]
    count, total = len(rows), len(names)
    if kind == "mask":
        count = min(signs.expected_masks, total)
    if kind == "twin":
        count = round(count * total / len(signs.looked_at))
    about = "about " if count != len(rows) else ""
    examples = tuple(named[:_EXAMPLES])
    shown = ", ".join(examples)
    if kind == "twin":
        twin = int(signs.twins[signs.looked_at == rows[0]][0])
        shown = f"{names[rows[0]]} and {names[twin]}"
    text = f"{about}{count} of {total} images {_verb(kind)} {WORDS[kind]}, e.g. {shown}"
    if kind in ("mask", "name"):
        text += f"; {advice(named, [name for name, odd in zip(names, flags, strict=True) if not odd])}"
    return Finding(
        kind=kind, count=count, total=total, examples=examples, text=text, said=count >= LEAST_SAID[kind] * total
    )


def _verb(kind: str) -> str:
    return "look" if kind == "mask" else "are"
