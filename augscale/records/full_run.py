"""Files of a full pre-training: manifest.json, evaluations.json and result.json."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from augscale.records.base import FileRecord, Record


class FullRunFacts(Record):
    """Facts about the data, length and processes of a run; they may differ between its sessions."""

    scales_name: str
    parameters: int
    """Number of parameters of the backbone."""
    steps_per_epoch: int
    epochs: float
    accumulate: int
    """Requested number of micro-batches per process and step."""
    evaluations: int
    """Requested number of evaluations."""
    data: dict[str, Any]
    """See `data.facts.data_facts`."""
    device: str = ""
    processes: int = 1


class FullRunManifest(FileRecord, FullRunFacts):
    """manifest.json: facts and settings that the run was started with."""

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
    """True if batch norm used common statistics, see `networks.batch_norm`; missing in files of earlier versions."""
    interval: tuple[float, float] | None = None
    levels: dict[str, float] = Field(default_factory=dict)
    """Separation by the name of the scales of the panel's views."""
    effective_rank: float | None = None
    feature_sd: float | None = None
    information: float | None = None
    """Information of the last batch, nats; `loss`, too, is that of the last batch."""
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
    """Loss of the last batch, nats."""
    information: float
    """Information of the last batch, nats, see `dino.information`."""
    last: PanelEvaluation
    """The evaluation at the end."""
    best: PanelEvaluation
    """The best evaluation, see `recorder.best_of`."""
    images_per_second: float
    """Source images of all processes per second; time for evaluations and saving is not counted."""
    seconds: float
    """Total time of all sessions, including evaluations and saving."""
    micro_batches: dict[str, Any] | None = None
    """Division of each process's part of a batch at the end, see `MicroBatches.to_dict`."""
