"""`augscale data check`: compares a prepared dataset with Table 1 and looks for contradictions within it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from augscale.data.cache_keys import read_contents
from augscale.data.image_records import BadFile, ImageRecord, UnusableImage
from augscale.data.image_tables import read_table
from augscale.data.images import decode_image
from augscale.data.parallel import Progress, map_in_order, num_workers
from augscale.data.retinal.downloads import shown
from augscale.data.retinal.prepared import Prepared, digest, read_prepared
from augscale.data.retinal.registry import SPLITS, RetinalDataset, get_dataset
from augscale.data.sources import scan_sources
from augscale.errors import DataError

Severity = Literal["error", "warning", "note"]

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_DECODED_SIZE_PX = 64
"""Enough to see that a file can be decoded; a JPEG is then read at a reduced scale."""


@dataclass(frozen=True)
class Finding:
    """One line of a check.

    Attributes:
        severity: "error" (cannot be evaluated as it is), "warning" (results are affected) or "note".
        kind: "counts", "classes", "missing", "unreadable", "duplicates", "conflicting labels", "patients", "split"
            or "manifest".
        text: the finding, in one line.
        files: image ids of the files concerned, or paths of files that cannot be read.
    """

    severity: Severity
    kind: str
    text: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Findings, worst first, and images per split as found and in Table 1."""

    name: str
    counts: dict[str, int]
    table1: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True without errors; there may be warnings and notes."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"ok": self.ok}


def check(
    name: str, data_root: Path | None = None, *, on_progress: Callable[[int, int], None] | None = None
) -> CheckResult:
    """Reads and decodes every image of a prepared dataset once.

    Args:
        name: name in the registry, any case.
        data_root: folder of all prepared datasets; None: `default_data_root()`.
        on_progress: called with (files done, all files).
    Raises:
        ConfigError: unknown name.
        DataError: not prepared, or its manifest cannot be read.
    """
    dataset = get_dataset(name)
    prepared = read_prepared(dataset, data_root)
    if prepared is None:
        raise DataError(
            f"{dataset.name} is not prepared; expected first: augscale data prepare {dataset.name} --from DOWNLOAD"
        )
    read_table(prepared.manifest)
    scan = scan_sources([str(prepared.manifest)])
    readable, unreadable = _readable(scan.records, on_progress)
    counts = {split: sum(record.split == split for record in scan.records) for split in SPLITS}
    findings = [
        *_manifest(prepared),
        *_bad("missing", "named by the manifest", scan.bad),
        *_bad("unreadable", "that cannot be used as images", unreadable),
        *_classes(dataset, scan.records),
        *_splits(scan.records),
        *_counts(dataset, counts, scan.records),
        *_duplicates(readable),
        *_patients(dataset, scan.records),
    ]
    return CheckResult(
        name=dataset.name,
        counts=counts,
        table1=dict(zip(SPLITS, dataset.table1, strict=True)),
        findings=tuple(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))),
    )


def _readable(
    records: Sequence[ImageRecord], on_progress: Callable[[int, int], None] | None
) -> tuple[list[ImageRecord], list[BadFile]]:
    """The records with contents, and the files that cannot be read or decoded."""
    progress = Progress(records, on_progress)
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="check") as pool:
        read, bad = read_contents(records, pool, progress.step)
        good = []
        for record, problem in zip(read, map_in_order(pool, _problem_of, read), strict=True):
            progress.step()
            if problem is None:
                good.append(record)
            else:
                bad.append(problem)
    return good, bad


def _problem_of(record: ImageRecord) -> BadFile | None:
    if record.path is None:
        return None
    try:
        decode_image(record.path, _DECODED_SIZE_PX)
    except UnusableImage as error:
        return BadFile(path=record.path, reason=str(error), image_id=record.image_id)
    return None


def _manifest(prepared: Prepared) -> Iterator[Finding]:
    if digest(prepared.manifest.read_text(encoding="utf-8")) != prepared.facts.get("manifest_digest"):
        yield Finding("warning", "manifest", "manifest.csv was changed after it was prepared")


def _bad(kind: str, what: str, bad: Sequence[BadFile]) -> Iterator[Finding]:
    if bad:
        text = f"{len(bad)} files {what}: {bad[0].path} ({bad[0].reason})"
        yield Finding("error", kind, text, tuple(str(entry.path) for entry in bad))


def _classes(dataset: RetinalDataset, records: Sequence[ImageRecord]) -> Iterator[Finding]:
    unknown = [record for record in records if record.label not in dataset.classes]
    if unknown:
        names = shown(sorted({str(record.label) for record in unknown}))
        text = f"{len(unknown)} images of unknown classes ({names}); expected {', '.join(dataset.classes)}"
        yield Finding("error", "classes", text, tuple(record.image_id for record in unknown))
    severities: dict[str, Severity] = {"train": "error", "val": "note", "test": "warning"}
    for split in SPLITS:
        present = {record.label for record in records if record.split == split}
        absent = [name for name in dataset.classes if name not in present]
        if present and absent:
            text = f"{len(absent)} classes have no image in {split} ({shown(absent)})"
            yield Finding(severities[split], "classes", text)


def _splits(records: Sequence[ImageRecord]) -> Iterator[Finding]:
    for split in SPLITS:
        if not any(record.split == split for record in records):
            yield Finding("warning" if split == "val" else "error", "split", f"no image is in {split}")
    unknown = sorted({str(record.split) for record in records if record.split not in SPLITS})
    if unknown:
        yield Finding("error", "split", f"unknown splits {', '.join(unknown)}; expected {', '.join(SPLITS)}")


def _counts(dataset: RetinalDataset, counts: dict[str, int], records: Sequence[ImageRecord]) -> Iterator[Finding]:
    for split, expected in zip(SPLITS, dataset.table1, strict=True):
        if counts[split] != expected:
            # Table 1 itself disagrees with PAPILA's release by one image.
            known = len(records) == dataset.official != dataset.table1_total and abs(counts[split] - expected) <= 1
            text = f"{split}: {counts[split]} images, Table 1 has {expected}"
            yield Finding("note" if known else "warning", "counts", text)
    if dataset.class_counts is not None:
        found = Counter(record.label for record in records)
        for name, expected in zip(dataset.classes, dataset.class_counts, strict=True):
            if found[name] != expected:
                text = f"class {name}: {found[name]} images, commonly reported are {expected}"
                yield Finding("note", "counts", text)


def _duplicates(records: Sequence[ImageRecord]) -> Iterator[Finding]:
    copies: dict[str, list[ImageRecord]] = {}
    for record in records:
        copies.setdefault(record.content or record.image_id, []).append(record)
    groups = [alike for alike in copies.values() if len(alike) > 1]
    contradicting = [alike for alike in groups if len({record.label for record in alike}) > 1]
    across = [alike for alike in groups if len({record.split for record in alike}) > 1]
    within = [alike for alike in groups if len({record.split for record in alike}) == 1]
    kinds: tuple[tuple[Severity, str, list[list[ImageRecord]], str], ...] = (
        ("warning", "conflicting labels", contradicting, "have copies with different labels"),
        ("warning", "duplicates", across, "have exact copies in different splits"),
        ("note", "duplicates", within, "have exact copies in the same split"),
    )
    for severity, kind, found, what in kinds:
        if found:
            files = tuple(record.image_id for alike in found for record in alike)
            text = f"{len(found)} images {what} ({len(files)} files: {shown(files)})"
            yield Finding(severity, kind, text, files)


def _patients(dataset: RetinalDataset, records: Sequence[ImageRecord]) -> Iterator[Finding]:
    splits: dict[str, set[str | None]] = {}
    for record in records:
        if record.patient_id is not None:
            splits.setdefault(record.patient_id, set()).add(record.split)
    if not splits:
        why = f"known from {dataset.patients}, which is missing" if dataset.patients else "not given in any release"
        yield Finding("note", "patients", f"patients are {why}: leakage between splits cannot be checked")
    leaking = {patient for patient, parts in splits.items() if len(parts) > 1}
    if leaking:
        files = tuple(record.image_id for record in records if record.patient_id in leaking)
        text = (
            f"{len(leaking)} of {len(splits)} patients have images in several splits ({len(files)} images): "
            "results are too good; --split patient avoids it"
        )
        yield Finding("warning", "patients", text, files)
