"""What manifests and screens say about the images of a run, its unused files and its odd images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from augscale.config import DataConfig, lasting_sources
from augscale.data.cache import ImageCache
from augscale.data.file_types import passed_over_lines
from augscale.data.folders import excluded_lines
from augscale.data.sanity import Sanity
from augscale.data.side_names import side_hint

MOST_BAD_LISTED = 1000


def data_facts(config: DataConfig, cache: ImageCache, sanity: Sanity, num_train: int, num_panel: int) -> dict[str, Any]:
    """`data` of a manifest: sources, fingerprint, numbers of images, and what was not used."""
    return {
        "sources": lasting_sources(config),
        "fingerprint": cache.fingerprint,
        "ranges": cache.levels.facts(),
        "num_images": len(cache),
        "num_patients": len({record.patient_id for record in cache.records if record.patient_id is not None}),
        "num_train": num_train,
        "num_panel": num_panel,
        **file_facts(cache, sanity),
        "remarks": [*filter(None, [side_hint(cache.records)]), *file_lines(cache, sanity)],
        "notes": list(cache.source_notes),
    }


def file_facts(cache: ImageCache, sanity: Sanity) -> dict[str, Any]:
    """Plain values for manifests: files set aside, passed over and excluded, and the findings of the check."""
    return {
        "num_bad": len(cache.bad),
        "bad": [{"path": str(bad.path), "reason": bad.reason} for bad in cache.bad[:MOST_BAD_LISTED]],
        "passed_over": [entry.to_dict() | {"text": entry.line()} for entry in cache.passed_over],
        "excluded": dict(cache.excluded),
        "findings": sanity.facts(),
    }


def file_lines(cache: ImageCache, sanity: Sanity) -> list[str]:
    """Lines to print: files passed over and excluded, files with several frames, and findings of the check."""
    passed = [*passed_over_lines(cache.passed_over), *excluded_lines(cache.excluded)]
    return [*passed, *frame_lines(cache.notes), *sanity.lines()]


def frame_lines(notes: Mapping[str, str]) -> list[str]:
    """At most one line about files of which only the first frame or page is used, from `ImageCache.notes`."""
    if not notes:
        return []
    example = min(notes)
    held = "1 file holds" if len(notes) == 1 else f"{len(notes)} files hold"
    return [
        f"{held} several frames or pages, of which the first alone is used (e.g. {example}: {notes[example]}); save "
        "the others as files of their own to use them"
    ]
