"""A check before any training: do the decoded images look like photographs at all?

Nearly black images (a wrong range of grey levels), images of one colour, masks among the photographs, near-duplicates,
images far darker or brighter than the rest, and names of masks. Good data give no line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.data.cache import ImageCache
from augscale.data.image_signs import ImageSigns, image_signs
from augscale.data.manifest import ImageRecord
from augscale.data.mask_names import exclude_pattern, named_masks
from augscale.errors import DataError

Flags = npt.NDArray[np.bool_]

WORDS = {
    "black": "nearly black",
    "constant": "of one colour",
    "mask": "like masks or drawings (few grey levels)",
    "name": "named like masks and do not look like them",
    "brightness": "far darker or brighter than the others of their source",
    "twin": "nearly the same as another",
}
"""What is said of images, by kind of finding, the gravest first."""
BAD_KINDS = ("black", "constant", "mask")
MOST_BAD = 0.5
"""More images than this that are black, of one colour or masks stop a run."""
LEAST_SAID = dict.fromkeys(WORDS, 0.005) | {"twin": 0.03}
"""A finding about a smaller share of the images is in the manifest and not said: every large set has a few."""
_OUTLIER_SIGMAS, _OUTLIER_LEVELS = 6.0, 30.0
"""Robust standard deviations, and grey levels, from the median brightness of a source."""
_LEAST_SOURCE = 20
_EXAMPLES = 3
_WORST = 12


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is odd about some of the images.

    Attributes:
        kind: a key of `WORDS`.
        count: how many images; estimated where not all could be looked at.
        total: of how many.
        examples: paths of some, below their source.
        text: the line for people.
        said: whether it is worth a line on a terminal.
    """

    kind: str
    count: int
    total: int
    examples: tuple[str, ...]
    text: str
    said: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Sanity:
    """What the check found.

    Attributes:
        findings: at most one per kind, the gravest first.
        flags: by kind, bool, shape (N,): the images it is about.
    """

    findings: tuple[Finding, ...]
    flags: dict[str, Flags]

    @property
    def bad(self) -> Flags:
        """bool, shape (N,): images that are black, of one colour, or masks."""
        return np.logical_or.reduce([self.flags[kind] for kind in BAD_KINDS])

    def lines(self) -> list[str]:
        """What a person is told, a line per finding; empty for good data."""
        return [finding.text for finding in self.findings if finding.said]

    def facts(self) -> list[dict[str, Any]]:
        """For manifests: plain values of each finding."""
        return [{**vars(finding), "examples": list(finding.examples)} for finding in self.findings]

    def require_photographs(self) -> None:
        """Refuses images most of which are none.

        Raises:
            DataError: most are black, of one colour, or masks.
        """
        bad = [finding for finding in self.findings if finding.kind in BAD_KINDS]
        if bad and sum(finding.count for finding in bad) > MOST_BAD * bad[0].total:
            raise DataError(_most_are_bad(bad, bad[0].total))

    def worst(self) -> list[tuple[int, str]]:
        """Row and kind of up to 12 images to show, kinds in turn; none of near-duplicates."""
        queues = [[(int(row), kind) for row in np.flatnonzero(self.flags[kind])] for kind in WORDS if kind != "twin"]
        shown: dict[int, str] = {}
        for turn in range(_WORST):
            for queue in queues:
                if turn < len(queue) and len(shown) < _WORST:
                    shown.setdefault(*queue[turn])
        return list(shown.items())


def check_images(cache: ImageCache, *, allow_bad: bool = False) -> Sanity:
    """Looks at the decoded images, or at what was seen of them before.

    Raises:
        DataError: most of them are black, of one colour, or masks, and not `allow_bad`.
    """
    signs = image_signs(cache)
    names = [name_below_source(record) for record in cache.records]
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
    """Images far from the median brightness of their source: bool, shape (N,).

    Far is more than 6 robust standard deviations and 30 grey levels. Images that are odd in a graver way do not count,
    nor do sources of fewer than 20 images.
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


def name_below_source(record: ImageRecord) -> str:
    """The path of an image below the source that was asked for."""
    return record.image_id.removeprefix(f"{record.origin}/") if record.origin else record.image_id


def advice(names: Sequence[str], others: Sequence[str]) -> str:
    """How to leave images out, with a pattern where a simple one fits them and none of the others."""
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


def _most_are_bad(bad: Sequence[Finding], total: int) -> str:
    parts = "; ".join(
        f"{found.count} {_verb(found.kind)} {WORDS[found.kind]}, e.g. {', '.join(found.examples[:2])}" for found in bad
    )
    black = any(found.kind == "black" for found in bad)
    ranges = ", data.range sets what is black and white in files of more than 8 bits" if black else ""
    return (
        f"most of the {total} images are no photographs: {parts}; expected fewer than half of such images "
        f"(--exclude GLOB leaves files out{ranges}, --allow-bad goes on)"
    )
