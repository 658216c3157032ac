"""The six labelled datasets of Cheng et al. (MIDL 2025), Table 1, read from `registry.toml`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from augscale.errors import ConfigError
from augscale.settings import Settings, nearest, parse_settings, read_toml

SPLITS = ("train", "val", "test")
_REGISTRY_FILE = Path(__file__).with_name("registry.toml")


class RetinalDataset(Settings):
    """One dataset of Table 1."""

    name: str
    """As the paper writes it."""
    task: str
    """Meaning of the classes."""
    classes: tuple[str, ...]
    """Names in index order."""
    table1: tuple[int, int, int]
    """Images in train, val and test in the paper's Table 1."""
    official: int
    """Images as the owners count them."""
    country: str | None = None
    """Where the photographs were taken; None if Table 1 does not say."""
    get: tuple[str, ...]
    """Steps to get it, one per line."""
    licence: str
    """As far as known, with any doubts."""
    citation: str
    native: str
    """Contents of the unpacked download."""
    published_folders: tuple[str, ...] = ()
    """Class folders of RETFound's published splits, in class order; the names of the classes if the file has none."""
    patients: str | None = None
    """Where patient ids come from; None if no release contains them."""
    label_space: str
    """Datasets with the same label space can be tested on each other."""
    class_counts: tuple[int, ...] | None = None
    """Images per class as widely reported (not verified), in class order; None if unknown."""
    notes: tuple[str, ...] = ()
    """Known pitfalls."""
    drive_id: str = Field(exclude=True)
    """Google Drive file of RETFound's published split."""

    @property
    def table1_total(self) -> int:
        """The sum of the three splits, which is the paper's own total."""
        return sum(self.table1)

    def published_page(self) -> str:
        """Where to find the split that RETFound's authors publish."""
        return (
            "or the split that RETFound publishes (very probably the paper's): the benchmark page of the RETFound "
            f"repository links a zip, Google Drive file id {self.drive_id}"
        )


def _read_registry() -> tuple[RetinalDataset, ...]:
    entries = read_toml(_REGISTRY_FILE)["dataset"]
    named = [{"published_folders": entry["classes"]} | entry for entry in entries]
    return tuple(parse_settings(RetinalDataset, entry, str(_REGISTRY_FILE)) for entry in named)


REGISTRY = _read_registry()
NAMES = tuple(dataset.name for dataset in REGISTRY)


def find_dataset(name: str) -> RetinalDataset | None:
    """The dataset of that name; case, hyphens, underscores and spaces do not matter."""
    return next((dataset for dataset in REGISTRY if _plain(dataset.name) == _plain(name)), None)


def get_dataset(name: str) -> RetinalDataset:
    """The dataset of that name, compared as in `find_dataset`.

    Raises:
        ConfigError: no dataset of that name; the message suggests the nearest.
    """
    dataset = find_dataset(name)
    if dataset is None:
        raise ConfigError(f"no dataset named {name!r}{nearest(name, list(NAMES))}; known: {', '.join(NAMES)}")
    return dataset


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
