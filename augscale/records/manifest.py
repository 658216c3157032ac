"""`manifest.json` of a search: facts that its workers and later commands need besides the study."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, field_validator

from augscale.records.base import FileRecord, Record


class BadFile(Record):
    """A file that could not be used."""

    path: str
    reason: str


class PassedOver(Record):
    """Files of another kind, which were not read."""

    model_config = ConfigDict(extra="allow")

    count: int | None = None
    suffix: str | None = None
    text: str | None = None


class Finding(Record):
    """Something odd about the images, found before training."""

    model_config = ConfigDict(extra="allow")

    text: str


class DataRecord(Record):
    """The images of a run. Further facts that `data.facts` adds are kept."""

    model_config = ConfigDict(extra="allow")

    sources: tuple[str, ...] = ()
    fingerprint: str = ""
    ranges: tuple[dict[str, Any], ...] = ()
    """Gray levels; see `data.grey_levels.range_lines`."""
    num_images: int | None = None
    num_patients: int | None = None
    num_train: int | None = None
    num_panel: int | None = None
    num_bad: int | None = None
    bad: tuple[BadFile, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    excluded: dict[str, int] = Field(default_factory=dict)
    """Number of excluded files by pattern of `data.exclude`."""
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class LabelledRecord(Record):
    """A labeled dataset that `probe.score` reads; a resumed run must find the same."""

    name: str
    fingerprint: str = ""
    classes: tuple[str, ...] = ()
    gallery: int | None = None
    """Number of train images; the score "knn-auroc" searches neighbors among them."""
    queries: int | None = None
    """Number of val images; the score "knn-auroc" classifies them."""


class ManifestRecord(FileRecord):
    """Places of images and storage, and facts about the preparation of the run."""

    writer = "augscale search"

    created: str = ""
    statistics: str | None = None
    """With "common", trials are scored with common batch norm statistics; earlier versions did not write it."""
    storage: str | None = None
    """URL of the study's database without its password; None: study.db in the run folder, which may be moved."""
    study_name: str = ""
    labelled: tuple[LabelledRecord, ...] = ()
    cache: str = ""
    device: str | None = None
    parameters: int | None = None
    """Number of parameters of the backbone."""
    initial_weights: str | None = None
    """Where ImageNet weights came from, several places joined by "; "; None: another start, or an earlier version."""
    versions: dict[str, str] = Field(default_factory=dict)
    data: DataRecord = DataRecord()
    kind: str | None = Field(default=None, exclude=True)
    """Set in manifests of other commands, which are not those of a search."""

    @field_validator("labelled", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return value or ()
