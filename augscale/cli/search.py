"""`augscale search`, `status`, `report` and the hidden `worker` that a search starts."""

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
    Unlabelled,
    parse_assignments,
    print_json,
)
from augscale.system.startup import lasting_imports


def search(
    study: Annotated[
        str,
        typer.Option("--study", help="Built-in study or study file (.toml).", autocompletion=completion.studies),
    ] = "default",
    data: Data = None,
    exclude: Exclude = None,
    patients_from: PatientsFrom = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            help="Labelled images (folder, table or prepared dataset): score trials by how well classes are told "
            "apart; test images are not read. May be given more than once.",
        ),
    ] = None,
    unlabelled: Unlabelled = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Total number of trials, including finished ones.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for this call, e.g. 2h, 90m; then it saves, answers and can go on.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database URL, for several hosts; its password is not stored.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per GPU or core if not given.")] = None,
    device: Device = "auto",
    seed: Annotated[int | None, typer.Option(help="Root seed of the search.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/STUDY if not given.")] = None,
    init: Init = None,
    method: Method = None,
    max_memory: MaxMemory = None,
    set_: StudySettings = None,
    allow_bad: AllowBad = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and what it would cost; train and write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search the scales for your images: short training runs, scored by pair distances. The same command resumes."""
    from rich.console import Console

    from augscale.pretrain_config import method_overrides
    from augscale.system.progress_bar import working

    # With --json, standard output is kept for the result.
    console = Console(stderr=as_json)
    with working(console, "loading libraries"), lasting_imports():
        from augscale.searching.search import search as run_search

    sources: list[str | Path] | None = [*data] if data else None
    labelled: list[str | Path] | None = [*labels] if labels else None
    flags = {
        "backbone.init": init,
        "data.exclude": exclude,
        "data.patient_pattern": patients_from,
        "probe.unlabelled": unlabelled,
    }
    overrides = parse_assignments(set_, flags) | method_overrides(method)
    if dry_run:
        from augscale.reporting.search.plan_terminal import print_plan
        from augscale.searching.dry_run import plan_search

        with working(console, "measuring the cost of a step"):
            plan = plan_search(
                study,
                data=sources,
                labels=labelled,
                trials=trials,
                budget=budget,
                workers=workers,
                device=device,
                seed=seed,
                out=out,
                max_memory=max_memory,
                overrides=overrides,
            )
        if as_json:
            print_json(plan.to_dict())
        else:
            print_plan(plan, console)
        return
    result = run_search(
        study,
        data=sources,
        labels=labelled,
        trials=trials,
        budget=budget,
        storage=storage,
        workers=workers,
        device=device,
        seed=seed,
        out=out,
        allow_bad=allow_bad,
        max_memory=max_memory,
        overrides=overrides,
        console=console,
    )
    if as_json:
        print_json(result.answer | {"run": str(result.run_dir)})


def status(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    as_json: Json = False,
) -> None:
    """Show trials done, running and failed (with reasons), the best so far, and the expected end."""
    from rich.console import Console

    from augscale.system.progress_bar import working

    with working(Console(stderr=True), "reading the run"):
        from augscale.searching.display import render
        from augscale.searching.read_run import status as read_status

        progress = read_status(run_dir)
    if as_json:
        print_json(progress.to_dict())
    else:
        Console().print(render(progress, None, all_trials=True))


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of another search.")],
    as_json: Json = False,
) -> None:
    """Show two searches side by side: settings that differ, answers, and whether their scores can be compared."""
    from rich.console import Console

    from augscale.system.progress_bar import working

    with working(Console(stderr=True), "reading the runs"):
        from augscale.reporting.search.comparison_terminal import print_comparison
        from augscale.searching.compare_runs import compare_runs

        found = compare_runs(first, second)
    if as_json:
        print_json(found.to_dict())
    else:
        print_comparison(found, Console())


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    as_json: Json = False,
) -> None:
    """Write the report and the trial table again; works while the search is still running."""
    from rich.console import Console

    from augscale.system.progress_bar import working

    with working(Console(stderr=True), "writing the report"):
        from augscale.searching.search import rewrite_report

        path = rewrite_report(run_dir)
    if as_json:
        print_json({"report": str(path)})
    else:
        print(path)


def worker(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN")],
    device: Annotated[str, typer.Option()] = "cpu",
    threads: Annotated[int | None, typer.Option()] = None,
    num_workers: Annotated[int, typer.Option()] = 1,
    deadline: Annotated[float | None, typer.Option()] = None,
    free_memory: Annotated[int | None, typer.Option("--free-memory", help="Bytes.")] = None,
    sharing: Annotated[int, typer.Option(min=1, help="Workers on this device.")] = 1,
    parent: Annotated[int | None, typer.Option("--supervised-by", help="Stop when this parent process ends.")] = None,
) -> None:
    """Join a prepared search as one more process."""
    with lasting_imports():
        from augscale.searching.worker import run_worker
    run_worker(
        run_dir,
        device=device,
        threads=threads,
        num_workers=num_workers,
        deadline=deadline,
        free_memory=free_memory,
        sharing=sharing,
        parent=parent,
    )
