"""`augscale.search(...)`: one call from images to the best augmentation scales; the command line calls it, too."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.config import CV_AUROC, StudyConfig, apply_overrides, load_study, sets_panel, source_list
from augscale.errors import ConfigError
from augscale.records.answer import AnswerRecord
from augscale.records.manifest import ManifestRecord
from augscale.runs.folders import RunFolder, Stopwatch
from augscale.searching.display import SearchDisplay
from augscale.searching.introduction import say_budget, say_other_calls, say_what_runs, say_where_it_is_kept
from augscale.searching.prepare import check_study, default_run_folder, kept_panel, prepare_run
from augscale.searching.progress import read_workers
from augscale.searching.read_run import read_run
from augscale.searching.session import Session
from augscale.searching.storage import Storage, open_storage, parse_storage, run_storage
from augscale.searching.study import begin_study
from augscale.searching.trials_table import write_trials_table
from augscale.settings import parse_settings
from augscale.system.devices import plan_workers


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The result of a search, and its run folder."""

    run_dir: Path
    scales: AugmentationScales
    """The best scales; intervals and comparisons are in `answer`."""
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

    def _repr_html_(self) -> str:
        from augscale.reporting.search.contenders import contender_rows, heads
        from augscale.reporting.shared.notebook import notebook_html

        answer = AnswerRecord.model_validate(self.answer)
        rows = [row.cells for row in contender_rows(answer)]
        return notebook_html(self.headline, heads(answer), rows, page=self.report)


def search(
    study: str | Path | StudyConfig = "default",
    *,
    data: str | Path | list[str | Path] | None = None,
    labels: str | Path | list[str | Path] | None = None,
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
        labels: labelled images (folders, tables or names of prepared datasets): trials are scored by the AUROC of a
            classifier (`probe.score = "cv-auroc"` unless `overrides` sets it). Test images are not read.
        trials: total number, including trials of earlier calls; None takes the study's.
        budget: time for this call, e.g. "2h", "90m" or seconds. Trials begin as long as the confirmation fits behind
            them; at the end, what runs is saved and the answer is written from what has ended.
        storage: SQLAlchemy URL for several hosts; None keeps SQLite in the run folder. The password is passed to the
            workers and is not kept.
        workers: processes; None takes one per GPU, or one per CPU core.
        device: "auto", "cpu", "cuda" or "cuda:N".
        seed: root seed of the search; None takes the study's.
        out: run folder; None is runs/STUDY in the current folder.
        allow_bad: continue although many files cannot be used.
        max_memory: memory that each worker may use of its GPU or, on a CPU, of main memory, e.g. "8GB"; None takes
            the study's, else the free memory. It determines the number of micro-batches of a step.
        overrides: any setting of the study by dotted key, e.g. {"pretrain.steps": 500}.
        quiet: print nothing.
        console: where to print; None is standard error.
    Raises:
        ConfigError, DataError: before anything is trained.
        InterruptedRun: a signal came; everything is saved.
        StudyError: no trial can be used, or too many failed.
    """
    config = resolved_study(
        study, data=data, labels=labels, trials=trials, seed=seed, max_memory=max_memory, overrides=overrides
    )
    given = sets_panel(study, overrides or {})
    seconds_allowed, watch = parse_budget(budget), Stopwatch()
    run = RunFolder(out or default_run_folder(config))
    address = _storage_address(run, storage)
    # Opened before the manifest is written, so that no manifest names a storage that cannot be opened.
    opened = open_storage(address) if storage is not None and address is not None else None
    display = SearchDisplay(console or Console(stderr=True), quiet=quiet)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan, parameters = plan_workers(device, workers, config.search.trials), check_study(config)
    with display.images() as on_progress:
        manifest = prepare_run(
            run,
            config,
            storage=address,
            parameters=parameters,
            device_label=str(plan),
            panel_given=given,
            allow_bad=allow_bad,
            on_progress=on_progress,
            say=display.say,
        )
    config = config if given else kept_panel(run, config)
    say_what_runs(display, config, manifest, run)
    address = address or run_storage(run, manifest.storage)
    optuna_study = begin_study(run, config, opened or address, manifest.study_name)
    say_where_it_is_kept(display, address, given=storage is not None)
    facts = {"trials": config.search.trials, "device": str(plan), "workers": len(plan.devices)}
    run.log("search started", **facts, preparation_seconds=round(watch.seconds, 3))
    began = time.time() - watch.seconds
    session = Session(
        run=run,
        config=config,
        study=optuna_study,
        address=address,
        display=display,
        watch=watch,
        began=began,
        budget=None if budget is None else str(budget),
    )
    if seconds_allowed is not None:
        say_budget(display, seconds_allowed, began)
    say_other_calls(display, read_workers(run), limited=seconds_allowed is not None)
    session.train(plan, seconds_allowed)
    return _result(run, session.answer())


def rewrite_report(run_dir: str | Path) -> Path:
    """Writes trials.csv and report.html of a run again; the search may still be running."""
    from augscale.reporting.search.report import write_report

    run, config, study = read_run(run_dir)
    write_trials_table(run, config, study)
    return write_report(run.path)


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


def _result(run: RunFolder, answer: AnswerRecord) -> SearchResult:
    scales = load_scales(str(run.best_card))
    return SearchResult(run_dir=run.path, scales=scales, headline=answer.headline, answer=answer.to_dict())


def _storage_address(run: RunFolder, storage: str | None) -> Storage | None:
    """The storage given by the call, else the one in the manifest of an existing run; None for a new run."""
    if storage is not None:
        return parse_storage(storage)
    known = ManifestRecord.read_if_there(run.manifest_file)
    return run_storage(run, known.storage) if known and known.study_name else None


def resolved_study(
    study: str | Path | StudyConfig,
    *,
    data: str | Path | list[str | Path] | None = None,
    labels: str | Path | list[str | Path] | None = None,
    trials: int | None = None,
    seed: int | None = None,
    max_memory: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> StudyConfig:
    """The settings of a search; for the arguments see `search`.

    Raises:
        ConfigError: a study or a value is wrong.
    """
    named = {
        "search.trials": trials,
        "search.seed": seed,
        "data.sources": source_list(data),
        "probe.labelled": source_list(labels),
        "probe.score": None if labels is None else (overrides or {}).get("probe.score", CV_AUROC),
        "pretrain.max_memory": max_memory,
    }
    values = (overrides or {}) | {key: value for key, value in named.items() if value is not None}
    if not isinstance(study, StudyConfig):
        return load_study(study, values)
    return parse_settings(StudyConfig, apply_overrides(study.model_dump(), values), "study") if values else study
