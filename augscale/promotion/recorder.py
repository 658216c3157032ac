"""Callbacks of a full run: its log, evaluations on the panel, and the best and last weights.

The best weights have the highest score, which is computed as in a search: from pair distances on the probe panel, whose
photographs are not trained on, in views that do not depend on the scales of the run. Collapsed weights are best only if
all are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.networks.batch_norm import common_statistics
from augscale.networks.weights import save_weights, sidecar_facts
from augscale.pretraining.events import RungEvent, StepLog
from augscale.pretraining.methods import chance_loss
from augscale.pretraining.micro_batches import MicroBatches
from augscale.promotion.full_display import FullRunDisplay
from augscale.promotion.full_folder import FullRunFolder
from augscale.promotion.tensorboard import TensorBoard
from augscale.records.full_run import FullRunFacts, PanelEvaluation
from augscale.scoring.panel import ProbePanel
from augscale.scoring.score import PanelScore, score_backbone

_SIDECAR_METRICS = {"score", "score_name", "interval", "effective_rank", "information", "loss", "verdict"}


@dataclass(kw_only=True, eq=False)
class Recorder:
    """Callbacks of the training loop for one session."""

    folder: FullRunFolder
    config: StudyConfig
    """The study, in which `pretrain.steps` is the length of the run."""
    scales: AugmentationScales
    """Scales of the run."""
    seed: int
    facts: FullRunFacts
    panel: ProbePanel
    """Panel that evaluations score."""
    common_views: Tensor | None
    """Views on which batch norm's statistics are gathered before an evaluation; None if networks keep their own."""
    display: FullRunDisplay
    should_stop: Callable[[], bool]
    """Called during evaluations."""
    tensorboard: TensorBoard = field(init=False)
    _micro_batches: MicroBatches | None = field(init=False, default=None)
    _mark: tuple[int, float] | None = field(init=False, default=None)
    _nothing_logged: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        self.tensorboard = TensorBoard(self.folder.tensorboard_dir, self.display.say)

    def on_log(self, entry: StepLog) -> None:
        """Writes one line of the log; the first of a session removes the lines of steps that are made again."""
        if self._nothing_logged:
            self.folder.forget_log_from(entry.step)
            self._nothing_logged = False
        values = {
            "epoch": self._epoch(entry.step),
            "loss": entry.loss,
            **entry.schedules,
            "information": entry.information,
            "images_per_second": self._images_per_second(entry.step),
        }
        self.folder.log("step", step=entry.step, **values)
        self.tensorboard.add(entry.step, {f"train/{name}": value for name, value in values.items()})
        self.display.step(entry.step, entry.loss, values["images_per_second"])

    def on_micro_batches(self, chosen: MicroBatches) -> None:
        """Logs how batches are divided, and why if memory decided it."""
        self._micro_batches = chosen
        why = vars(chosen.changes[-1]) if chosen.changes else {}
        self.folder.log("micro-batches", number=chosen.number, size=chosen.size, **why)
        if why:
            self.display.say(f"{chosen} from step {why['step']} on: {why['cause']} ({why['message']})")
        if chosen.note:
            self.display.say(chosen.note)

    def on_rung(self, event: RungEvent) -> None:
        """Scores the teacher and saves its weights as the last ones, and as the best ones if they are."""
        self.display.evaluating(event.step)
        evaluation = self._evaluation(event, self._score(event))
        evaluations = self.folder.add_evaluation(evaluation)
        best = best_of(evaluations)
        sidecar = self._sidecar(evaluation)
        if best is evaluation:
            save_weights(self.folder.best_weights, event.backbone, sidecar)
        save_weights(self.folder.last_weights, event.backbone, sidecar)
        values = evaluation.to_dict()
        self.folder.log("evaluation", **{key: value for key, value in values.items() if key != "evidence"})
        scalars = {"panel/score": evaluation.score, "panel/effective_rank": evaluation.effective_rank}
        self.tensorboard.add(event.step, scalars)
        self.display.evaluated(evaluation, best)
        self._mark = (event.step, time.monotonic())

    def close(self) -> None:
        self.tensorboard.close()

    def _score(self, event: RungEvent) -> PanelScore:
        probe, device = self.config.probe, self.facts.device
        last = event.step >= self.config.pretrain.steps
        with common_statistics(event.backbone, self.common_views, device=device, should_stop=self.should_stop):
            return score_backbone(
                event.backbone,
                self.panel,
                probe,
                device=device,
                bootstrap=probe.bootstrap if last else 0,
                information=event.information,
                loss=event.loss,
                chance_loss=event.chance_loss,
                final=last,
                should_stop=self.should_stop,
            )

    def _evaluation(self, event: RungEvent, score: PanelScore) -> PanelEvaluation:
        values = score.to_dict()
        return PanelEvaluation(
            step=event.step,
            epoch=self._epoch(event.step),
            score=score.score,
            score_name=score.score_name,
            common_statistics=self.common_views is not None,
            interval=values["interval"],
            levels={name: level[self.config.probe.separation] for name, level in values["levels"].items()},
            effective_rank=score.effective_rank,
            feature_sd=score.feature_sd,
            information=event.information,
            loss=event.loss,
            verdict=score.health.verdict,
            evidence=score.health.evidence,
        )

    def _sidecar(self, evaluation: PanelEvaluation) -> dict[str, Any]:
        assert self._micro_batches is not None, "the loop reports them before its first step"
        shared = sidecar_facts(
            self.config,
            self.scales,
            loss=evaluation.loss,
            information=evaluation.information,
            chance_loss=chance_loss(self.config),
        )
        return shared | {
            "name": self.facts.scales_name,
            "step": evaluation.step,
            "epoch": evaluation.epoch,
            "metrics": evaluation.model_dump(mode="json", include=_SIDECAR_METRICS),
            "panel_fingerprint": self.panel.fingerprint,
            "scales_name": self.facts.scales_name,
            "seed": self.seed,
            "data_fingerprint": self.facts.data["fingerprint"],
            "num_images": self.facts.data["num_train"],
            "batch_size": self.config.pretrain.batch_size,
            "accumulate": self._micro_batches.number,
            "processes": self.facts.processes,
            "micro_batches": self._micro_batches.to_dict(),
        }

    def _epoch(self, step: int) -> float:
        return round(step / self.facts.steps_per_epoch, 4)

    def _images_per_second(self, step: int) -> float | None:
        """Images per second since the last logged step or evaluation."""
        now, rate = time.monotonic(), None
        if self._mark is not None and step > self._mark[0]:
            seconds = max(now - self._mark[1], 1e-9)
            rate = round((step - self._mark[0]) * self.config.pretrain.batch_size / seconds, 2)
        self._mark = (step, now)
        return rate


def best_of(evaluations: Sequence[PanelEvaluation]) -> PanelEvaluation:
    """The evaluation with the highest score, the earliest of equal ones; a collapsed one only if all are.

    Only evaluations with the same kind of batch norm statistics as the newest are compared: a run that an earlier
    version began has some of another kind.
    """
    comparable = [entry for entry in evaluations if entry.common_statistics == evaluations[-1].common_statistics]
    return max(comparable, key=lambda entry: (entry.verdict != "collapsed", entry.score))
