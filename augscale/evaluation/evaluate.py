"""`augscale.evaluate(...)`: checkpoints on labelled datasets, protocol by protocol, seed by seed.

Every finished run is kept as predictions per image under what it was made from, so that the same call repeats nothing:
what was interrupted goes on, and another checkpoint, dataset or seed adds only itself.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from augscale.config import GreyRangeSetting
from augscale.data.retinal.prepared import list_datasets, missing_text
from augscale.errors import ConfigError, InterruptedRun, Paused
from augscale.evaluation.datasets import LabelledImages, open_dataset
from augscale.evaluation.interface import Encoder, Progress
from augscale.evaluation.jobs import plan_jobs, run_jobs
from augscale.evaluation.predictions import Predictions
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.protocols import make_protocols
from augscale.evaluation.records import EvaluationSummary, to_dict
from augscale.evaluation.seen_images import seen_contents, seen_notes
from augscale.evaluation.summary import summarize
from augscale.evaluation.which_checkpoints import checkpoints_to_evaluate
from augscale.networks.batch_norm import Choice, checked_choice, has_batch_norm, takes_common_statistics
from augscale.networks.checkpoints import LoadedCheckpoint, references_of
from augscale.reporting.evaluation.table_formats import write_tables
from augscale.reporting.evaluation.tables import all_tables
from augscale.runs.files import write_json
from augscale.runs.folders import now, versions, writable_folder
from augscale.system.signals import StopFlag

DEFAULT_PROTOCOLS = ("linear", "released", "knn")
"""The frozen ones: minutes. `finetune` trains the whole network for every seed and has to be asked for."""
MARGIN = 256 / 224
"""Decoded images are so much larger than the views, as the evaluation transform resizes before it crops."""
_GRADES = "0123456789"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found, and where it lies."""

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
        return to_dict(self.summary)


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
    """Evaluates checkpoints downstream. The same call on the same `out` goes on where it was interrupted.

    Args:
        checkpoints: as for `diagnose`; None takes those of the newest promotion below ./runs, and where there is none
            an ImageNet network, or a random one where no weights can be had, and says so.
        datasets: "all" (those of the paper's six that are prepared; the built-in photographs where none is), or names,
            labelled folders and CSV manifests.
        protocols: of "finetune", "linear", "released", "knn".
        external: also test on every other dataset that shares classes.
        untrained: also measure each architecture with random weights, under the frozen protocols.
        config: settings of the protocols; None takes the papers', with views of `size`.
        size: side of the views, pixels; None takes `config`'s where it was set, else the first checkpoint's.
        crop_to_field: cut photographs to the field of view; None does as the first checkpoint's study did.
        grey_range: as `data.range` of a study; None does as the first checkpoint's study did.
        exclude: patterns of files of the datasets that are not used, as `data.exclude` of a study.
        data_root: where datasets were prepared; None is the usual place.
        arch, key: see `load_checkpoint`.
        statistics: of batch norm, for the frozen protocols: "own", or "data", gathered on each dataset's training
            images; None: "data" for networks of augscale and untrained ones, "own" for others.
        device: "auto", "cpu", "cuda" or "cuda:N".
        out: folder for evaluation.json, the tables, predictions, evaluation.html and cached features.
        cache_root, allow_bad: see `build_cache`.
        unlabelled: labels that mean no label, see `open_dataset`.
        names: what to call the checkpoints, one each; None finds short names.
        on_progress: called with (what, done, total).
        say: called with the classes of each dataset and their counts, before anything is embedded.
    Raises:
        ConfigError, DataError, CheckpointError: nothing has been computed.
        InterruptedRun: a signal came; finished runs are kept.
    """
    folder = writable_folder(Path(out))
    loaded, notes = checkpoints_to_evaluate(checkpoints, arch=arch, key=key, names=names)
    chosen = config.view_size if config and "view_size" in config.model_fields_set else None
    view_size = size or chosen or loaded[0].image_size
    settings = (config or ProtocolConfig()).model_copy(update={"view_size": view_size})
    choice = checked_choice(statistics)
    encoders = [_encoder(checkpoint, view_size, choice) for checkpoint in loaded]
    references = [_encoder(c, view_size, choice) for c in references_of(loaded)[0]] if untrained else []
    notes += statistics_notes([*encoders, *references])
    cut = bool(loaded[0].sidecar.data.get("crop_to_field")) if crop_to_field is None else crop_to_field
    opened, more = open_datasets(
        datasets,
        size=round(MARGIN * view_size),
        data_root=data_root,
        crop_to_field=cut,
        grey_range=_grey_range(loaded[0]) if grey_range is None else grey_range,
        exclude=exclude,
        cache_root=cache_root,
        allow_bad=allow_bad,
        unlabelled=unlabelled,
        on_progress=on_progress,
        say=say,
    )
    notes += more + seen_notes([seen_contents(Path(c.path)) for c in loaded if Path(c.path).exists()], opened)
    stop = StopFlag()
    made = make_protocols(protocols, settings, folder, device=device, on_progress=on_progress, should_stop=stop)
    jobs, maps = plan_jobs(encoders, references, made, opened, settings.seeds, external)
    notes += maps
    try:
        with stop.listening():
            predictions, lost = run_jobs(jobs, folder / "predictions", settings, stop, on_progress)
    except (Paused, RuntimeError) as error:
        # A batch system's signal also ends the processes that load images, which is an error here.
        if not isinstance(error, Paused) and stop.signal_number is None:
            raise
        number = stop.signal_number or int(signal.SIGTERM)
        raise InterruptedRun(
            f"stopped by {signal.Signals(number).name}; finished runs are kept in {folder}, the same command goes on",
            number,
        ) from None
    summary = summarize(
        predictions,
        checkpoints=[e.name for e in (*encoders, *references)],
        protocols=list(protocols),
        ordered=[dataset.name for dataset in opened if _is_graded(dataset)],
        notes=[*notes, *lost],
        facts=_facts(settings, [*encoders, *references], opened, loaded, device),
    )
    _write(folder, summary)
    return Evaluation(out=folder, summary=summary, predictions=tuple(predictions))


def _grey_range(checkpoint: LoadedCheckpoint) -> GreyRangeSetting:
    found = checkpoint.sidecar.data.get("range", "auto")
    return found if found == "auto" else (float(found[0]), float(found[1]))


def check_evaluation(
    datasets: str | Path | Sequence[str | Path],
    protocols: Sequence[str],
    *,
    view_size: int,
    crop_to_field: bool,
    grey_range: GreyRangeSetting = "auto",
    data_root: Path | None = None,
    unlabelled: Collection[str] = (),
    on_progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """What would make `evaluate` refuse, said before the checkpoints are made; decodes the datasets that it will read.

    Raises:
        ConfigError, DataError: an unknown protocol, or a dataset that cannot be used.
    """
    make_protocols(protocols, ProtocolConfig(), Path())
    open_datasets(
        datasets,
        size=round(MARGIN * view_size),
        data_root=data_root,
        crop_to_field=crop_to_field,
        grey_range=grey_range,
        cache_root=None,
        allow_bad=False,
        unlabelled=unlabelled,
        on_progress=on_progress,
        say=say,
    )


def statistics_notes(encoders: Sequence[Encoder]) -> list[str]:
    """Which networks are evaluated with which batch norm statistics; nothing where none has batch norm."""
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


def open_datasets(
    datasets: str | Path | Sequence[str | Path],
    *,
    size: int,
    data_root: Path | None,
    crop_to_field: bool,
    grey_range: GreyRangeSetting = "auto",
    exclude: Sequence[str] = (),
    cache_root: Path | None,
    allow_bad: bool,
    on_progress: Progress | None,
    unlabelled: Collection[str] = (),
    say: Callable[[str], None] | None = None,
) -> tuple[list[LabelledImages], list[str]]:
    """Opens what `--datasets` names, and what is to be said about it; see `evaluate` for the arguments.

    Args:
        size: side of the decoded images, pixels.
    """
    wanted = [datasets] if isinstance(datasets, (str, Path)) else list(datasets)
    say = say or (lambda line: None)
    notes = []
    if [str(name) for name in wanted] == ["all"]:
        status = list_datasets(data_root)
        wanted = [entry.dataset.name for entry in status if entry.prepared is not None]
        notes += [missing_text(entry.dataset) for entry in status if entry.prepared is None]
        if not wanted:
            wanted = ["synthetic"]
            notes.append("none of the six datasets is prepared: the built-in procedural photographs are used")
    opened: list[LabelledImages] = []
    for name in wanted:
        dataset = open_dataset(
            name,
            size=size,
            data_root=data_root,
            crop_to_field=crop_to_field,
            grey_range=grey_range,
            exclude=exclude,
            cache_root=cache_root,
            allow_bad=allow_bad,
            unlabelled=unlabelled,
            on_progress=None if on_progress is None else _decoding(on_progress, str(name)),
        )
        if any(dataset.name == other.name for other in opened):
            raise ConfigError(f"--datasets: two are called {dataset.name}; expected different names")
        opened.append(dataset)
        introduction = dataset.introduction()
        notes += introduction[1:]
        for line in introduction:
            say(line)
    return opened, notes


def _decoding(on_progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(f"decoding {name}", done, total)


def _is_graded(dataset: LabelledImages) -> bool:
    """Whether class numbers are grades of one disease, so that the size of an error counts."""
    is_dr = dataset.label_space is not None and "retinopathy" in dataset.label_space.lower()
    return is_dr or all(name.strip() in _GRADES and name.strip() for name in dataset.classes)


def _facts(
    settings: ProtocolConfig,
    encoders: Sequence[Encoder],
    datasets: Sequence[LabelledImages],
    loaded: Sequence[LoadedCheckpoint],
    device: str,
) -> dict[str, Any]:
    return {
        "finished": now(),
        "versions": versions(),
        "device": device,
        "settings": settings.model_dump(mode="json"),
        "checkpoints": {c.name: {"path": c.path, "kind": c.kind, "arch": c.arch} for c in loaded},
        "fingerprints": {encoder.name: encoder.fingerprint for encoder in encoders},
        "common_statistics": {encoder.name: encoder.common_statistics for encoder in encoders},
        "datasets": {d.name: {"classes": list(d.classes), "counts": d.counts()} for d in datasets},
    }


def _write(folder: Path, summary: EvaluationSummary) -> None:
    from augscale.reporting.evaluation.page import write_evaluation_page

    values = to_dict(summary)
    write_json(folder / "evaluation.json", values)
    write_tables(all_tables(summary), folder / "tables")
    write_evaluation_page(folder / "evaluation.html", values)
