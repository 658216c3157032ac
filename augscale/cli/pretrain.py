"""`augscale pretrain`: passes its flags to `pretrain_full`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from augscale.cli import completion
from augscale.cli.options import (
    AllowBad,
    Data,
    Device,
    Exclude,
    Init,
    Json,
    MaxMemory,
    Method,
    PatientsFrom,
    StudySettings,
    parse_assignments,
    print_json,
)


def pretrain(
    scales: Annotated[
        str,
        typer.Option(
            "--scales", help="weak, strong@0.5, ... or a scale card (best.toml).", autocompletion=completion.scales
        ),
    ],
    data: Data = None,
    exclude: Exclude = None,
    patients_from: PatientsFrom = None,
    study: Annotated[
        str,
        typer.Option(
            "--study", help="Study whose backbone, crops and recipe are used.", autocompletion=completion.studies
        ),
    ] = "default",
    arch: Annotated[str | None, typer.Option(help="Another backbone of timm, e.g. vit_small_patch16_224.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Length in epochs; 100 if neither this nor --steps is given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length in optimizer updates.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Batch size of all processes together.")] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="Micro-batches per process and step.")] = 1,
    method: Method = None,
    max_memory: MaxMemory = None,
    init: Init = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and views.")] = 0,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/pretrain/STUDY-SCALES if not given.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only continue; fail if there is no interrupted run.")
    ] = False,
    evaluations: Annotated[int, typer.Option(min=1, help="Number of times that the panel is scored.")] = 20,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between log lines.")] = 10,
    set_: StudySettings = None,
    allow_bad: AllowBad = False,
    as_json: Json = False,
) -> None:
    """Pre-train in full at some scales; the same command continues an interrupted run. Several GPUs: torchrun."""
    from rich.console import Console

    from augscale.errors import InterruptedRun
    from augscale.pretrain_config import method_overrides
    from augscale.pretraining.distributed import global_rank
    from augscale.promotion.full_run import pretrain_full

    flags = {"data.exclude": exclude, "data.patient_pattern": patients_from}
    try:
        result = pretrain_full(
            scales,
            data=list(data) if data else None,
            study=study,
            arch=arch,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            accumulate=accumulate,
            max_memory=max_memory,
            init=init,
            seed=seed,
            device=device,
            out=out,
            resume=resume,
            evaluations=evaluations,
            log_every=log_every,
            allow_bad=allow_bad,
            overrides=parse_assignments(set_, flags) | method_overrides(method),
            console=Console(stderr=as_json),
        )
    except InterruptedRun as error:
        if global_rank() == 0:
            raise
        raise typer.Exit(error.exit_code) from None  # rank 0 prints the message
    if global_rank() > 0:
        return
    if as_json:
        print_json(result.to_dict())
    else:
        print(result)
