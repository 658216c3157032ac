"""Study files: every setting of a search, read from TOML into frozen typed configs.

`load_study("default")` finds a built-in study, `load_study("my.toml")` reads a file; flags given on the command
line override the file. The resolved study is written into the run folder, so that a run can always be repeated.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tomli_w
from pydantic import Field, field_validator, model_validator

from augscale.errors import ConfigError
from augscale.settings import Settings, nearest, parse_settings, read_toml
from augscale.system.memory import parse_size

Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
GreyRangeSetting = Literal["auto"] | Range


class DataConfig(Settings):
    """Which images, and how they are decoded into the cache."""

    sources: tuple[str, ...] = ("synthetic",)
    """Folders, CSV manifests, or "synthetic"; a folder is read recursively."""
    cache_size: Annotated[int, Field(ge=8, le=4096)] = 256
    """Side of the cached square images, pixels. About 1.15 times the global crop is enough."""
    crop_to_field: bool = False
    """Cut fundus photographs to their field of view before resizing."""
    range: GreyRangeSetting = "auto"
    """Values, after a DICOM file's modality LUT, that become black and white in files of more than 8 bits, [low, high];
    "auto": the window of a DICOM file where it has one, else a range that is found once over each source."""
    exclude: tuple[str, ...] = ()
    """Patterns of files that are not used, against paths below a source, names and folders: "*_mask.png", "masks/*"."""
    splits: tuple[str, ...] | None = None
    """Use only rows of these splits where a manifest names splits; None uses all images."""
    max_images: Annotated[int, Field(ge=2)] | None = None
    """Take a seeded subset of this many images; None takes all."""
    max_bad: Fraction = 0.05
    """Stop when more than this share of the files cannot be used (see --allow-bad)."""
    synthetic_patients: Annotated[int, Field(ge=4)] = 300
    """Patients of the built-in procedural photographs (each has two or more images)."""

    @field_validator("exclude")
    @classmethod
    def _say_something(cls, exclude: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in exclude:
            if not pattern.removeprefix("./").rstrip("/"):
                raise ValueError(f'{pattern!r} is not accepted; expected a pattern such as "*_mask.png" or "masks/*"')
        return exclude

    @field_validator("range", mode="before")
    @classmethod
    def _low_to_high(cls, value: Any) -> Any:
        numbers = value if isinstance(value, (list, tuple)) else ()
        is_range = len(numbers) == 2 and all(type(v) in (int, float) and math.isfinite(v) for v in numbers)
        if value != "auto" and not (is_range and numbers[0] < numbers[1]):
            raise ValueError(f'{value!r} is not accepted; expected "auto" or [low, high] with low < high')
        return value


class BackboneConfig(Settings):
    """The encoder, any timm ViT or ResNet."""

    name: str = "vit_small_patch16_224"
    overrides: dict[str, bool | int | float | str | list[int]] = Field(default_factory=dict)
    """Keyword arguments for timm.create_model, e.g. {patch_size = 8, depth = 4}."""
    init: str = "none"
    """"none", "imagenet" (timm's pre-trained weights), or a weights file."""
    drop_path: Fraction = 0.1
    """Stochastic depth of the student (DINO: 0.1)."""


class CropsConfig(Settings):
    """How many views, and their size in pixels. DINO: 2 global views of 224 and 8 local ones of 96."""

    n_global: Literal[2] = 2
    global_size: Annotated[int, Field(ge=8)] = 224
    n_local: Annotated[int, Field(ge=0, le=64)] = 8
    local_size: Annotated[int, Field(ge=8)] = 96


class PretrainConfig(Settings):
    """The DINO recipe; defaults are the official script's (Caron et al. 2021) where that is stated."""

    steps: Annotated[int, Field(ge=1)] = 1000
    """Optimiser updates of a full trial."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    lr: Annotated[float, Field(ge=0)] = 5e-4
    """Peak learning rate for a batch of 256; scaled linearly with batch_size / 256 unless lr_scaling is false. 0 (and
    min_lr = 0) switches learning off: such a run is the null of a search."""
    lr_scaling: bool = True
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    warmup_fraction: Fraction = 0.1
    """Share of the steps with linearly growing learning rate (official: 10 of 100 epochs)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.04
    weight_decay_end: Annotated[float, Field(ge=0)] = 0.4
    teacher_momentum: Fraction = 0.996
    """EMA weight of the old teacher at the first step; rises to teacher_momentum_end along a cosine."""
    teacher_momentum_end: Fraction = 1.0
    student_temp: Annotated[float, Field(gt=0)] = 0.1
    teacher_temp_start: Annotated[float, Field(gt=0)] = 0.04
    teacher_temp: Annotated[float, Field(gt=0)] = 0.04
    teacher_temp_warmup_fraction: Fraction = 0.0
    center_momentum: Fraction = 0.9
    out_dim: Annotated[int, Field(ge=2)] = 65536
    head_hidden_dim: Annotated[int, Field(ge=1)] = 2048
    head_bottleneck_dim: Annotated[int, Field(ge=1)] = 256
    head_batch_norm: bool = False
    """Batch norm in the projection head; helps short runs leave the ln(out_dim) plateau."""
    batch_norm: Literal["train", "frozen"] = "train"
    """Batch norm of the backbone: "train" normalises with the statistics of the batch, as the official code does;
    "frozen" keeps the statistics that the backbone starts with, for pre-trained starts."""
    norm_last_layer: bool = True
    freeze_last_layer_fraction: Fraction = 0.01
    """Share of the steps in which the last layer is not updated (official: 1 of 100 epochs)."""
    clip_grad: Annotated[float, Field(ge=0)] = 3.0
    """Largest L2 norm of each parameter tensor's gradient; 0 switches clipping off, as in the official script."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """"auto": bf16 autocast on GPUs and on CPUs with native bf16 arithmetic, else fp32."""
    compile: Literal["auto", "always", "never"] = "auto"
    """torch.compile on GPUs; "auto": where it can, in runs of 700 steps and more. Changes rounding only."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Save the resumable state at least this often (and at every rung)."""
    max_memory: str | None = None
    """What each process may use of its GPU, or on a CPU of main memory, e.g. "8GB"; None: what is free. Decides into
    how many micro-batches a step is cut."""

    @field_validator("max_memory")
    @classmethod
    def _is_a_size(cls, max_memory: str | None) -> str | None:
        if max_memory is not None:
            parse_size(max_memory)
        return max_memory

    @model_validator(mode="after")
    def _ordered(self) -> PretrainConfig:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr = {self.min_lr} is above lr = {self.lr}; expected min_lr <= lr")
        if self.teacher_momentum > self.teacher_momentum_end:
            raise ValueError(
                f"teacher_momentum = {self.teacher_momentum} is above teacher_momentum_end = "
                f"{self.teacher_momentum_end}; expected start <= end <= 1"
            )
        return self


class ProbeConfig(Settings):
    """The fixed panel on which every trial is scored: same held-out images, same pre-drawn views."""

    images: Annotated[int, Field(ge=3)] = 256
    """Held-out images; whole patients are held out where patient ids are known."""
    views: Annotated[int, Field(ge=2, le=64)] = 2
    """Views of each image at each level."""
    levels: Annotated[tuple[str, ...], Field(min_length=1)] = ("strong@0.25", "strong@0.5", "strong")
    """Scales (names or files) that the panel's views are drawn from, mild to strong."""
    score: Literal["dprime", "pair_auroc", "alpha_req", "knn-auroc"] = "dprime"
    """Separation of pairs, slope of the spectrum, or from labels: "knn-auroc" is the macro AUROC of nearest neighbours,
    val images among train images of `labelled`."""
    labelled: tuple[str, ...] | None = None
    """Labelled datasets for "knn-auroc": prepared names, folders or CSV manifests. Their test images are not read."""
    labelled_root: str | None = None
    """Where datasets named in `labelled` were prepared; None is the usual place."""
    unlabelled: tuple[str, ...] = ()
    """Labels in `labelled` that mean no label, e.g. ["-1"]; such images are left out."""
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Bootstrap resamples of images for the intervals."""
    min_effective_rank: Annotated[float, Field(ge=1)] = 2.0
    """RankMe of the panel's embeddings below this is a collapse."""
    min_information: Annotated[float, Field(ge=0)] = 0.1
    """Nats; at the end of training a teacher whose outputs say less than this about the image has not learned."""
    seed: int = 0

    @property
    def separation(self) -> Literal["dprime", "pair_auroc"]:
        """The separation of pairs that is shown of every level: the score where it is one, else d'."""
        return self.score if self.score in ("dprime", "pair_auroc") else "dprime"

    @model_validator(mode="after")
    def _labels_where_needed(self) -> ProbeConfig:
        if self.score == "knn-auroc" and not self.labelled:
            raise ValueError(
                'score = "knn-auroc" needs labels: expected probe.labelled, e.g. labelled = ["aptos2019"] or a folder'
            )
        if self.unlabelled and not self.labelled:
            raise ValueError(f"unlabelled = {list(self.unlabelled)} is about labels; expected probe.labelled, too")
        if self.score != "knn-auroc" and self.labelled:
            raise ValueError(
                f'labelled = {list(self.labelled)} is only used by score = "knn-auroc"; found score = "{self.score}"'
            )
        return self


class SpaceConfig(Settings):
    """What a trial may choose. Each range is [low, high]; low = high fixes the value."""

    global_crop_low: Range = (0.2, 1.0)
    """Smallest area of a global crop, as a fraction of the image; the largest is always the whole image."""
    local_crop_low: Range = (0.05, 1.0)
    """Smallest area of a local crop, as a fraction of the image."""
    local_crop_width: Range = (0.0, 0.6)
    """Largest minus smallest area of a local crop (the largest never exceeds 1)."""
    jitter: Range = (0.0, 0.8)
    """Brightness and contrast; saturation is 1/2 and hue 1/4 of it, as in DINO, unless freed below."""
    free: dict[str, Range] = Field(default_factory=dict)
    """Further fields of the scales to search, by name, e.g. {hue = [0, 0.2], grayscale_p = [0, 0.4]}."""
    base: str = "strong"
    """Scales that every field outside the space is taken from."""

    @model_validator(mode="after")
    def _ordered(self) -> SpaceConfig:
        ranges = {name: getattr(self, name) for name in type(self).model_fields if name not in ("free", "base")}
        limits = dict.fromkeys(ranges, 1.0) | {"jitter": 2.0}
        for name, (low, high) in ranges.items():
            if not 0 <= low <= high <= limits[name]:
                raise ValueError(f"{name} = [{low}, {high}]: expected 0 <= low <= high <= {limits[name]:g}")
        for name in ("global_crop_low", "local_crop_low"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name} = {list(getattr(self, name))}: a crop needs an area above 0")
        for name, (low, high) in self.free.items():
            if low > high:
                raise ValueError(f"free.{name} = [{low}, {high}]: low is above high")
        return self


class SearchConfig(Settings):
    """The Optuna study."""

    trials: Annotated[int, Field(ge=1)] = 40
    """Total wanted, counting every trial that was ever started."""
    sampler: Literal["tpe", "random", "qmc"] = "tpe"
    startup_trials: Annotated[int, Field(ge=0)] = 10
    """Random trials, after the controls, before the sampler learns from results."""
    controls: tuple[str, ...] = ("none", "weak", "strong", "weak+med")
    """Scales that are always run first, in full."""
    null_trials: Annotated[int, Field(ge=0)] = 1
    """How many of the controls, in their order, are also run with learning rate 0 and everything else the same. What
    such a run scores is not learning; "learned" is only said of what scores above it."""
    rungs: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.25, 0.5, 1.0)
    """Shares of the steps at which a trial is scored and may be pruned; the last is 1."""
    prune: bool = True
    keep_best: Annotated[int, Field(ge=1)] = 3
    """Weights are kept for this many best trials and for the controls."""
    keep_weights: Literal["best", "all", "rungs"] = "best"
    """"best": see `keep_best`; "all": of every complete trial; "rungs": at every rung, also of pruned trials, which is
    what `augscale validate` compares trials at equal steps by."""
    seed: int = 0
    max_failures: Annotated[int, Field(ge=1)] = 5
    """Stop when this many trials in a row failed; sooner where a wrong setting makes all fail, or where a resumed run
    fails again as it did before."""

    @field_validator("rungs")
    @classmethod
    def _rungs_rise_to_one(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if list(rungs) != sorted(set(rungs)) or rungs[0] <= 0 or rungs[-1] != 1:
            raise ValueError(f"rungs = {list(rungs)}: expected rising shares above 0 that end in 1")
        return rungs


class ConfirmConfig(Settings):
    """After the search: the best scales and the controls again, at full trial length, on fresh seeds."""

    top_k: Annotated[int, Field(ge=0)] = 2
    seeds: Annotated[int, Field(ge=0)] = 3
    controls: tuple[str, ...] = ("weak", "strong")


class StudyConfig(Settings):
    """Every setting of a study."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "study"
    description: str = ""
    data: DataConfig = DataConfig()
    backbone: BackboneConfig = BackboneConfig()
    crops: CropsConfig = CropsConfig()
    pretrain: PretrainConfig = PretrainConfig()
    probe: ProbeConfig = ProbeConfig()
    space: SpaceConfig = SpaceConfig()
    search: SearchConfig = SearchConfig()
    confirm: ConfirmConfig = ConfirmConfig()

    FREE: ClassVar = frozenset(
        {
            "description",
            "data.sources",
            "data.max_bad",
            "pretrain.checkpoint_seconds",
            "pretrain.compile",
            "pretrain.max_memory",
        }
    )
    """What a run that goes on may change: nothing of it decides a result. Images are compared by their fingerprint."""

    @model_validator(mode="after")
    def _fits_together(self) -> StudyConfig:
        if self.pretrain.batch_norm == "frozen" and self.backbone.init == "none":
            raise ValueError(
                'pretrain.batch_norm = "frozen" with backbone.init = "none": a network without training has no '
                'statistics to keep; expected batch_norm = "train", or init = "imagenet" or a weights file'
            )
        if self.crops.local_size > self.crops.global_size:
            raise ValueError(
                f"crops.local_size = {self.crops.local_size} is above crops.global_size = "
                f"{self.crops.global_size}; expected local <= global"
            )
        return self


def lasting_sources(config: DataConfig) -> list[str]:
    """The sources as they can be found from any folder."""
    return [source if source == "synthetic" else str(Path(source).expanduser().absolute()) for source in config.sources]


def study_text(config: StudyConfig) -> str:
    """The study as a TOML file, every setting written out."""
    values = config.model_dump(mode="json", exclude_none=True)
    # TOML knows no names that are not UTF-8: their other bytes are written as text, for a reader's eyes.
    sources = [source.encode("utf-8", "backslashreplace").decode("utf-8") for source in lasting_sources(config.data)]
    values["data"]["sources"] = sources
    return tomli_w.dumps(values)


def studies_dir() -> Path:
    """Folder of the built-in study files: in the package when installed, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "studies"
    return inside if inside.is_dir() else package.parent / "studies"


def load_study(study: str | Path = "default", overrides: dict[str, Any] | None = None) -> StudyConfig:
    """Reads a study file and applies overrides.

    Args:
        study: name of a built-in study or path of a TOML file.
        overrides: values by dotted key, e.g. {"search.trials": 12}; None values are passed over.
    Raises:
        ConfigError: the file or a value is wrong; the message names file, key, value and what is accepted.
    """
    path = Path(study)
    if path.suffix != ".toml":
        path = studies_dir() / f"{study}.toml"
        if not path.is_file():
            known = sorted(p.stem for p in studies_dir().glob("*.toml"))
            raise ConfigError(
                f"unknown study {str(study)!r}{nearest(str(study), known)}; "
                f"expected a .toml file or one of {', '.join(known)}"
            )
    values = apply_overrides(read_toml(path), overrides or {})
    return parse_settings(StudyConfig, values, str(study))


def apply_overrides(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested values with others put in by dotted key, e.g. {"search.trials": 12}; None is passed over."""
    result = copy.deepcopy(values)
    for key, value in overrides.items():
        if value is None:
            continue
        *parents, last = key.split(".")
        table = result
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = value
    return result
