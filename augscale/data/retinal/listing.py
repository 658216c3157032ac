"""`augscale data list`: the six datasets, how to get each, and which are here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from augscale.data.retinal.prepared import Prepared, read_manifest, read_prepared
from augscale.data.retinal.registry import REGISTRY, RetinalDataset
from augscale.errors import DataError


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """One dataset and what is present of it.

    Attributes:
        dataset: its entry in the registry.
        prepared: what was prepared; None where nothing is, or it is damaged.
        files: images in the manifest, and how many of them exist.
        problem: why a prepared dataset cannot be used; None where it can.
    """

    dataset: RetinalDataset
    prepared: Prepared | None
    files: tuple[int, int] = (0, 0)
    problem: str | None = None

    @property
    def how_to_get(self) -> list[str]:
        """Steps from nothing to a prepared dataset, a line each."""
        name = self.dataset.name
        return [
            *self.dataset.get,
            self.dataset.published_page(),
            f"unpack, then: augscale data prepare {name} --from FOLDER",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **asdict(self.dataset),
            "how_to_get": self.how_to_get,
            "prepared": None if self.prepared is None else self.prepared.to_dict(),
            "files_listed": self.files[0],
            "files_present": self.files[1],
            "problem": self.problem,
        }


def list_datasets(data_root: Path | None = None) -> list[DatasetStatus]:
    """What each of the six datasets is and what is present; images are not opened."""
    return [_status(dataset, data_root) for dataset in REGISTRY]


def missing_text(dataset: RetinalDataset) -> str:
    """One line for a dataset that is wanted and not prepared."""
    then = f"then augscale data prepare {dataset.name} --from FOLDER"
    return f"{dataset.name}: not prepared; get it from {dataset.get[0]}; {then}"


def _status(dataset: RetinalDataset, data_root: Path | None) -> DatasetStatus:
    try:
        prepared = read_prepared(dataset, data_root)
        if prepared is None:
            return DatasetStatus(dataset=dataset, prepared=None)
        files = list(read_manifest(prepared).rows)
    except DataError as error:
        return DatasetStatus(dataset=dataset, prepared=None, problem=str(error))
    present = sum((prepared.directory / file).is_file() for file in files)
    problem = None if present == len(files) else f"{len(files) - present} of its {len(files)} images are missing"
    return DatasetStatus(dataset=dataset, prepared=prepared, files=(len(files), present), problem=problem)
