"""`augscale.promote(...)`: the best scales and the controls, confirmed, pre-trained in full, and evaluated.

Every contender gets the same budget, seed, data order and initial weights, so that differences are due to scales. The
weights after the last step are what is evaluated: choosing the best of several checkpoints by any score would favor
the scales that this score favors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig, apply_overrides
from augscale.errors import ConfigError, StudyError
from augscale.evaluation.evaluate import DEFAULT_PROTOCOLS, Evaluation, check_evaluation, evaluate
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.which_checkpoints import PROMOTION_FILE
from augscale.promotion.full_run import FullRun, pretrain_full
from augscale.records.answer import AnswerRecord
from augscale.runs.files import write_json
from augscale.runs.folders import RunFolder, now, versions
from augscale.searching.answer_words import unfinished_sentence
from augscale.searching.read_run import read_run
from augscale.searching.search import rewrite_report, search
from augscale.seeding import derive_seed
from augscale.settings import parse_settings
from augscale.system.progress_bar import line_printer

CONTROLS = ("strong", "weak")
MIN_CONFIRM_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One set of scales, pre-trained in full."""

    name: str
    result: FullRun

    @property
    def scales(self) -> AugmentationScales:
        return self.result.scales

    @property
    def weights(self) -> Path:
        """Weights after the last step: safetensors with a sidecar."""
        return self.result.last_weights

    @property
    def summary(self) -> dict[str, Any]:
        """Plain values for JSON; the score is the last one."""
        values = self.result.model_dump(include={"steps", "epochs", "loss", "information", "seconds"})
        return values | self.result.last.model_dump(include={"score", "score_name"})


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A finished promotion."""

    run_dir: Path
    contenders: tuple[Contender, ...]
    """The best candidates first, then the controls."""
    confirmation: str
    """Result of the confirmation on fresh seeds, in one sentence."""
    evaluation: Evaluation | None

    @property
    def report(self) -> Path:
        return self.run_dir / "report.html"

    def _repr_html_(self) -> str:
        from augscale.reporting.shared.notebook import notebook_html

        rows = [(contender.name, str(contender.weights)) for contender in self.contenders]
        return notebook_html(self.confirmation, ("scales", "weights"), rows, page=self.report)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.run_dir),
            "confirmation": self.confirmation,
            "contenders": [
                {"name": c.name, "weights": str(c.weights), "scales": c.scales.model_dump(mode="json")} | c.summary
                for c in self.contenders
            ],
            "evaluation": self.evaluation.to_dict() if self.evaluation else None,
        }


def promote(
    run_dir: str | Path,
    *,
    top: int = 1,
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    init: str | None = None,
    max_memory: str | None = None,
    controls: Sequence[str] = CONTROLS,
    confirm_seeds: int = MIN_CONFIRM_SEEDS,
    datasets: str | Sequence[str] | None = "all",
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
    external: bool = False,
    config: ProtocolConfig | None = None,
    patient_pattern: str | None = None,
    data_root: Path | None = None,
    unlabelled: Collection[str] = (),
    evaluations: int = 5,
    overrides: dict[str, Any] | None = None,
    device: str = "auto",
    workers: int | None = None,
    console: Console | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Promotion:
    """Confirms, pre-trains in full and evaluates. The same call continues an interrupted promotion.

    Args:
        run_dir: folder of a finished search.
        top: number of best candidates to promote.
        epochs, steps: length of each full pre-training, see `pretrain_full`; the same for all.
        batch_size, init: None takes the study's.
        max_memory: see `pretrain_full`; holds for the confirmation runs, too.
        controls: presets that are pre-trained too.
        confirm_seeds: fresh seeds on which contenders are first compared at trial length; missing runs are made.
        datasets, protocols, external, config, patient_pattern, data_root, unlabelled: see `evaluate`; datasets None
            skips it. `patient_pattern` is for the datasets; the full runs have the study's.
        evaluations: number of times that each full run is scored on the panel.
        overrides: settings of the study for the full runs by dotted key, e.g. {"crops.global_size": 224}.
        device, workers: see `search`; workers are the processes of the confirmation.
        console: where the stages print; None is standard error.
    Raises:
        ConfigError: not a finished search, or settings that differ from those of an earlier promotion.
        StudyError: no candidate can be promoted.
        InterruptedRun: a signal came; everything finished is kept.
    """
    console = console or Console(stderr=True)
    run, study, answer = _finished_search(run_dir)
    if datasets in ("none", ["none"], ("none",)):
        datasets = None
    evaluation_options: dict[str, Any] = {"patient_pattern": patient_pattern, "data_root": data_root}
    evaluation_options |= {"unlabelled": unlabelled, "on_progress": on_progress, "say": line_printer(console)}
    if datasets is not None:
        _check_evaluation(study, overrides, datasets, protocols, config, **evaluation_options)
    if answer.outcome in ("training taught nothing", "not finished", "no searched scales"):
        left = f" {unfinished_sentence(answer.unfinished)}" if answer.unfinished else ""
        console.print(f"note: {answer.headline}{left} The scales are promoted all the same.")
    wanted = {"confirm.top_k": max(top, study.confirm.top_k), "confirm.seeds": max(confirm_seeds, study.confirm.seeds)}
    if (study.confirm.top_k, study.confirm.seeds) != tuple(wanted.values()):
        study, answer = _confirm(run, wanted, device=device, workers=workers, max_memory=max_memory, console=console)
    folder = run.path / "promote"
    options: dict[str, Any] = {"epochs": epochs, "steps": steps, "batch_size": batch_size, "init": init}
    options |= {"max_memory": max_memory, "evaluations": evaluations, "overrides": overrides or {}, "device": device}
    # Full runs by another method than the search's lie beside those by its own.
    method = (overrides or {}).get("pretrain.method", study.pretrain.method)
    suffix = "" if method == study.pretrain.method else f"-{method}"
    contenders = tuple(
        _pretrain(name, scales, study, out=folder / f"{_slug(name)}{suffix}", console=console, **options)
        for name, scales in _choose(answer, top, controls, run).items()
    )
    _write_promotion(folder, answer.headline, contenders)
    evaluation = None
    if datasets is not None:
        evaluation = evaluate(
            [contender.weights for contender in contenders],
            names=[contender.name for contender in contenders],
            datasets=datasets,
            protocols=protocols,
            external=external,
            config=config,
            device=device,
            out=run.path / "evaluation",
            **evaluation_options,
        )
    rewrite_report(run.path)
    return Promotion(run_dir=run.path, contenders=contenders, confirmation=answer.headline, evaluation=evaluation)


def _finished_search(run_dir: str | Path) -> tuple[RunFolder, StudyConfig, AnswerRecord]:
    run, study, _ = read_run(run_dir)
    answer = AnswerRecord.read_if_there(run.answer_file)
    if answer is None or answer.best is None:
        raise ConfigError(f"{run.path}: the search has no answer yet; finish it with the same augscale search command")
    return run, study, answer


def _check_evaluation(
    study: StudyConfig,
    overrides: dict[str, Any] | None,
    datasets: str | Sequence[str],
    protocols: Sequence[str],
    config: ProtocolConfig | None,
    **options: Any,
) -> None:
    """Refuses an evaluation that cannot be made, before days of training."""
    if overrides:
        study = parse_settings(StudyConfig, apply_overrides(study.model_dump(), overrides), "promote")
    chosen_size = config.view_size if config and "view_size" in config.model_fields_set else None
    check_evaluation(
        datasets,
        protocols,
        view_size=chosen_size or study.crops.global_size,
        crop_to_field=study.data.crop_to_field,
        grey_range=study.data.range,
        **options,
    )


def _confirm(run: RunFolder, wanted: dict[str, Any], **options: Any) -> tuple[StudyConfig, AnswerRecord]:
    """Makes the missing confirmation runs; returns the study and the new answer."""
    # The search resumes and runs no trial again. It began with these images: their fingerprint is compared.
    search(run.study_file, out=run.path, overrides=wanted, allow_bad=True, **options)
    _, study, answer = _finished_search(run.path)
    return study, answer


def _choose(answer: AnswerRecord, top: int, controls: Sequence[str], run: RunFolder) -> dict[str, AugmentationScales]:
    """The best candidates by their mean on fresh seeds, then the controls."""
    candidates = [c for c in answer.contenders if c.kind != "control" and c.usable]
    confirmed = [(c.confirm_mean, c) for c in candidates if c.confirm_mean is not None and not c.confirm_missing]
    if not confirmed:
        raise StudyError(f"{run.path}: no candidate was confirmed on fresh seeds, so none can be promoted")
    order = [contender for _, contender in sorted(confirmed, key=lambda pair: -pair[0])[:top]]
    known = {contender.name: contender for contender in answer.contenders}
    for name in controls:
        if name not in known:
            raise ConfigError(f"--controls {name}: not among the search's {', '.join(known)}")
    chosen = [*order, *(known[name] for name in controls)]
    return {contender.name: AugmentationScales.model_validate(contender.scales) for contender in chosen}


def _pretrain(name: str, scales: AugmentationScales, study: StudyConfig, **settings: Any) -> Contender:
    # All contenders start from the same weights and see the same images in the same order; the search has accepted
    # these images.
    seed = derive_seed(study.search.seed, "promote")
    result = pretrain_full(scales, study=study, scales_name=name, seed=seed, allow_bad=True, **settings)
    return Contender(name=name, result=result)


def _write_promotion(folder: Path, confirmation: str, contenders: Sequence[Contender]) -> None:
    entries = [{"name": c.name, "weights": str(c.weights.relative_to(folder))} | c.summary for c in contenders]
    values = {"finished": now(), "versions": versions(), "confirmation": confirmation, "contenders": entries}
    write_json(folder / PROMOTION_FILE, values)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", name)
