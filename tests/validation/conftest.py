"""A finished study whose weights are kept at every rung, and labelled photographs to check it on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import searched

from augscale.demo import render
from augscale.demo.patients import synthetic_records

CLASSES = {"0": "normal", "3": "severe", "4": "proliferative"}
SPLITS = ("train", "val", "train", "test", "train", "test")


def labelled_folder(path: Path, first: int, count: int = 60) -> Path:
    """Procedural photographs of three grades with a table of labels and splits; one in six is a validation image."""
    path.mkdir()
    by_class = [[r for r in synthetic_records(150, 0) if r.label == label] for label in CLASSES]
    chosen = [r for rows in zip(*by_class, strict=False) for r in rows][first : first + count]
    with (path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "split"])
        for index, record in enumerate(chosen):
            Image.fromarray(render(record.image_id, 0, 40)).save(path / f"{index:02d}.png")
            # Classes come in threes: the split moves on by one image in each round, so that every class is in each.
            split = SPLITS[(index // 3 + index % 3) % len(SPLITS)]
            table.writerow([f"{index:02d}.png", CLASSES[record.label], split])
    return path


@pytest.fixture(scope="session")
def here(tmp_path_factory) -> Path:
    return labelled_folder(tmp_path_factory.mktemp("data") / "here", 0)


@pytest.fixture(scope="session")
def there(tmp_path_factory) -> Path:
    return labelled_folder(tmp_path_factory.mktemp("data") / "there", 30)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory) -> Path:
    """Eight trials; tests only read it, or copy it first."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    done = searched(out, "--trials", "8", "--set", "confirm.seeds=0", "--set", "search.keep_weights=rungs")
    assert done.exit_code == 0, done.exception
    return out
