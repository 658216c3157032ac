"""Finds test images that were used in the pre-training of a network, or in the search that chose its scales.

These uses need no label, but results on such images say less about images of other patients, cameras and clinics. Only
files with equal bytes are recognized, and only those of runs around the checkpoint whose cache still exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from augscale.data.cache import open_cache
from augscale.errors import DataError
from augscale.evaluation.datasets import LabelledImages
from augscale.runs.files import read_json

_PARENTS = 5
"""RUN/promote/NAME/last.safetensors lies three folders below the search that it belongs to."""


def seen_contents(checkpoint: Path) -> frozenset[str]:
    """Hashes of the images of the runs, search or full pre-training, in whose folder a weights file lies.

    Empty where there is no such run, or its cache is gone.
    """
    folders = [*checkpoint.resolve().parents][:_PARENTS]
    manifests = [read_json(folder / "manifest.json") for folder in folders]
    caches = {str(manifest["cache"]) for manifest in manifests if isinstance(manifest, dict) and "cache" in manifest}
    return frozenset().union(*map(cached_contents, sorted(caches)))


def cached_contents(directory: Path | str) -> frozenset[str]:
    """Hashes of the images of a cache; empty where it is gone."""
    try:
        records = open_cache(Path(directory)).records
    except DataError:
        return frozenset()
    return frozenset(record.content for record in records if record.content is not None)


def seen_notes(seen: Iterable[frozenset[str]], datasets: Sequence[LabelledImages]) -> list[str]:
    """Notes on test images that at least one of the networks has seen, a line per dataset."""
    met = frozenset[str]().union(*seen)
    notes = []
    for dataset in datasets:
        test = [dataset.contents[i] for i in dataset.part("test")] if dataset.contents else []
        known = sum(content in met for content in test)
        if known:
            notes.append(
                f"{dataset.name}: {known} of {len(test)} test images were pre-trained on, or belong to the search that "
                "chose the scales (as images, without their labels): results on images never met may be lower"
            )
    return notes
