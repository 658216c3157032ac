"""What a full run leaves behind while it runs: log, evaluations on the panel, best and last weights.

"Best" is by the score that a search uses: pair distances on the probe panel, photographs that are not trained on, at
views that do not depend on the scales of the run. A collapsed network is never best while another is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from augscale.augmentation.scales import AugmentationScales
from augscale.config import StudyConfig
from augscale.networks.batch_norm import common_statistics
from augscale.networks.weights import save_weights, sidecar_facts
from augscale.pretraining.events import RungEvent, StepLog
from augscale.pretraining.micro_batches import MicroBatches
from augscale.pretraining.schedules import step_values
from augscale.promotion.full_display import FullRunDisplay
from augscale.promotion.full_folder import FullRunFolder, rewrite_evaluations
from augscale.promotion.tensorboard import TensorBoard
from augscale.scoring.panel import ProbePanel
from augscale.scoring.score import PanelScore, score_backbone


class Recorder:
    """Callbacks of the loop for one session of a full run.

    Args:
        folder: of the run.
        config: the study, its number of steps settled.
        scales: what is trained with.
        panel: what evaluations are made on.
        common_views: what batch norm's statistics are gathered on before; None: networks keep their own.
        device: of the evaluations.
        steps_per_epoch: to tell epochs.
        facts: further entries of the sidecars: seed, data fingerprint, ...
        display: told of everything.
        should_stop: asked within evaluations.
    """

    def __init__(
        self,
        folder: FullRunFolder,
        *,
        config: StudyConfig,
        scales: AugmentationScales,
        panel: ProbePanel,
        common_views: Tensor | None,
        device: str,
        steps_per_epoch: int,
        facts: dict[str, Any],
        display: FullRunDisplay,
        should_stop: Callable[[], bool],
    ) -> None:
        self.folder = folder
        self.config = config
        self.scales = scales
        self.panel = panel
        self.common_views = common_views
        self.device = device
        self.steps_per_epoch = steps_per_epoch
        self.facts = facts
        self.display = display
        self.should_stop = should_stop
        self.tensorboard = TensorBoard(folder.tensorboard_dir, display.say)
        self._mark: tuple[int, float] | None = None
        self._fresh = True

    def on_log(self, entry: StepLog) -> None:
        """A logged step."""
        if self._fresh:
            self.folder.forget_log_from(entry.step)
            self._fresh = False
        values = self._values(entry)
        self.folder.log("step", **values)
        self.tensorboard.add(entry.step, {f"train/{name}": value for name, value in values.items() if name != "step"})
        self.display.step(entry.step, entry.loss, values["images_per_second"])

    def on_micro_batches(self, chosen: MicroBatches) -> None:
        """How batches are worked on: said and logged, the reason too where memory decided it."""
        self.facts |= {"accumulate": chosen.number, "micro_batches": chosen.to_dict()}
        why = vars(chosen.changes[-1]) if chosen.changes else {}
        self.folder.log("micro-batches", number=chosen.number, size=chosen.size, **why)
        if why:
            self.display.say(f"{chosen} from step {why['step']} on: {why['cause']} ({why['message']})")
        if chosen.note:
            self.display.say(chosen.note)

    def on_rung(self, event: RungEvent) -> None:
        """Scores the teacher, and keeps its weights as the last and, where they are, the best."""
        last = event.step >= self.config.pretrain.steps
        self.display.evaluating(event.step)
        with common_statistics(event.backbone, self.common_views, device=self.device, should_stop=self.should_stop):
            score = score_backbone(
                event.backbone,
                self.panel,
                self.config.probe,
                device=self.device,
                bootstrap=self.config.probe.bootstrap if last else 0,
                information=event.information,
                loss=event.loss,
                out_dim=self.config.pretrain.out_dim,
                final=last,
                should_stop=self.should_stop,
            )
        record = self._record(event, score)
        evaluations = rewrite_evaluations(
            self.folder, lambda old: [entry for entry in old if entry["step"] < event.step] + [record]
        )
        sidecar = self._sidecar(event, record)
        if best_of(evaluations) is evaluations[-1]:
            save_weights(self.folder.best_weights, event.backbone, sidecar)
        save_weights(self.folder.last_weights, event.backbone, sidecar)
        self.folder.log("evaluation", **{key: value for key, value in record.items() if key != "evidence"})
        scalars = {"score": record["score"], "effective_rank": record["effective_rank"]}
        self.tensorboard.add(event.step, {f"panel/{name}": value for name, value in scalars.items()})
        self.display.evaluated(record, best_of(evaluations))
        self._mark = (event.step, time.monotonic())

    def close(self) -> None:
        self.tensorboard.close()

    def epoch(self, step: int) -> float:
        return round(step / self.steps_per_epoch, 4)

    def _values(self, entry: StepLog) -> dict[str, Any]:
        now, rate = time.monotonic(), None
        if self._mark is not None and entry.step > self._mark[0]:
            seconds = max(now - self._mark[1], 1e-9)
            rate = round((entry.step - self._mark[0]) * self.config.pretrain.batch_size / seconds, 2)
        self._mark = (entry.step, now)
        schedules = step_values(self.config.pretrain, entry.step - 1)
        return {
            "step": entry.step,
            "epoch": self.epoch(entry.step),
            "loss": entry.loss,
            "lr": entry.lr,
            "weight_decay": schedules.weight_decay,
            "teacher_momentum": schedules.teacher_momentum,
            "teacher_temp": entry.teacher_temp,
            "student_temp": self.config.pretrain.student_temp,
            "information": entry.information,
            "images_per_second": rate,
        }

    def _record(self, event: RungEvent, score: PanelScore) -> dict[str, Any]:
        values = score.to_dict()
        return {
            "step": event.step,
            "epoch": self.epoch(event.step),
            "score": score.score,
            "score_name": score.score_name,
            "common_statistics": self.common_views is not None,
            "interval": values["interval"],
            "levels": {name: level[self.config.probe.separation] for name, level in values["levels"].items()},
            "effective_rank": score.effective_rank,
            "feature_sd": score.feature_sd,
            "information": event.information,
            "loss": event.loss,
            "verdict": score.health.verdict,
            "evidence": list(score.health.evidence),
        }

    def _sidecar(self, event: RungEvent, record: dict[str, Any]) -> dict[str, Any]:
        metrics = ("score", "score_name", "interval", "effective_rank", "information", "loss", "verdict")
        return sidecar_facts(self.config, self.scales, loss=record["loss"], information=record["information"]) | {
            "name": self.facts["scales_name"],
            "step": event.step,
            "epoch": record["epoch"],
            "metrics": {key: record[key] for key in metrics},
            "panel_fingerprint": self.panel.fingerprint,
            **self.facts,
        }


def best_of(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation with the highest score, the earliest of equal ones; a collapsed one only where all are.

    Of those that were scored with the same kind of batch norm statistics as the newest: a run that an earlier version
    began has some that cannot be compared.
    """
    newest = evaluations[-1].get("common_statistics", False)
    comparable = [record for record in evaluations if record.get("common_statistics", False) == newest]
    return max(comparable, key=lambda record: (record["verdict"] != "collapsed", record["score"]))
