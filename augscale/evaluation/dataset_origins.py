"""Finds a labelled dataset by name or path: prepared datasets, folders, tables and the built-in photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from augscale.data.image_tables import FOLDER_TABLES
from augscale.data.retinal.prepared import (
    FACTS_FILE,
    MANIFEST_FILE,
    default_data_root,
    list_datasets,
    missing_text,
    read_prepared,
)
from augscale.data.retinal.registry import NAMES, find_dataset
from augscale.data.sources import SYNTHETIC
from augscale.errors import DataError
from augscale.settings import nearest


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The source that a name or path stands for."""

    name: str
    source: str
    classes: tuple[str, ...] | None = None
    label_space: str | None = None
    notes: tuple[str, ...] = ()


def names_to_open(
    datasets: str | Path | Sequence[str | Path], data_root: Path | None
) -> tuple[list[str | Path], list[str]]:
    """Resolves "all": the prepared ones of the paper's six datasets, else the built-in photographs.

    Returns:
        Names and paths, and notes on datasets that are missing.
    """
    wanted = [datasets] if isinstance(datasets, (str, Path)) else list(datasets)
    if [str(name) for name in wanted] != ["all"]:
        return wanted, []
    status = list_datasets(data_root)
    prepared: list[str | Path] = [entry.dataset.name for entry in status if entry.prepared is not None]
    notes = [missing_text(entry.dataset) for entry in status if entry.prepared is None]
    if not prepared:
        notes.append("none of the six datasets is prepared: the built-in procedural photographs are used")
    return prepared or [SYNTHETIC], notes


def find_origin(name_or_path: str | Path, data_root: Path | None) -> Origin:
    """Finds a dataset; see `datasets.open_dataset` for the arguments.

    Raises:
        DataError: there is no such dataset.
    """
    root = (data_root or default_data_root()).expanduser()
    text = str(name_or_path)
    if text == SYNTHETIC:
        return Origin(name=SYNTHETIC, source=SYNTHETIC)
    path = Path(text).expanduser()
    is_path = isinstance(name_or_path, Path) or text.startswith((".", "~")) or "/" in text
    dataset = None if is_path else find_dataset(text)
    if dataset is not None:
        prepared = read_prepared(dataset, root)
        if prepared is not None:
            return Origin(
                name=dataset.name,
                source=str(prepared.manifest),
                classes=dataset.classes,
                label_space=dataset.label_space,
                notes=(f"split {prepared.facts.get('split')}",),
            )
    if text and path.exists():
        return _at_path(path)
    if dataset is not None:
        raise DataError(missing_text(dataset))
    known = [SYNTHETIC, *NAMES]
    if is_path:
        raise DataError(
            f"{text} does not exist; expected a folder or CSV of labelled images, or one of {', '.join(known)}"
        )
    accepted = f"a folder, a CSV manifest, or one of {', '.join(known)}"
    raise DataError(f"no dataset named {text!r}{nearest(text, known)}; expected {accepted}")


def _at_path(path: Path) -> Origin:
    """A folder or table; the folder of a prepared dataset is that dataset."""
    folder = path if path.is_dir() else path.parent
    dataset = find_dataset(folder.resolve().name) if (folder / FACTS_FILE).exists() else None
    if dataset is not None and (path.is_dir() or path.name == MANIFEST_FILE):
        prepared = read_prepared(dataset, folder.resolve().parent)
        if prepared is not None:
            return find_origin(dataset.name, folder.resolve().parent)
    if path.is_dir() or path.name in FOLDER_TABLES:
        return Origin(name=folder.resolve().name, source=str(path))
    return Origin(name=path.stem, source=str(path))
