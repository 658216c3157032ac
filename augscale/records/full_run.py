"""Files of a full pre-training: manifest.json, evaluations.json and result.json."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from augscale.records.base import FileRecord, Record


class FullRunFacts(Record):
    """Facts about the data, length and processes of a run; they may differ between its sessions."""

    scales_name: str
    parameters: int
    """Of the backbone."""
    steps_per_epoch: int
    epochs: float
    accumulate: int
    """Micro-batches per process and step that were asked for."""
    evaluations: int
    """Number of evaluations that were asked for."""
    data: dict[str, Any]
    """See `full_settings.data_facts`."""
    device: str = ""
    processes: int = 1


class FullRunManifest(FileRecord, FullRunFacts):
    """manifest.json: what the run was begun with."""

    writer: ClassVar[str] = "augscale pretrain"

    kind: Literal["pretrain"] = "pretrain"
    created: str
    host: str
    seed: int
    scales: dict[str, Any]
    settings: dict[str, Any]
    """Everything that the result depends on, by dotted key."""
    cache: str
    """Folder of the decoded images."""
    versions: dict[str, str]


class PanelEvaluation(Record):
    """An entry of evaluations.json: the teacher's score on the probe panel at one step."""

    step: int
    epoch: float
    score: float
    score_name: str
    common_statistics: bool = False
    """Whether batch norm used common statistics, see `networks.batch_norm`; missing in files of earlier versions."""
    interval: tuple[float, float] | None = None
    levels: dict[str, float] = Field(default_factory=dict)
    """Separation by the name of the scales of the panel's views."""
    effective_rank: float | None = None
    feature_sd: float | None = None
    information: float | None = None
    """Nats, of the last batch; so is `loss`."""
    loss: float | None = None
    verdict: str
    """Health of the embedding, e.g. "collapsed"."""
    evidence: tuple[str, ...] = ()


class FullRunResult(FileRecord):
    """result.json of a finished run."""

    writer: ClassVar[str] = "augscale pretrain"

    scales_name: str
    seed: int
    steps: int
    epochs: float
    loss: float
    """Nats, of the last batch."""
    information: float
    """Nats, see `dino.information`, of the last batch."""
    last: PanelEvaluation
    """The evaluation at the end."""
    best: PanelEvaluation
    """The best evaluation, see `recorder.best_of`."""
    images_per_second: float
    """Source images, over all processes; evaluations and saving not counted."""
    seconds: float
    """Of all sessions, evaluations and saving included."""
    micro_batches: dict[str, Any] | None = None
    """Division of each process's part of a batch at the end, see `MicroBatches.to_dict`."""
