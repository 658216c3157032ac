"""`augscale validate`: passes its flags to `augscale.validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from augscale.cli import completion
from augscale.cli.options import (
    AllowBad,
    CropToField,
    DataRoot,
    Datasets,
    Device,
    Json,
    PatientsFrom,
    Unlabelled,
    parse_assignments,
    print_json,
    split_datasets,
    split_names,
)
from augscale.system.startup import lasting_imports


def validate(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")],
    datasets: Datasets = None,
    patients_from: PatientsFrom = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", help="linear, knn, released; the first one decides.", autocompletion=completion.protocols
        ),
    ] = "linear,knn",
    rung: Annotated[
        int | None,
        typer.Option(min=1, help="Step at which trials are compared; if not given, the last that most trials reached."),
    ] = None,
    remake: Annotated[bool, typer.Option("--remake", help="Train again the trials whose weights are missing.")] = False,
    crop_to_field: CropToField = None,
    data_root: DataRoot = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of trials for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for the results; RUN/validation if not given.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any setting of the protocols, e.g. --set knn.temperature=0.1.",
            autocompletion=completion.protocol_settings,
        ),
    ] = None,
    allow_bad: AllowBad = False,
    unlabelled: Unlabelled = None,
    as_json: Json = False,
) -> None:
    """Check on labels if the score can be trusted: its rank correlation with AUROC, and the cost of following it."""
    from rich.console import Console

    from augscale.config import apply_overrides
    from augscale.evaluation.protocol_config import ProtocolConfig
    from augscale.settings import parse_settings
    from augscale.system.progress_bar import line_printer, progress_bar, working

    console = Console(stderr=as_json)
    with working(console, "loading libraries"), lasting_imports():
        from augscale.reporting.validation.terminal import print_validation
        from augscale.validation.validate import validate as run_validation
    config = parse_settings(ProtocolConfig, apply_overrides({}, parse_assignments(set_ or [])), "--set")
    with progress_bar(console) as on_progress:
        result = run_validation(
            run_dir,
            datasets=split_datasets(datasets),
            patient_pattern=patients_from,
            protocols=split_names(protocol),
            rung=rung,
            remake=remake,
            config=config,
            crop_to_field=crop_to_field,
            data_root=data_root,
            bootstrap=bootstrap,
            seed=seed,
            device=device,
            out=out,
            allow_bad=allow_bad,
            unlabelled=unlabelled or (),
            on_progress=on_progress,
            say=line_printer(console),
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print_validation(result, result.out, console)
