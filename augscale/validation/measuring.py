"""One network at a time: its predictions on labelled data and its label-free metrics, computed or found computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from augscale.errors import DataError, Paused
from augscale.evaluation.datasets import LabelledImages
from augscale.evaluation.interface import Encoder, Progress, Protocol
from augscale.evaluation.jobs import plan_jobs, run_jobs
from augscale.evaluation.predictions import prediction_name
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.networks.batch_norm import common_statistics
from augscale.records.trial import RungRecord
from augscale.runs.files import read_json, write_json
from augscale.searching.trial import TrialContext, score_trial
from augscale.validation.outcomes import Outcome, OutcomeName, network_outcomes
from augscale.validation.score_metrics import from_record, measure_network

FORMAT = 2
"""Raise when a metric changes its meaning; kept values are then computed again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One network."""

    scores: dict[str, float | None]
    score_interval: tuple[float, float] | None
    outcomes: dict[OutcomeName, Outcome]
    notes: tuple[str, ...]


class Measuring:
    """What all networks of a validation share.

    Args:
        context: the study's panel and device.
        datasets, protocols, settings: of the evaluation.
        folder: kept results; predictions and metrics of a network are found by its weights.
        resamples, seed: of the test images.
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

    def measure(self, encoder: Encoder, place: str, rung: RungRecord | None) -> Measured:
        """Measures one network.

        Args:
            place: folder below the validation's for what is kept, e.g. "step-000180".
            rung: the trial's record at the rung; None for references, whose score is computed.
        Raises:
            DataError: a protocol cannot be run on a dataset.
            Paused: a signal came; what is finished is kept.
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
        return Measured(scores=scores, score_interval=interval, outcomes=outcomes, notes=tuple(lost))

    def _scores(
        self, encoder: Encoder, place: str, rung: RungRecord | None
    ) -> tuple[dict[str, float | None], tuple[float, float] | None]:
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
        known = read_json(path)
        if isinstance(known, dict) and known.get("basis") == basis:
            interval = known["interval"]
            return from_record(known["values"]), (interval[0], interval[1]) if interval else None
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
        write_json(path, {"basis": basis, "values": values, "interval": score.interval})
        return values, score.interval
