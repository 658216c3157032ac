"""`augscale data check`: what a prepared dataset holds, against Table 1 and against itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from augscale.data.cache_keys import read_contents
from augscale.data.images import UnusableImage, decode_image
from augscale.data.manifest import BadFile, ImageRecord, scan_sources
from augscale.data.parallel import map_in_order, num_workers
from augscale.data.retinal.downloads import shown
from augscale.data.retinal.prepared import Prepared, digest, read_manifest, read_prepared
from augscale.data.retinal.registry import SPLITS, RetinalDataset, get_dataset
from augscale.errors import DataError

Severity = Literal["error", "warning", "note"]

_DECODED_SIZE_PX = 64
"""Enough to see whether a file can be decoded; a JPEG is then read at a reduced scale."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of a check.

    Attributes:
        severity: "error" (cannot be evaluated as it is), "warning" (results are affected) or "note".
        kind: "counts", "classes", "missing", "unreadable", "duplicates", "conflicting labels", "patients", "split"
            or "manifest".
        text: what was found, in one line.
        files: the files concerned, as in the manifest's image ids.
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
        """Whether there is no error; warnings and notes may be there."""
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
        data_root: folder of all prepared datasets; None takes the default.
        on_progress: called with (files done, files in all).
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
    read_manifest(prepared)
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
    order = ("error", "warning", "note")
    return CheckResult(
        name=dataset.name,
        counts=counts,
        table1=dict(zip(SPLITS, dataset.table1, strict=True)),
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
    )


def _readable(
    records: Sequence[ImageRecord], on_progress: Callable[[int, int], None] | None
) -> tuple[list[ImageRecord], list[BadFile]]:
    """The records with contents, and the files that cannot be read or decoded."""
    steps = 2 * len(records)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(len(records) * done // steps, len(records))

    with ThreadPoolExecutor(num_workers(), thread_name_prefix="check") as pool:
        read, bad = read_contents(records, pool, step)
        good = []
        for record, reason in zip(read, map_in_order(pool, _why_unusable, read), strict=True):
            step()
            if reason is None:
                good.append(record)
            elif record.path is not None:
                bad.append(BadFile(path=record.path, reason=reason, image_id=record.image_id))
    return good, bad


def _why_unusable(record: ImageRecord) -> str | None:
    if record.path is None:
        return None
    try:
        decode_image(record.path, _DECODED_SIZE_PX)
    except UnusableImage as error:
        return str(error)
    return None


def _manifest(prepared: Prepared) -> list[Finding]:
    if digest(prepared.manifest.read_text(encoding="utf-8")) == prepared.facts.get("manifest_digest"):
        return []
    return [Finding(severity="warning", kind="manifest", text="manifest.csv was changed after it was prepared")]


def _bad(kind: str, what: str, bad: Sequence[BadFile]) -> list[Finding]:
    if not bad:
        return []
    text = f"{len(bad)} files {what}: {bad[0].path} ({bad[0].reason})"
    return [Finding(severity="error", kind=kind, text=text, files=tuple(str(entry.path) for entry in bad))]


def _classes(dataset: RetinalDataset, records: Sequence[ImageRecord]) -> list[Finding]:
    unknown = [record for record in records if record.label not in dataset.classes]
    findings = []
    if unknown:
        names = shown(sorted({str(record.label) for record in unknown}))
        text = f"{len(unknown)} images of unknown classes ({names}); expected {', '.join(dataset.classes)}"
        files = tuple(record.image_id for record in unknown)
        findings.append(Finding(severity="error", kind="classes", text=text, files=files))
    for split in SPLITS:
        present = {record.label for record in records if record.split == split}
        absent = [name for name in dataset.classes if name not in present]
        if present and absent:
            severity: Severity = "warning" if split == "test" else "error" if split == "train" else "note"
            text = f"{len(absent)} classes have no image in {split} ({shown(absent)})"
            findings.append(Finding(severity=severity, kind="classes", text=text))
    return findings


def _splits(records: Sequence[ImageRecord]) -> list[Finding]:
    findings = []
    for split in SPLITS:
        if not any(record.split == split for record in records):
            severity: Severity = "warning" if split == "val" else "error"
            findings.append(Finding(severity=severity, kind="split", text=f"no image is in {split}"))
    unknown = sorted({str(record.split) for record in records if record.split not in SPLITS})
    if unknown:
        text = f"unknown splits {', '.join(unknown)}; expected {', '.join(SPLITS)}"
        findings.append(Finding(severity="error", kind="split", text=text))
    return findings


def _counts(dataset: RetinalDataset, counts: dict[str, int], records: Sequence[ImageRecord]) -> list[Finding]:
    findings = []
    for split, expected in zip(SPLITS, dataset.table1, strict=True):
        if counts[split] != expected:
            # Table 1 itself disagrees with PAPILA's release by one image.
            known = len(records) == dataset.official != dataset.table1_total and abs(counts[split] - expected) <= 1
            text = f"{split}: {counts[split]} images, Table 1 has {expected}"
            findings.append(Finding(severity="note" if known else "warning", kind="counts", text=text))
    if dataset.class_counts is not None:
        found = Counter(record.label for record in records)
        for name, expected in zip(dataset.classes, dataset.class_counts, strict=True):
            if found[name] != expected:
                text = f"class {name}: {found[name]} images, commonly reported are {expected}"
                findings.append(Finding(severity="note", kind="counts", text=text))
    return findings


def _duplicates(records: Sequence[ImageRecord]) -> list[Finding]:
    copies: dict[str, list[ImageRecord]] = {}
    for record in records:
        copies.setdefault(record.content or record.image_id, []).append(record)
    groups = [alike for alike in copies.values() if len(alike) > 1]
    torn = [alike for alike in groups if len({record.label for record in alike}) > 1]
    across = [alike for alike in groups if len({record.split for record in alike}) > 1]
    within = [alike for alike in groups if len({record.split for record in alike}) == 1]
    findings = []
    for severity, kind, found, text in (
        ("warning", "conflicting labels", torn, "have copies with different labels"),
        ("warning", "duplicates", across, "have exact copies in different splits"),
        ("note", "duplicates", within, "have exact copies in the same split"),
    ):
        if found:
            files = tuple(record.image_id for alike in found for record in alike)
            line = f"{len(found)} images {text} ({len(files)} files: {shown(files)})"
            findings.append(Finding(severity=severity, kind=kind, text=line, files=files))  # type: ignore[arg-type]
    return findings


def _patients(dataset: RetinalDataset, records: Sequence[ImageRecord]) -> list[Finding]:
    known = [record for record in records if record.patient_id is not None]
    if not known:
        why = f"known from {dataset.patients}, which was not there" if dataset.patients else "not told by any release"
        text = f"patients are {why}: leakage between splits cannot be checked"
        return [Finding(severity="note", kind="patients", text=text)]
    splits: dict[str, set[str | None]] = {}
    for record in known:
        splits.setdefault(record.patient_id or "", set()).add(record.split)
    leaking = {patient for patient, parts in splits.items() if len(parts) > 1}
    if not leaking:
        return []
    files = tuple(record.image_id for record in known if record.patient_id in leaking)
    text = (
        f"{len(leaking)} of {len(splits)} patients have images in several splits ({len(files)} images): "
        "results are too good; --split patient avoids it"
    )
    return [Finding(severity="warning", kind="patients", text=text, files=files)]
