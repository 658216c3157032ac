"""`augscale data prepare`: makes a manifest with labels, splits and patients from a download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from augscale.data.retinal.downloads import PUBLISHED, Download, LabelledFile
from augscale.data.retinal.native import read_download
from augscale.data.retinal.prepared import (
    FORMAT,
    Prepared,
    counts_of,
    default_data_root,
    digest,
    manifest_text,
    read_prepared,
    write_prepared,
)
from augscale.data.retinal.registry import RetinalDataset, get_dataset
from augscale.data.splits import stratified_split
from augscale.errors import ConfigError
from augscale.runs.folders import now, versions

SplitKind = Literal["published", "image", "patient"]
SPLIT_KINDS: tuple[SplitKind, ...] = ("published", "image", "patient")


def prepare(
    name: str,
    source: Path | str,
    data_root: Path | None = None,
    *,
    split: SplitKind = "published",
    seed: int = 0,
    force: bool = False,
) -> Prepared:
    """Writes the manifest of one of the six datasets; images are not opened, copied or moved.

    A second call with the same arguments and images changes nothing; any difference needs `force`.

    Args:
        name: name in the registry, any case.
        source: folder of the unpacked download.
        data_root: folder of all prepared datasets; None: `default_data_root()`.
        split: "published" takes the split that comes with the download (RETFound's folders; IDRiD's official test
            set), and makes the missing splits as "image" does; "image" is a seeded stratified split with the numbers
            of Table 1; "patient" the same with all images of a patient in one split.
        seed: seed of the seeded splits.
        force: replace a dataset that was prepared otherwise.
    Raises:
        ConfigError: unknown name or split, no patients known, or prepared otherwise before.
        DataError: the download is unknown or incomplete, or the manifest cannot be written.
    """
    dataset = get_dataset(name)
    if split not in SPLIT_KINDS:
        raise ConfigError(f"--split {split!r}; expected {', '.join(SPLIT_KINDS)}")
    root = (data_root or default_data_root()).expanduser().absolute()
    download = read_download(dataset, source)
    images, description, seeded = _split(dataset, download, split, seed)
    text = manifest_text(images, dataset.classes, root / dataset.name)
    # A published split does not depend on the seed, so another seed is not another dataset.
    source_folder = str(Path(source).expanduser().absolute())
    facts: dict[str, Any] = {
        "format": FORMAT,
        "name": dataset.name,
        "asked": {"source": source_folder, "split": split, "seed": seed if seeded else None},
        "layout": download.layout,
        "split": description,
        "counts": counts_of(images, dataset.classes),
        "classes": list(dataset.classes),
        "label_space": dataset.label_space,
        "licence": dataset.licence,
        "notes": [*download.notes, *_count_notes(dataset, len(images)), *dataset.notes],
        "manifest_digest": digest(text),
        "date": now(),
        "versions": {key: value for key, value in versions().items() if key in ("python", "augscale", "numpy")},
    }
    before = None if force else read_prepared(dataset, root)
    if before is not None:
        _refuse_other(before, facts)
        return before
    prepared = Prepared(name=dataset.name, directory=root / dataset.name, facts=facts, changed=True)
    write_prepared(prepared, text)
    return prepared


def _refuse_other(before: Prepared, facts: dict[str, Any]) -> None:
    asked, wanted = before.facts.get("asked", {}), facts["asked"]
    if asked != wanted:
        differences = ", ".join(
            f"{key} {asked.get(key)!r} then, {value!r} now" for key, value in wanted.items() if asked.get(key) != value
        )
        raise ConfigError(f"{before.directory}: {before.name} is prepared already ({differences}); --force replaces it")
    if before.facts.get("manifest_digest") != facts["manifest_digest"]:
        raise ConfigError(
            f"{before.directory}: {before.name} was prepared from other images: {wanted['source']} held "
            f"{before.facts['counts'].get('total')} then and holds {facts['counts']['total']} now; "
            "--force prepares it again"
        )


def _split(
    dataset: RetinalDataset, download: Download, kind: SplitKind, seed: int
) -> tuple[list[LabelledFile], str, bool]:
    """The images with their splits, a description of the splits, and True if these depend on the seed."""
    images = download.images
    if kind == "published" and download.layout == PUBLISHED:
        return images, "published by RETFound's authors", False
    if kind == "patient":
        _need_patients(dataset, images)
    train, val, test = dataset.table1
    if kind == "published" and all(image.split for image in images):  # IDRiD: an official test set
        rest = [image for image in images if image.split == "train"]
        made = iter(_seeded(rest, {"train": train, "val": val}, seed))
        parts = [next(made) if image.split == "train" else image.split for image in images]
        how = f"official test set; the rest split at random by image into train and val, stratified, seed {seed}"
    else:
        counts = {"train": train, "val": val, "test": test}
        parts = [*_seeded(images, counts, seed, by_patient=kind == "patient")]
        unit = "patient" if kind == "patient" else "image"
        how = f"at random by {unit}, stratified, in the proportions of Table 1, seed {seed}"
    return [replace(image, split=part) for image, part in zip(images, parts, strict=True)], how, True


def _seeded(
    images: Sequence[LabelledFile], counts: dict[str, int], seed: int, *, by_patient: bool = False
) -> list[str]:
    """A split that depends on the images' names, not on the folder that the download was unpacked into."""
    names = [f"{image.split}/{image.path.parent.name}/{image.path.name}" for image in images]
    groups = list(range(len(images)))
    if by_patient:
        numbers: dict[str, int] = {}
        keys = [image.patient_id or f"alone/{name}" for image, name in zip(images, names, strict=True)]
        groups = [numbers.setdefault(key, len(numbers)) for key in keys]
    return stratified_split([image.label for image in images], groups, names, counts=counts, seed=seed)


def _need_patients(dataset: RetinalDataset, images: Sequence[LabelledFile]) -> None:
    if dataset.patients is None:
        raise ConfigError(
            f"--split patient: no release of {dataset.name} tells which images belong to one patient; "
            "expected --split published or image"
        )
    if not any(image.patient_id for image in images):
        raise ConfigError(
            f"--split patient: the patients of {dataset.name} are known from {dataset.patients}, "
            "which this download does not hold; put it there, or use --split published or image"
        )


def _count_notes(dataset: RetinalDataset, total: int) -> list[str]:
    if total == dataset.table1_total:
        return []
    return [f"{total} images; Table 1 has {'/'.join(map(str, dataset.table1))}, together {dataset.table1_total}"]
