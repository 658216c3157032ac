"""Predictions and label-free metrics of one network, computed or read from an earlier call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from augscale.config import StudyConfig
from augscale.errors import DataError, Paused
from augscale.evaluation.datasets import LabelledImages
from augscale.evaluation.interface import Encoder, Progress, Protocol
from augscale.evaluation.jobs import plan_jobs, run_jobs
from augscale.evaluation.predictions import prediction_name
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.networks.batch_norm import common_statistics
from augscale.pretraining.student_teacher import build_networks
from augscale.records.evaluation import Interval
from augscale.records.trial import RungRecord
from augscale.records.validation import KeptMetrics
from augscale.searching.trial import TrialContext, score_trial
from augscale.seeding import derive_seed
from augscale.validation.baselines import baseline_encoders
from augscale.validation.finished_trials import FinishedTrial, load_encoder
from augscale.validation.outcomes import MEAN, Outcome, OutcomeName, network_outcomes
from augscale.validation.remake import remake_rung
from augscale.validation.score_metrics import measure_network

FORMAT = 2
"""Version of the stored metrics; increase it when the meaning of a metric changes, so that they are computed again."""

UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkResults:
    """The results of one network."""

    scores: dict[str, float | None]
    score_interval: Interval | None
    outcomes: dict[OutcomeName, Outcome]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyResults:
    """The trials of a study at one rung, and the references, measured on labelled data."""

    run: Path
    config: StudyConfig
    step: int
    trials: Sequence[FinishedTrial]
    trial_results: dict[int, NetworkResults]
    """Results by trial number."""
    missing: Sequence[FinishedTrial]
    """Trials that reached the rung and have no weights."""
    references: dict[str, NetworkResults]
    datasets: Sequence[LabelledImages]
    protocols: Sequence[Protocol]
    """The first one is the protocol of the headline."""

    @property
    def adaptive(self) -> bool:
        """True if trials were chosen by the scores of earlier ones."""
        return self.config.search.sampler == "tpe"

    @property
    def primary(self) -> OutcomeName:
        """The outcome of the headline."""
        dataset = MEAN if len(self.datasets) > 1 else self.datasets[0].name
        return OutcomeName(dataset=dataset, protocol=self.protocols[0].name, metric="auroc")


class NetworkMeasurer:
    """Measures the networks of one validation.

    Args:
        context: the study's panel and device.
        datasets: labelled images on which every network is evaluated.
        protocols: evaluation protocols.
        settings: settings of the protocols.
        folder: stores predictions and metrics, each with a hash of the network's weights.
        resamples, seed: number of bootstrap resamples of the test images, and their seed.
        on_progress, should_stop: see `evaluate`.
    """

    def __init__(
        self,
        context: TrialContext,
        datasets: Sequence[LabelledImages],
        protocols: Sequence[Protocol],
        settings: ProtocolConfig,
        folder: Path,
        *,
        resamples: int,
        seed: int,
        on_progress: Progress | None,
        should_stop: Callable[[], bool],
    ) -> None:
        self.context, self.datasets, self.protocols, self.settings = context, datasets, protocols, settings
        self.folder, self.resamples, self.seed = folder, resamples, seed
        self.on_progress, self.should_stop = on_progress, should_stop

    def study(self, run: Path, trials: Sequence[FinishedTrial], step: int, *, remake: bool) -> StudyResults:
        """Measures the references, and the trials that reached a rung, one network in memory at a time.

        Args:
            run: folder of the study.
            trials: finished trials.
            step: step of the rung.
            remake: trials whose weights were not kept are trained again, up to the rung.
        Raises:
            As `measure`; StudyError: a trial that was trained again differs from the recorded one.
        """
        references = self._references()
        measured: dict[int, NetworkResults] = {}
        missing = []
        at_rung = [trial for trial in trials if trial.record.rung(step) is not None]
        for done, trial in enumerate(at_rung):
            if self.on_progress is not None:
                self.on_progress(f"{trial.record.name} at step {step}", done, len(at_rung))
            path = trial.weights(step, self.context.config.pretrain.steps)
            if path is None and remake:
                path = self._remake(trial, step)
            if path is None:
                missing.append(trial)
                continue
            encoder = load_encoder(path, trial.record.name, common_statistics=self.context.common_views is not None)
            measured[trial.record.number] = self.measure(encoder, f"step-{step:06d}", trial.record.rung(step))
        return StudyResults(
            run=run,
            config=self.context.config,
            step=step,
            trials=trials,
            trial_results=measured,
            missing=missing,
            references=references,
            datasets=self.datasets,
            protocols=self.protocols,
        )

    def _references(self) -> dict[str, NetworkResults]:
        """Results of the untrained network that every trial starts from, and of features without a network."""
        config = self.context.config
        seed = derive_seed(config.search.seed, "trials")
        device = torch.device(self.context.device)
        untrained = Encoder(
            name=UNTRAINED,
            backbone=build_networks(config, seed, device)[1].backbone.eval(),
            arch=config.backbone.name,
            overrides=dict(config.backbone.overrides),
            image_size=config.crops.global_size,
            common_statistics=self.context.common_views is not None,
        )
        encoders = [untrained, *baseline_encoders(config.crops.global_size)]
        return {encoder.name: self.measure(encoder, "references", None) for encoder in encoders}

    def _remake(self, trial: FinishedTrial, step: int) -> Path:
        def on_step(done: int) -> None:
            if self.on_progress is not None:
                self.on_progress(f"training {trial.record.name} again", done, step)

        return remake_rung(
            self.context,
            trial,
            step,
            state_path=self.folder / "remake" / f"{trial.record.number:04d}.pt",
            on_step=on_step,
            should_stop=self.should_stop,
        )

    def measure(self, encoder: Encoder, place: str, rung: RungRecord | None) -> NetworkResults:
        """Measures one network.

        Args:
            place: subfolder of the validation for the kept results, e.g. "step-000180".
            rung: the trial's record at the rung; None for references, whose score is computed.
        Raises:
            DataError: a protocol cannot be run on a dataset.
            Paused: a signal came; finished predictions and metrics are kept.
        """
        if self.should_stop():
            raise Paused
        scores, interval = self._scores(encoder, place, rung)
        jobs, _ = plan_jobs([encoder], [], self.protocols, self.datasets, self.settings.seeds, external=False)
        predictions, lost = run_jobs(
            jobs, self.folder / place / "predictions", self.settings, self.should_stop, self.on_progress
        )
        if len(predictions) < len(jobs):
            raise DataError(lost[-1])
        outcomes = network_outcomes(predictions, resamples=self.resamples, seed=self.seed)
        return NetworkResults(scores=scores, score_interval=interval, outcomes=outcomes, notes=tuple(lost))

    def _scores(
        self, encoder: Encoder, place: str, rung: RungRecord | None
    ) -> tuple[dict[str, float | None], Interval | None]:
        path = self.folder / place / "scores" / f"{prediction_name('', encoder.name, '', '', 0)}.json"
        probe = self.context.config.probe
        basis = {
            "format": FORMAT,
            "weights": encoder.fingerprint,
            "panel": self.context.panel.fingerprint,
            "labelled": [dataset.fingerprint for dataset in self.context.labelled],
            "score": probe.score,
            "bootstrap": [probe.bootstrap, probe.seed],
            "rung": {name: getattr(rung, name, None) for name in ("score", "information", "loss")},
        }
        with suppress(DataError):
            known = KeptMetrics.read(path)
            if known.basis == basis:
                return dict(known.values), known.interval
        if self.on_progress is not None:
            self.on_progress(f"metrics of {encoder.name}", 0, 1)
        score = score_trial(self.context, encoder.backbone, bootstrap=probe.bootstrap, should_stop=self.should_stop)
        views, device = self.context.common_views, self.context.device
        with common_statistics(encoder.backbone, views, device=device, should_stop=self.should_stop):
            values = measure_network(
                encoder.backbone,
                self.context.panel,
                device=device,
                score=rung.score if rung else score.score,
                information=rung.information if rung else None,
                loss=rung.loss if rung else None,
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        KeptMetrics(basis=basis, values=values, interval=score.interval).write(path)
        return values, score.interval
