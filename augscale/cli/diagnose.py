"""`augscale diagnose`: passes its flags to `augscale.diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from augscale.cli import completion
from augscale.cli.options import (
    AllowBad,
    Arch,
    CropToField,
    Data,
    Device,
    Exclude,
    GreyRange,
    Json,
    Key,
    PatientsFrom,
    Statistics,
    Unlabelled,
    Untrained,
    parse_range,
    print_json,
    split_names,
)
from augscale.system.startup import lasting_imports


def diagnose(
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CKPT...", help="Weights files, folders of trials, timm:NAME or random:NAME.")
    ],
    data: Data = None,
    exclude: Exclude = None,
    patients_from: PatientsFrom = None,
    scales: Annotated[
        str | None,
        typer.Option(
            help="Scales to measure besides the ladder; default: strong, weak and those of the checkpoint's training.",
            autocompletion=completion.scales,
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Number of photographs.")] = 128,
    views: Annotated[int, typer.Option(min=2, max=64, help="Views of each photograph at each level.")] = 4,
    size: Annotated[
        int | None, typer.Option(min=8, help="Side of the views, pixels; each checkpoint's own if not given.")
    ] = None,
    crop_to_field: CropToField = None,
    grey_range: GreyRange = None,
    arch: Arch = None,
    key: Key = None,
    statistics: Statistics = None,
    untrained: Untrained = True,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Seed of photographs, views, bootstrap and maps.")] = 0,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of patients for the intervals.")] = 200,
    out: Annotated[Path, typer.Option(help="Folder for diagnosis.json and diagnosis.html.")] = Path("diagnosis"),
    figures: Annotated[
        bool, typer.Option("--figures", help="Also write the figures as PNG files for a paper (300 dpi).")
    ] = False,
    allow_bad: AllowBad = False,
    unlabelled: Unlabelled = None,
    as_json: Json = False,
) -> None:
    """Compare the pair distances of checkpoints, and check that the checkpoints are healthy."""
    from rich.console import Console

    from augscale.system.progress_bar import progress_bar, working

    console = Console(stderr=as_json)
    with working(console, "loading libraries"), lasting_imports():
        from augscale.diagnosis.diagnose import diagnose as run_diagnosis
        from augscale.reporting.diagnosis.terminal import print_diagnosis
    with progress_bar(console) as on_progress:
        result = run_diagnosis(
            checkpoints,
            data=list(data) if data else None,
            scales=None if scales is None else split_names(scales),
            images=images,
            views=views,
            size=size,
            crop_to_field=crop_to_field,
            grey_range=parse_range(grey_range),
            exclude=exclude or (),
            patient_pattern=patients_from,
            arch=arch,
            key=key,
            statistics=statistics,
            untrained=untrained,
            device=device,
            seed=seed,
            bootstrap=bootstrap,
            out=out,
            figures=figures,
            allow_bad=allow_bad,
            unlabelled=unlabelled or (),
            on_progress=on_progress,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print_diagnosis(result, out, console)
