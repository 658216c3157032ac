"""`augscale.search(...)`: one call from images to the best augmentation scales; the command line is a thin skin."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import StudyConfig, load_study
from augscale.errors import ConfigError, DataError, StudyError
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder, Stopwatch
from augscale.searching.answer import write_answer, write_trials_table
from augscale.searching.display import SearchDisplay
from augscale.searching.failures import COLLAPSE_ADVICE, all_failed, failure_sentence, reason_to_stop
from augscale.searching.introduction import say_what_runs, say_where_it_is_kept
from augscale.searching.prepare import check_study, default_run_folder, prepare_run
from augscale.searching.progress import Progress, read_progress, read_workers
from augscale.searching.storage import (
    Storage,
    merge_write_ahead_log,
    open_storage,
    parse_storage,
    run_storage,
)
from augscale.searching.study import begin_study, is_feasible, open_study, trials_started
from augscale.searching.supervisor import supervise
from augscale.system.devices import plan_workers


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found and where it lies."""

    run_dir: Path
    scales: AugmentationScales
    """The best scales; see `answer` for how sure that is."""
    headline: str
    answer: dict[str, Any]
    """The content of answer.json: contenders, scores, intervals, caveats."""

    @property
    def card(self) -> Path:
        return self.run_dir / "best.toml"

    @property
    def report(self) -> Path:
        return self.run_dir / "report.html"

    def __str__(self) -> str:
        return f"{self.headline}\n{self.report}"


def search(
    study: str | Path | StudyConfig = "default",
    *,
    data: str | Path | list[str | Path] | None = None,
    trials: int | None = None,
    budget: str | float | None = None,
    storage: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    seed: int | None = None,
    out: str | Path | None = None,
    allow_bad: bool = False,
    max_memory: str | None = None,
    overrides: dict[str, Any] | None = None,
    quiet: bool = False,
    console: Console | None = None,
) -> SearchResult:
    """Searches the augmentation scales that keep positive and negative pairs of your images apart.

    The same call on the same `out` resumes: finished trials are kept, interrupted ones continue.

    Args:
        study: name of a built-in study, path of a study file, or a StudyConfig.
        data: folders, CSV manifests or "synthetic"; None takes the study's.
        trials: total number wanted, not "more"; None takes the study's.
        budget: time for this call, e.g. "2h", "90m" or seconds; leaves room for the confirmation.
        storage: SQLAlchemy URL for several hosts; None keeps SQLite in the run folder. Its password is passed on to the
            workers and not kept.
        workers: processes; None takes one per GPU, or one per CPU core.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: root seed of the search; None takes the study's.
        out: run folder; None is runs/STUDY in the current folder.
        allow_bad: go on although many files could not be used.
        max_memory: what each worker may use of its GPU or, on a CPU, of main memory, e.g. "8GB"; None takes the
            study's or what is free. Decides into how many micro-batches a step is cut.
        overrides: any setting of the study by dotted key, e.g. {"pretrain.steps": 500}.
        quiet: print nothing.
        console: where to print; None is standard error.
    Raises:
        ConfigError, DataError: before anything is trained.
        InterruptedRun: a signal came; everything is saved.
        StudyError: no trial can be used, or too many failed.
    """
    flags: dict[str, Any] = {"search.trials": trials, "search.seed": seed, "data.sources": _sources(data)}
    flags |= {"pretrain.max_memory": max_memory}
    config = _resolve(study, (overrides or {}) | {key: value for key, value in flags.items() if value is not None})
    seconds_allowed = parse_budget(budget)
    watch = Stopwatch()
    run = RunFolder(out or default_run_folder(config))
    address = _storage_address(run, storage)
    # Before the run folder says that its study is kept there.
    opened_storage = open_storage(address) if storage is not None and address is not None else None
    display = SearchDisplay(console or Console(stderr=True), quiet=quiet)
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    plan = plan_workers(device, workers, config.search.trials)
    parameters = check_study(config)
    with display.images() as on_progress:
        manifest = prepare_run(
            run,
            config,
            storage=address,
            parameters=parameters,
            device_label=str(plan),
            allow_bad=allow_bad,
            on_progress=on_progress,
            say=display.say,
        )
    say_what_runs(display, config, manifest, run)
    address = address or run_storage(run, manifest)
    opened = begin_study(run, config, opened_storage or address, manifest["study_name"])
    say_where_it_is_kept(display, address, given=storage is not None)
    run.log(
        "search started",
        trials=config.search.trials,
        device=str(plan),
        workers=len(plan.devices),
        preparation_seconds=round(watch.seconds, 3),
    )

    poll, began = _poller(run, config, opened, display), time.time()
    started = trials_started(opened)
    if all_failed(started):
        poll()
        if len(started) >= config.search.trials:
            return _finish(run, config, opened, watch, display)
        if reason := reason_to_stop(started, config.search.max_failures, began):
            raise StudyError(f"{reason}; see {run.trials_table}")
    with display.running():
        try:
            supervise(
                run,
                plan,
                deadline=None if seconds_allowed is None else began + seconds_allowed,
                on_poll=poll,
                environment=address.environment,
            )
        except StudyError:
            write_trials_table(run, config, opened)
            # In the worker's own words the reasons of other workers' trials may be missing.
            if reason := reason_to_stop(trials_started(opened), config.search.max_failures, began):
                raise StudyError(f"{reason}; see {run.trials_table}") from None
            raise
    run.log("workers ended")
    return _finish(run, config, opened, watch, display)


def read_run(run_dir: str | Path) -> tuple[RunFolder, StudyConfig, optuna.Study]:
    """Opens a run that `search` began.

    Raises:
        ConfigError: not a run folder.
    """
    run = RunFolder(run_dir)
    manifest = read_json(run.manifest_file)
    if manifest is None:
        raise ConfigError(f"{run.path}: not a run folder of augscale search (no readable manifest.json)")
    if "study_name" not in manifest:
        kind = manifest.get("kind", "another kind of run")
        raise ConfigError(f"{run.path}: holds {kind}; expected the run folder of a search")
    if manifest["storage"] is None and not run.database.exists():
        raise ConfigError(f"{run.database} is missing; expected the whole run folder, study.db-wal included")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = load_study(run.study_file)
    return run, config, open_study(config, run_storage(run, manifest), manifest["study_name"])


def status(run_dir: str | Path) -> Progress:
    """Where a search stands: trials by state, best so far, forecast of the end."""
    return read_progress(*read_run(run_dir))


def rewrite_report(run_dir: str | Path) -> Path:
    """Writes trials.csv and report.html of a run again; the search may still be running."""
    from augscale.reporting.search.report import write_report
    from augscale.searching.sheets import contact_sheets

    run, config, study = read_run(run_dir)
    write_trials_table(run, config, study)
    answer, sheets = read_json(run.answer_file), None
    if answer:
        # The decoded images may be gone, or this a copy on another machine; everything else is here.
        with suppress(DataError):
            sheets = contact_sheets(run, config, answer)
    return write_report(run.path, contact_sheets=sheets)


def parse_budget(budget: str | float | None) -> float | None:
    """Seconds of a time budget: "2h", "1h30m", "90m", "45s" or a number of seconds.

    Raises:
        ConfigError: not a duration above 0.
    """
    if budget is None:
        return None
    text = str(budget).strip().lower()
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if not seconds > 0:
        raise ConfigError(f"--budget {budget}: expected a duration such as 2h, 1h30m, 90m or 45s")
    return seconds


def _poller(run: RunFolder, config: StudyConfig, study: optuna.Study, display: SearchDisplay) -> Callable[[], None]:
    """Reads the storage only when a trial has moved on, so that watching takes no time from the workers."""
    snapshot: Progress | None = None
    seen = -1.0

    def poll() -> None:
        nonlocal snapshot, seen
        stamps = [path.stat().st_mtime for path in run.path.glob("trials/*/trial.json")]
        newest = max([*stamps, (run.path / "log.jsonl").stat().st_mtime])
        if snapshot is None or newest != seen:
            try:
                snapshot, seen = read_progress(run, config, study), newest
            except optuna.exceptions.StorageInternalError:
                # A database that pauses must not end the search that is watched here.
                if snapshot is None:
                    raise
        display.update(replace(snapshot, workers=read_workers(run)))

    return poll


def _finish(
    run: RunFolder, config: StudyConfig, study: optuna.Study, watch: Stopwatch, display: SearchDisplay
) -> SearchResult:
    from augscale.reporting.search.report import write_report
    from augscale.reporting.search.terminal import print_answer
    from augscale.searching.sheets import contact_sheets

    write_trials_table(run, config, study)
    with run.locked("answer"):
        before = (read_json(run.answer_file) or {}).get("seconds", {}).get("total", 0.0)
        answer = write_answer(run, config, study, {"total": before + watch.seconds})
        if answer["best"] is None:
            write_report(run.path)
            why = _why_nothing_can_be_used(trials_started(study))
            raise StudyError(
                f"no trial can be used: {why}; see {run.trials_table}. What is mended outside of the study's settings "
                f"is tried by a higher --trials than {config.search.trials}"
            )
        write_report(run.path, contact_sheets=contact_sheets(run, config, answer))
    run.log("search finished", best=answer["best"])
    merge_write_ahead_log(run)
    if not display.quiet:
        print_answer(answer, run.path, display.console)
    return SearchResult(
        run_dir=run.path, scales=load_scales(str(run.best_card)), headline=answer["headline"], answer=answer
    )


def _why_nothing_can_be_used(trials: list[FrozenTrial]) -> str:
    collapsed = [trial for trial in trials if trial.state == TrialState.COMPLETE and not is_feasible(trial)]
    said = [failure_sentence(trials)]
    if collapsed:
        said.append(f"{len(collapsed)} of {len(trials)} trials collapsed: {COLLAPSE_ADVICE}")
    return "; ".join(filter(None, said)) or "none has completed"


def _storage_address(run: RunFolder, storage: str | None) -> Storage | None:
    """That of the flag, else that of an existing run: with the password, which an earlier version kept."""
    if storage is not None:
        return parse_storage(storage)
    known = read_json(run.manifest_file)
    return run_storage(run, known) if known and "storage" in known else None


def _sources(data: str | Path | list[str | Path] | None) -> list[str] | None:
    if data is None:
        return None
    sources = [data] if isinstance(data, (str, Path)) else list(data)
    return [str(source) for source in sources]


def _resolve(study: str | Path | StudyConfig, overrides: dict[str, Any]) -> StudyConfig:
    if not isinstance(study, StudyConfig):
        return load_study(study, overrides)
    if not overrides:
        return study
    from augscale.config import apply_overrides
    from augscale.settings import parse_settings

    return parse_settings(StudyConfig, apply_overrides(study.model_dump(), overrides), "study")
