"""`augscale data`: list, prepare and check the paper's six labelled datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from augscale.cli import completion
from augscale.cli.options import DataRoot, Json, print_json

if TYPE_CHECKING:
    from augscale.data.retinal.check import CheckResult
    from augscale.data.retinal.prepared import DatasetStatus, Prepared

data_app = typer.Typer(
    name="data",
    help="The labelled datasets of the paper: where to get them, prepare a download, check it against Table 1.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="MESSIDOR-2, IDRiD, APTOS2019, PAPILA, JSIEC or Retina.",
        autocompletion=completion.words("MESSIDOR-2", "IDRiD", "APTOS2019", "PAPILA", "JSIEC", "Retina"),
    ),
]


@data_app.command("list")
def list_(data_root: DataRoot = None, as_json: Json = False) -> None:
    """List the datasets: content, source, licence, and state on this machine."""
    from augscale.data.retinal.prepared import default_data_root, list_datasets

    root = (data_root or default_data_root()).expanduser().absolute()
    listed = list_datasets(root)
    if as_json:
        print_json({"data_root": str(root), "datasets": [status.to_dict() for status in listed]})
        return
    print(f"folder of prepared datasets: {root}")
    for status in listed:
        print("\n" + "\n".join(_described(status)))


@data_app.command()
def prepare(
    name: Name,
    download: Annotated[Path, typer.Option("--from", metavar="DOWNLOAD", help="Folder of the unpacked download.")],
    split: Annotated[
        str, typer.Option(help="published, or at random by image or patient with Table 1's numbers.")
    ] = "published",
    seed: Annotated[int, typer.Option(help="Seed of a random split.")] = 0,
    data_root: DataRoot = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a dataset that was prepared otherwise.")] = False,
    as_json: Json = False,
) -> None:
    """Write the manifest of a downloaded dataset; images stay where they are."""
    from augscale.data.retinal import prepare as prepare_dataset
    from augscale.data.retinal.prepare import SplitKind

    prepared = prepare_dataset(name, download, data_root, split=cast(SplitKind, split), seed=seed, force=force)
    if as_json:
        print_json(prepared.to_dict())
    else:
        print("\n".join(_summary(prepared)))


@data_app.command()
def check(name: Name, data_root: DataRoot = None, as_json: Json = False) -> None:
    """Check a dataset: counts against Table 1, duplicates, patient leakage, unreadable files; exit code 3 on errors."""
    from rich.console import Console
    from rich.progress import Progress

    from augscale.data.retinal import check as check_dataset

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading images", total=None)
        result = check_dataset(
            name, data_root, on_progress=lambda done, total: progress.update(task, completed=done, total=total)
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print("\n".join(_findings(result)))
    if not result.ok:
        raise typer.Exit(3)


def _described(status: DatasetStatus) -> list[str]:
    dataset = status.dataset
    numbers = "/".join(map(str, dataset.table1))
    where = f", {dataset.country}" if dataset.country else ""
    names = ", ".join(dataset.classes[:5]) + (", ..." if len(dataset.classes) > 5 else "")
    lines = [
        f"{dataset.name}: {dataset.task}{where}; Table 1: {numbers} train/val/test",
        f"  classes   {len(dataset.classes)}: {names}",
        f"  licence   {dataset.licence}",
    ]
    if status.prepared is not None:
        counts = "/".join(map(str, status.prepared.counts.values()))
        lines.append(f"  present   {counts} train/val/test, split {status.prepared.facts.get('split')}")
    if status.problem is not None:
        lines.append(f"  problem   {status.problem}")
    if status.prepared is None:
        for i, step in enumerate(status.how_to_get):
            lines.append(f"  {'get it' if i == 0 else '':<9} {step}")
    return lines


def _summary(prepared: Prepared) -> list[str]:
    state = "prepared" if prepared.changed else "was prepared already, nothing changed"
    counts = "/".join(map(str, prepared.counts.values()))
    lines = [
        f"{prepared.name} {state}: {prepared.facts['counts']['total']} images, {counts} train/val/test",
        f"split {prepared.facts['split']}",
        *(f"note: {note}" for note in prepared.facts["notes"]),
    ]
    return [*lines, f"{prepared.manifest}", f"next: augscale data check {prepared.name}"]


def _findings(result: CheckResult) -> list[str]:
    counts, table1 = ("/".join(map(str, numbers.values())) for numbers in (result.counts, result.table1))
    lines = [f"{result.name}: {counts} train/val/test; Table 1 has {table1}"]
    lines += [f"{finding.severity:<8} {finding.kind}: {finding.text}" for finding in result.findings]
    return lines if result.findings else [*lines, "nothing found"]
