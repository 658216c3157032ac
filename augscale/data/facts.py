"""What manifests, diagnoses and people are told of the files of a cache that were not used, and of odd images."""

from __future__ import annotations

from typing import Any

from augscale.data.cache import ImageCache
from augscale.data.folders import excluded_lines
from augscale.data.passed_over import passed_over_lines
from augscale.data.sanity import Sanity

MOST_BAD_LISTED = 1000


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
    """For people, a line each: what was passed over and excluded, and what is odd about the images."""
    return [*passed_over_lines(cache.passed_over), *excluded_lines(cache.excluded), *sanity.lines()]
