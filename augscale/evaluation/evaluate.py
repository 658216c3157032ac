"""`augscale.evaluate(...)`: measures checkpoints on labelled datasets, by protocol and seed.

The predictions of every finished run are kept with a fingerprint of their inputs. The same call therefore continues an
interrupted one, and another checkpoint, dataset or seed computes only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from augscale.config import GreyRangeSetting
from augscale.errors import ConfigError
from augscale.evaluation.datasets import LabelledImages, open_dataset, open_datasets
from augscale.evaluation.interface import Encoder, Progress
from augscale.evaluation.jobs import interruptible, plan_jobs, run_jobs
from augscale.evaluation.predictions import Predictions
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.protocols import make_protocols
from augscale.evaluation.seen_images import seen_contents, seen_notes
from augscale.evaluation.summary import summarize
from augscale.evaluation.transforms import decoded_side
from augscale.evaluation.which_checkpoints import checkpoints_to_evaluate
from augscale.networks.batch_norm import Choice, checked_choice, has_batch_norm, takes_common_statistics
from augscale.networks.checkpoints import LoadedCheckpoint, references_of
from augscale.networks.kept_features import features_folder
from augscale.records.evaluation import EvaluationSummary
from augscale.runs.folders import now, versions, writable_folder

DEFAULT_PROTOCOLS = ("linear", "released", "knn")
"""The frozen protocols, which take minutes. `finetune` trains the whole network for every seed."""
_GRADES = "0123456789"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The results of an evaluation, and the folder that holds them."""

    out: Path
    summary: EvaluationSummary
    """Cells, comparisons, disagreements of protocols, notes."""
    predictions: tuple[Predictions, ...] = field(repr=False)

    @property
    def json(self) -> Path:
        return self.out / "evaluation.json"

    @property
    def page(self) -> Path:
        return self.out / "evaluation.html"

    def to_dict(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        return self.summary.to_dict()

    def _repr_html_(self) -> str:
        from augscale.reporting.shared.notebook import estimate, notebook_html

        rows = []
        for cell in self.summary.cells:
            auroc = cell.metrics["auroc"]
            value = estimate(auroc.mean, auroc.test_images)
            rows.append((cell.protocol, cell.trained_on, cell.tested_on, cell.checkpoint, value))
        columns = ("protocol", "trained on", "tested on", "checkpoint", "AUROC")
        return notebook_html(f"{len(self.summary.checkpoints)} checkpoints on labels", columns, rows, page=self.page)

    def save(self) -> None:
        """Writes evaluation.json, the tables and evaluation.html.

        Raises:
            StudyError: the folder cannot be written.
        """
        from augscale.reporting.evaluation.page import write_evaluation_page
        from augscale.reporting.evaluation.table_formats import write_tables
        from augscale.reporting.evaluation.tables import all_tables

        self.summary.write(self.json)
        write_tables(all_tables(self.summary), self.out / "tables")
        write_evaluation_page(self.page, self.summary)


def evaluate(
    checkpoints: str | Path | Sequence[str | Path] | None = None,
    *,
    datasets: str | Path | Sequence[str | Path] = "all",
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
    external: bool = False,
    untrained: bool = True,
    config: ProtocolConfig | None = None,
    size: int | None = None,
    crop_to_field: bool | None = None,
    grey_range: GreyRangeSetting | None = None,
    exclude: Sequence[str] = (),
    patient_pattern: str | None = None,
    data_root: Path | None = None,
    arch: str | None = None,
    key: str | None = None,
    statistics: str | None = None,
    device: str = "auto",
    out: str | Path = "evaluation",
    cache_root: Path | None = None,
    allow_bad: bool = False,
    unlabelled: Collection[str] = (),
    names: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Evaluates checkpoints downstream. The same call on the same `out` continues where it was interrupted.

    Args:
        checkpoints: as for `diagnose`; None takes those of the newest promotion below ./runs or, without one, an
            ImageNet network (a random one where no weights can be had), with a note.
        datasets: "all" (the prepared ones of the paper's six; the built-in photographs where none is), or names,
            labelled folders and CSV manifests.
        protocols: one or more of "finetune", "linear", "released", "knn".
        external: also test on every other dataset that shares classes.
        untrained: also measure each architecture with random weights, under the frozen protocols.
        config: settings of the protocols; None takes the papers', with views of `size`.
        size: side of the views, pixels; None takes `config`'s where it was set, else the first checkpoint's.
        crop_to_field, grey_range: see `open_dataset`; None takes the settings of the first checkpoint's study.
        exclude, patient_pattern, data_root, cache_root, allow_bad, unlabelled: see `open_dataset`.
        arch, key: see `load_checkpoint`.
        statistics: batch norm statistics for the frozen protocols: "own", or "data", gathered on each dataset's
            training images; None: "data" for networks of augscale and untrained ones, "own" for others.
        device: "auto", "cpu", "cuda" or "cuda:N".
        out: folder for evaluation.json, the tables, predictions and evaluation.html. Features are kept in
            `features` of `cache_root`, where other evaluations find them.
        names: of the checkpoints, one each; None finds short names.
        on_progress: called with (what, done, total).
        say: called with the classes of each dataset and their counts, before anything is embedded.
    Raises:
        ConfigError, DataError, CheckpointError: nothing has been computed.
        InterruptedRun: a signal came; finished parts are kept.
    """
    folder = writable_folder(Path(out))
    loaded, notes = checkpoints_to_evaluate(checkpoints, arch=arch, key=key, names=names)
    settings = _settings(config, size, loaded[0])
    networks = _networks(loaded, settings.view_size, statistics, untrained)
    open_one = partial(
        open_dataset,
        size=decoded_side(settings.view_size),
        data_root=data_root,
        crop_to_field=_crop_to_field(loaded[0]) if crop_to_field is None else crop_to_field,
        grey_range=_grey_range(loaded[0]) if grey_range is None else grey_range,
        exclude=exclude,
        patient_pattern=patient_pattern,
        cache_root=cache_root,
        allow_bad=allow_bad,
        unlabelled=unlabelled,
    )
    opened, more = open_datasets(datasets, open_one, data_root=data_root, on_progress=on_progress, say=say)
    notes += statistics_notes([*networks.encoders, *networks.references]) + more
    notes += seen_notes([seen_contents(Path(c.path)) for c in loaded if Path(c.path).exists()], opened)
    kept = features_folder(cache_root)
    result = _run(networks, opened, settings, protocols, external, folder, kept, device, on_progress, notes)
    result.save()
    return result


def check_evaluation(
    datasets: str | Path | Sequence[str | Path],
    protocols: Sequence[str],
    *,
    view_size: int,
    crop_to_field: bool,
    grey_range: GreyRangeSetting = "auto",
    patient_pattern: str | None = None,
    data_root: Path | None = None,
    unlabelled: Collection[str] = (),
    on_progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Checks the arguments of a later `evaluate` before its checkpoints exist, and decodes the datasets it will read.

    Raises:
        ConfigError, DataError: an unknown protocol, or a dataset that cannot be used.
    """
    make_protocols(protocols, ProtocolConfig(), Path())
    open_one = partial(
        open_dataset,
        size=decoded_side(view_size),
        data_root=data_root,
        crop_to_field=crop_to_field,
        grey_range=grey_range,
        patient_pattern=patient_pattern,
        unlabelled=unlabelled,
    )
    open_datasets(datasets, open_one, data_root=data_root, on_progress=on_progress, say=say)


def statistics_notes(encoders: Sequence[Encoder]) -> list[str]:
    """Names the networks evaluated with gathered and with own batch norm statistics; empty without batch norm."""
    common = [encoder.name for encoder in encoders if encoder.common_statistics]
    own = [encoder.name for encoder in encoders if has_batch_norm(encoder.backbone) and not encoder.common_statistics]
    notes = []
    if common:
        notes.append(
            f"batch norm statistics of {', '.join(common)}: gathered on each dataset's training images "
            "(frozen protocols; --statistics own keeps the network's)"
        )
    if own:
        notes.append(
            f"batch norm statistics of {', '.join(own)}: the network's own (--statistics data gathers them on each "
            "dataset's training images)"
        )
    return notes


@dataclass(frozen=True, kw_only=True)
class _Networks:
    loaded: list[LoadedCheckpoint]
    encoders: list[Encoder]
    references: list[Encoder]
    """The architectures with random weights."""


def _run(
    networks: _Networks,
    opened: Sequence[LabelledImages],
    settings: ProtocolConfig,
    protocols: Sequence[str],
    external: bool,
    folder: Path,
    features: Path | None,
    device: str,
    on_progress: Progress | None,
    notes: Sequence[str],
) -> Evaluation:
    with interruptible(folder) as stop:
        made = make_protocols(
            protocols, settings, folder, device=device, features=features, on_progress=on_progress, should_stop=stop
        )
        jobs, maps = plan_jobs(networks.encoders, networks.references, made, opened, settings.seeds, external)
        predictions, lost = run_jobs(jobs, folder / "predictions", settings, stop, on_progress)
    encoders = [*networks.encoders, *networks.references]
    summary = summarize(
        predictions,
        checkpoints=[encoder.name for encoder in encoders],
        protocols=list(protocols),
        ordered=[dataset.name for dataset in opened if _is_graded(dataset)],
        notes=[*notes, *maps, *lost],
        facts={
            "finished": now(),
            "versions": versions(),
            "device": device,
            "settings": settings.model_dump(mode="json"),
            "checkpoints": {c.name: {"path": c.path, "kind": c.kind, "arch": c.arch} for c in networks.loaded},
            "fingerprints": {encoder.name: encoder.fingerprint for encoder in encoders},
            "common_statistics": {encoder.name: encoder.common_statistics for encoder in encoders},
            "datasets": {d.name: {"classes": list(d.classes), "counts": d.counts()} for d in opened},
        },
    )
    return Evaluation(out=folder, summary=summary, predictions=tuple(predictions))


def _settings(config: ProtocolConfig | None, size: int | None, first: LoadedCheckpoint) -> ProtocolConfig:
    chosen = config.view_size if config and "view_size" in config.model_fields_set else None
    return (config or ProtocolConfig()).model_copy(update={"view_size": size or chosen or first.image_size})


def _networks(loaded: list[LoadedCheckpoint], view_size: int, statistics: str | None, untrained: bool) -> _Networks:
    choice = checked_choice(statistics)
    references = references_of(loaded)[0] if untrained else []
    return _Networks(
        loaded=loaded,
        encoders=[_encoder(checkpoint, view_size, choice) for checkpoint in loaded],
        references=[_encoder(checkpoint, view_size, choice) for checkpoint in references],
    )


def _encoder(checkpoint: LoadedCheckpoint, view_size: int, statistics: Choice | None) -> Encoder:
    if checkpoint.training.non_finite:
        raise ConfigError(
            f"{checkpoint.path}: NaN or inf in {checkpoint.training.non_finite[0]}; it cannot be evaluated "
            "(augscale diagnose says more)"
        )
    checkpoint.backbone.check_view_size(view_size, f"{checkpoint.name}: size")
    return Encoder(
        name=checkpoint.name,
        backbone=checkpoint.backbone,
        arch=checkpoint.arch,
        overrides=checkpoint.overrides,
        image_size=checkpoint.image_size,
        common_statistics=takes_common_statistics(checkpoint, statistics),
    )


def _crop_to_field(checkpoint: LoadedCheckpoint) -> bool:
    return bool(checkpoint.sidecar.data.get("crop_to_field"))


def _grey_range(checkpoint: LoadedCheckpoint) -> GreyRangeSetting:
    found = checkpoint.sidecar.data.get("range", "auto")
    return found if found == "auto" else (float(found[0]), float(found[1]))


def _is_graded(dataset: LabelledImages) -> bool:
    """True if class numbers are grades of one disease, so that the distance between two classes has a meaning."""
    is_dr = dataset.label_space is not None and "retinopathy" in dataset.label_space.lower()
    return is_dr or all(name.strip() in _GRADES and name.strip() for name in dataset.classes)
