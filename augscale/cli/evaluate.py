"""`augscale evaluate` and `augscale promote`: pass their flags to one function each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from augscale.cli import completion
from augscale.cli.options import (
    AllowBad,
    Arch,
    CropToField,
    DataRoot,
    Datasets,
    Device,
    Exclude,
    GreyRange,
    Init,
    Json,
    Key,
    MaxMemory,
    Method,
    PatientsFrom,
    Size,
    Statistics,
    Unlabelled,
    Untrained,
    parse_assignments,
    parse_range,
    print_json,
    split_datasets,
    split_names,
)
from augscale.system.startup import lasting_imports

if TYPE_CHECKING:
    from augscale.evaluation.protocol_config import ProtocolConfig

External = Annotated[bool, typer.Option("--external", help="Also test on every dataset that shares classes.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repeats of the protocols that depend on a seed.")]
Protocols = Annotated[
    str,
    typer.Option(
        "--protocol", help="finetune, linear, released, knn; with commas.", autocompletion=completion.protocols
    ),
]
ProtocolSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any setting of the protocols, e.g. --set finetune.epochs=10.",
        autocompletion=completion.protocol_settings,
    ),
]


def evaluate(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CKPT...]", help="As for diagnose; the newest promotion's if not given."),
    ] = None,
    datasets: Datasets = None,
    exclude: Exclude = None,
    patients_from: PatientsFrom = None,
    protocol: Protocols = "linear,released,knn",
    external: External = False,
    seeds: Seeds = 5,
    size: Size = None,
    crop_to_field: CropToField = None,
    grey_range: GreyRange = None,
    untrained: Untrained = True,
    data_root: DataRoot = None,
    arch: Arch = None,
    key: Key = None,
    statistics: Statistics = None,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("evaluation"),
    set_: ProtocolSettings = None,
    allow_bad: AllowBad = False,
    unlabelled: Unlabelled = None,
    as_json: Json = False,
) -> None:
    """Measure checkpoints downstream: AUROC, AUPR and more, internal and external. The same command resumes."""
    from rich.console import Console

    from augscale.system.progress_bar import line_printer, progress_bar, working

    console = Console(stderr=as_json)
    with working(console, "loading libraries"), lasting_imports():
        from augscale.evaluation.evaluate import evaluate as run_evaluation
        from augscale.reporting.evaluation.terminal import print_evaluation
    config = _protocol_config(set_, seeds, size)
    with progress_bar(console) as on_progress:
        result = run_evaluation(
            checkpoints or None,
            datasets=split_datasets(datasets),
            protocols=split_names(protocol),
            external=external,
            untrained=untrained,
            config=config,
            size=size,
            crop_to_field=crop_to_field,
            grey_range=parse_range(grey_range),
            exclude=exclude or (),
            patient_pattern=patients_from,
            data_root=data_root,
            arch=arch,
            key=key,
            statistics=statistics,
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
        print_evaluation(result.summary, out, console)


def promote(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished search.")],
    top: Annotated[int, typer.Option(min=1, help="Number of best scales to promote.")] = 1,
    epochs: Annotated[
        float | None, typer.Option(help="Epochs of each full run; 100 if neither this nor --steps is given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer updates of each full run.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Batch size; the study's if not given.")] = None,
    init: Init = None,
    method: Method = None,
    max_memory: MaxMemory = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option(
            "--datasets", help="As for evaluate; none leaves the evaluation out.", autocompletion=completion.datasets
        ),
    ] = None,
    patients_from: PatientsFrom = None,
    protocol: Protocols = "linear,released,knn",
    external: External = False,
    seeds: Seeds = 5,
    data_root: DataRoot = None,
    device: Device = "auto",
    set_: ProtocolSettings = None,
    unlabelled: Unlabelled = None,
    as_json: Json = False,
) -> None:
    """Confirm the best scales, pre-train them and the controls in full, and evaluate. The same command resumes."""
    from rich.console import Console

    from augscale.pretrain_config import method_overrides
    from augscale.system.progress_bar import progress_bar, working

    console = Console(stderr=as_json)
    with working(console, "loading libraries"), lasting_imports():
        from augscale.promotion.promote import promote as run_promotion
        from augscale.reporting.evaluation.promotion_terminal import print_promotion
    with progress_bar(console) as on_progress:
        result = run_promotion(
            run_dir,
            top=top,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            init=init,
            max_memory=max_memory,
            overrides=method_overrides(method),
            datasets=None if datasets == ["none"] else split_datasets(datasets),
            protocols=split_names(protocol),
            external=external,
            config=_protocol_config(set_, seeds, None),
            patient_pattern=patients_from,
            data_root=data_root,
            unlabelled=unlabelled or (),
            device=device,
            console=console,
            on_progress=on_progress,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        print_promotion(result, console)


def _protocol_config(assignments: list[str] | None, seeds: int, size: int | None) -> ProtocolConfig:
    """Settings of the protocols; if no size is given, the first checkpoint's is used later."""
    from augscale.config import apply_overrides
    from augscale.evaluation.protocol_config import ProtocolConfig
    from augscale.settings import parse_settings

    values = apply_overrides({"seeds": seeds}, parse_assignments(assignments or []))
    if size is not None:
        values["view_size"] = size
    return parse_settings(ProtocolConfig, values, "--set")
