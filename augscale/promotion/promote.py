"""`augscale.promote(...)`: the best scales and the controls, confirmed, pre-trained in full, and evaluated.

Every contender gets the same budget, seed, data order and initial weights, so that differences are due to scales. The
weights after the last step are what is evaluated: choosing the best of several checkpoints by any score would favour
the scales that this score favours.
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
from augscale.promotion.full_run import pretrain_full
from augscale.runs.files import read_json, write_json
from augscale.runs.folders import RunFolder, now, versions
from augscale.searching.search import read_run, rewrite_report, search
from augscale.seeding import derive_seed
from augscale.settings import parse_settings
from augscale.system.progress_bar import line_printer

CONTROLS = ("strong", "weak")
MIN_CONFIRM_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One set of scales, pre-trained in full."""

    name: str
    scales: AugmentationScales
    weights: Path
    """safetensors with a sidecar."""
    summary: dict[str, Any]
    """Steps, loss, score on the panel at the end, seconds."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What a promotion made."""

    run_dir: Path
    contenders: tuple[Contender, ...]
    """The best candidates first, then the controls."""
    confirmation: str
    """What the confirmation on fresh seeds says, in one sentence."""
    evaluation: Evaluation | None

    @property
    def report(self) -> Path:
        return self.run_dir / "report.html"

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
    data_root: Path | None = None,
    unlabelled: Collection[str] = (),
    evaluations: int = 5,
    overrides: dict[str, Any] | None = None,
    device: str = "auto",
    workers: int | None = None,
    console: Console | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Promotion:
    """Confirms, pre-trains in full and evaluates. The same call goes on where it was interrupted.

    Args:
        run_dir: folder of a finished search.
        top: how many of the best candidates.
        epochs, steps: length of each full pre-training, see `pretrain_full`; the same for all.
        batch_size, init: None takes the study's.
        max_memory: see `pretrain_full`; of the confirmation runs, too.
        controls: presets that are pre-trained beside them.
        confirm_seeds: fresh seeds on which contenders are compared at trial length first; runs that are missing are
            made.
        datasets: see `evaluate`; None leaves the evaluation out.
        protocols, external, config, data_root, unlabelled: see `evaluate`.
        evaluations: how often each full run is scored on the panel.
        overrides: settings of the study for the full runs by dotted key, e.g. {"crops.global_size": 224}.
        device: for pre-training and evaluation.
        workers: processes of the confirmation; None as in a search.
        console: where the stages print; None is standard error.
    Raises:
        ConfigError: not a finished search, or settings that differ from those of an earlier promotion.
        StudyError: no candidate can be promoted.
        InterruptedRun: a signal came; everything finished is kept.
    """
    say = line_printer(console or Console(stderr=True))
    run, study, _ = read_run(run_dir)
    answer = read_json(run.answer_file)
    if answer is None or answer.get("best") is None:
        raise ConfigError(f"{run.path}: the search has no answer yet; finish it with the same augscale search command")
    if datasets in ("none", ["none"], ("none",)):
        datasets = None
    if datasets is not None:
        settings = (
            study
            if not overrides
            else parse_settings(StudyConfig, apply_overrides(study.model_dump(), overrides), "promote")
        )
        chosen_size = config.view_size if config and "view_size" in config.model_fields_set else None
        check_evaluation(
            datasets,
            protocols,
            view_size=chosen_size or settings.crops.global_size,
            crop_to_field=settings.data.crop_to_field,
            grey_range=settings.data.range,
            data_root=data_root,
            unlabelled=unlabelled,
            on_progress=on_progress,
            say=say,
        )
    if answer["headline"].startswith("No answer"):
        (console or Console(stderr=True)).print(f"note: {answer['headline']} They are promoted all the same.")
    wanted = {"confirm.top_k": max(top, study.confirm.top_k), "confirm.seeds": max(confirm_seeds, study.confirm.seeds)}
    if (study.confirm.top_k, study.confirm.seeds) != tuple(wanted.values()):
        # The search resumes: no trial is run again, only the confirmation runs that are missing.
        search(
            run.study_file,
            out=run.path,
            overrides=wanted,
            device=device,
            workers=workers,
            max_memory=max_memory,
            console=console,
            allow_bad=True,  # the run began with these images: its fingerprint is compared
        )
        run, study, _ = read_run(run_dir)
        answer = read_json(run.answer_file)
    chosen = _choose(answer, top, controls, run)
    folder = run.path / "promote"
    contenders = tuple(
        _pretrain(
            name,
            scales,
            folder / _slug(name),
            study,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            init=init,
            max_memory=max_memory,
            evaluations=evaluations,
            overrides=overrides or {},
            device=device,
            console=console,
        )
        for name, scales in chosen.items()
    )
    promotion = {
        "finished": now(),
        "versions": versions(),
        "confirmation": answer["headline"],
        "contenders": [{"name": c.name, "weights": str(c.weights.relative_to(folder))} | c.summary for c in contenders],
    }
    write_json(folder / PROMOTION_FILE, promotion)
    evaluation = None
    if datasets is not None:
        evaluation = evaluate(
            [c.weights for c in contenders],
            names=[c.name for c in contenders],
            datasets=datasets,
            protocols=protocols,
            external=external,
            config=config,
            data_root=data_root,
            unlabelled=unlabelled,
            device=device,
            out=run.path / "evaluation",
            on_progress=on_progress,
            say=say,
        )
    rewrite_report(run.path)
    return Promotion(run_dir=run.path, contenders=contenders, confirmation=answer["headline"], evaluation=evaluation)


def _choose(answer: dict[str, Any], top: int, controls: Sequence[str], run: RunFolder) -> dict[str, AugmentationScales]:
    """The best candidates by their mean on fresh seeds, then the controls."""
    candidates = [c for c in answer["contenders"] if c["kind"] != "control" and c["usable"]]
    confirmed = [c for c in candidates if c["confirm_mean"] is not None and not c["confirm_missing"]]
    if not confirmed:
        raise StudyError(f"{run.path}: no candidate was confirmed on fresh seeds, so none can be promoted")
    order = sorted(confirmed, key=lambda c: -c["confirm_mean"])[:top]
    known = {c["name"]: c for c in answer["contenders"]}
    for name in controls:
        if name not in known:
            raise ConfigError(f"--controls {name}: not among the search's {', '.join(known)}")
    chosen = [*order, *(known[name] for name in controls)]
    return {c["name"]: AugmentationScales.model_validate(c["scales"]) for c in chosen}


def _pretrain(
    name: str, scales: AugmentationScales, out: Path, study: StudyConfig, *, console: Console | None, **settings: Any
) -> Contender:
    result = pretrain_full(
        scales,
        study=study,
        scales_name=name,
        # All contenders start from the same weights and see the same images in the same order.
        seed=derive_seed(study.search.seed, "promote"),
        out=out,
        console=console,
        allow_bad=True,  # what the search has accepted
        **settings,
    )
    facts = {"steps": result.steps, "epochs": result.epochs, "loss": result.loss, "information": result.information}
    return Contender(
        name=name,
        scales=scales,
        weights=result.last_weights,
        summary=facts | {name: result.last[name] for name in ("score", "score_name")} | {"seconds": result.seconds},
    )


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", name)
