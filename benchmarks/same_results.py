"""Shows that a refactoring changes no result: the same searches and measurements before and after, compared.

    git worktree add --detach /tmp/before HEAD~1
    (cd /tmp/before && python -m benchmarks.same_results run /tmp/old --photographs DIR)
    python -m benchmarks.same_results run /tmp/new --photographs DIR
    python -m benchmarks.same_results compare /tmp/old /tmp/new

`DIR` holds the labelled folders `palm` and `aptos2019`. A run takes about five minutes on one core. It makes a search
on the built-in photographs and one on real ones, a diagnosis of two networks, an evaluation and a validation, all on
one CPU thread with fixed seeds. `compare` prints, for every file, how many values agree, the largest difference
relative to the value, and the values that only one side has. Times, paths and versions are not compared.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_NOT_COMPARED = re.compile(
    r"seconds|duration|started|finished|created|written|version|path|folder|host|commit|file|command|budget|forecast|"
    r"worker|pid|eta|per_hour|gpu|device|memory|sources?\b|\.data\b|platform|python|packages|hours|schema|time"
)
_FILES = {
    "search on built-in photographs": ("smoke/trials.csv", "smoke/answer.json"),
    "search on real photographs": ("resnet/trials.csv", "resnet/answer.json"),
    "diagnosis": ("diagnosis/diagnosis.json",),
    "evaluation": ("evaluation/evaluation.json",),
    "validation": ("validation/validation.json",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("out", type=Path)
    run.add_argument("--photographs", type=Path, required=True)
    compare = commands.add_parser("compare")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        make(arguments.out.resolve(), arguments.photographs.resolve())
    else:
        sys.exit(report(arguments.old, arguments.new))


def make(out: Path, photographs: Path) -> None:
    """Runs every command with the augscale of the current folder; what is already there is not made again."""
    data = photographs / "palm"
    small = [
        "pretrain.steps=24",
        "pretrain.batch_size=16",
        "backbone.overrides.channels=[8,16,24,32]",
        "probe.images=40",
    ]
    settings = [word for setting in small for word in ("--set", setting)]
    search = ["--device", "cpu", "--workers", "1", "--seed", "7", "--trials", "8"]
    _augscale("search", "--study", "smoke", *search, "--out", str(out / "smoke"))
    _augscale(
        "search", "--study", "fundus-cpu-resnet", "--data", str(data), *search, *settings, "--out", str(out / "resnet")
    )
    weights = [str(out / "resnet" / "trials" / number) for number in ("0000", "0001")]
    labelled = ["--datasets", str(data), "--device", "cpu"]
    _augscale(
        "diagnose", *weights, "--data", str(data), "--images", "60", "--bootstrap", "50",
        "--device", "cpu", "--out", str(out / "diagnosis"),
    )  # fmt: skip
    _augscale(
        "evaluate", *weights, *labelled, "--protocol", "linear,knn", "--seeds", "2", "--out", str(out / "evaluation")
    )
    _augscale(
        "validate", str(out / "resnet"), *labelled, "--protocol", "knn", "--bootstrap", "50",
        "--out", str(out / "validation"),
    )  # fmt: skip


def report(old: Path, new: Path) -> int:
    """Prints a table of files; 1 where any value differs or is missing on one side."""
    print("| result | values | equal | largest relative difference | only before | only after |")
    print("|---|---|---|---|---|---|")
    notes: list[str] = []
    for title, names in _FILES.items():
        before, after = (dict(pair for name in names for pair in read_values(root / name)) for root in (old, new))
        shared = before.keys() & after.keys()
        differences = {key: relative_difference(before[key], after[key]) for key in shared}
        unequal = {key: value for key, value in differences.items() if value}
        gone, added = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
        largest = max(unequal.values(), default=0.0)
        print(
            f"| {title} | {len(shared)} | {len(shared) - len(unequal)} | {largest:.1e} | {len(gone)} | {len(added)} |"
        )
        notes += [f"{key}: {before[key]!r} -> {after[key]!r}" for key in sorted(unequal)[:20]]
        notes += [f"only before: {key} = {before[key]!r}" for key in gone[:10]]
        notes += [f"only after: {key} = {after[key]!r}" for key in added[:10]]
    print("\n".join(["", *notes]))
    return 1 if notes else 0


def _augscale(*arguments: str) -> None:
    folder = Path(arguments[-1])
    if folder.is_dir() and any(folder.glob("*.json")):
        print(f"there already: {folder}")
        return
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    print("augscale", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "augscale", *arguments], env=environment, check=True, stdout=sys.stderr)


def read_values(path: Path) -> Iterator[tuple[str, object]]:
    if not path.is_file():
        raise SystemExit(f"{path}: is not there; make it with `python -m benchmarks.same_results run`")
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            content: object = list(csv.DictReader(file))
    else:
        content = json.loads(path.read_text())
    for key, value in _leaves(content, path.stem):
        if not _NOT_COMPARED.search(key):
            yield key, value


def _leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{key}[{number}]")
    else:
        yield key, value


def relative_difference(old: object, new: object) -> float:
    """0 where equal, else relative to the larger value; infinity where the values are no numbers."""
    try:
        a, b = float(str(old)), float(str(new))
    except ValueError:
        return 0.0 if old == new else math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) / max(abs(a), abs(b))


if __name__ == "__main__":
    main()
