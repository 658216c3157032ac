"""Study files: every setting of a search, read from TOML into frozen typed configs.

`load_study("default")` finds a built-in study, `load_study("my.toml")` reads a file; flags given on the command
line override the file. The resolved study is written into the run folder, so that a run can always be repeated.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tomli_w
from pydantic import Field, field_validator, model_validator

from augscale.errors import ConfigError
from augscale.pretrain_config import Fraction, PretrainConfig, Range
from augscale.settings import Settings, nearest, parse_settings, read_toml

PATTERN_EXAMPLE = r"(P\d+)_[LR]"
"""A pattern for messages: P11 in P11_L.jpg."""
GreyRangeSetting = Literal["auto"] | Range


class DataConfig(Settings):
    """Images, and how they are decoded into the cache."""

    sources: tuple[str, ...] = ("synthetic",)
    """Image folders (searched recursively), tables of images, or "synthetic": the built-in procedural photographs."""
    cache_size: Annotated[int, Field(ge=8, le=4096)] = 256
    """Side of the square images in the decoded cache, in pixels; 1.15 times `crops.global_size` is enough."""
    crop_to_field: bool = False
    """Crop fundus photographs to their field of view before resizing."""
    range: GreyRangeSetting = "auto"
    """Grey values mapped to black and white in files of more than 8 bits, after a DICOM file's modality LUT; "auto"
    takes the window stored in a DICOM file, or else a range computed once over the source."""
    exclude: tuple[str, ...] = ()
    """Glob patterns of files to leave out, by name or by path below a source: "*_mask.png", "masks/*"."""
    patient_pattern: str | None = None
    """Regular expression whose one group is the patient id in file names, e.g. "(P\\d+)_[LR]"; with a slash in it, it
    is searched in paths below the source. Ids from a table or the built-in photographs are kept."""
    splits: tuple[str, ...] | None = None
    """Splits to use if a table or folders name splits; if not set, all images are used."""
    max_images: Annotated[int, Field(ge=2)] | None = None
    """Number of images in a seeded random subset; if not set, all images are used."""
    max_bad: Fraction = 0.05
    """Largest share of unusable files; above it the command stops, unless `--allow-bad` is given."""
    synthetic_patients: Annotated[int, Field(ge=4)] = 300
    """Number of patients in the built-in photographs; each has two or more images."""

    @field_validator("exclude")
    @classmethod
    def _not_empty(cls, exclude: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in exclude:
            if not pattern.removeprefix("./").rstrip("/"):
                raise ValueError(f'{pattern!r} is not accepted; expected a pattern such as "*_mask.png" or "masks/*"')
        return exclude

    @field_validator("patient_pattern")
    @classmethod
    def _has_one_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(
                f"'{pattern}' is not a regular expression ({error}); expected one such as '{PATTERN_EXAMPLE}'"
            ) from None
        if groups != 1:
            raise ValueError(
                f"'{pattern}' has {groups or 'no'} group{'s' * (groups > 1)} in parentheses; expected one, the patient "
                f"id, such as '{PATTERN_EXAMPLE}'{'; (?:...) groups without taking' * (groups > 1)}"
            )
        return pattern

    @field_validator("range", mode="before")
    @classmethod
    def _low_to_high(cls, value: Any) -> Any:
        numbers = value if isinstance(value, (list, tuple)) else ()
        is_range = len(numbers) == 2 and all(type(v) in (int, float) and math.isfinite(v) for v in numbers)
        if value != "auto" and not (is_range and numbers[0] < numbers[1]):
            raise ValueError(f'{value!r} is not accepted; expected "auto" or [low, high] with low < high')
        return value


class BackboneConfig(Settings):
    """The encoder: any ViT or ResNet of timm."""

    name: str = "vit_small_patch16_224"
    """Model name in timm."""
    overrides: dict[str, bool | int | float | str | list[int]] = Field(default_factory=dict)
    """Keyword arguments for `timm.create_model`, e.g. `{ patch_size = 8, depth = 4 }`."""
    init: str = "none"
    """Initial weights: "none" (random), "imagenet" (pre-trained weights of timm), or the path of a weights file."""
    drop_path: Fraction = 0.1
    """Rate of stochastic depth in the student (DINO: 0.1)."""


class CropsConfig(Settings):
    """Number and size of the views. DINO: 2 global views of 224 px and 8 local views of 96 px."""

    n_global: Literal[2] = 2
    """Number of global views per image."""
    global_size: Annotated[int, Field(ge=8)] = 224
    """Side of a global view, in pixels."""
    n_local: Annotated[int, Field(ge=0, le=64)] = 8
    """Number of local views per image."""
    local_size: Annotated[int, Field(ge=8)] = 96
    """Side of a local view, in pixels; at most `global_size`."""


CV_AUROC = "cv-auroc"
KNN_AUROC = "knn-auroc"
"""Scores from labels, see `searching.labelled_score`."""


class ProbeConfig(Settings):
    """The fixed panel that scores every trial: the same held-out images and the same pre-drawn views."""

    images: Annotated[int, Field(ge=3)] = 256
    """Number of held-out images; whole patients are held out where patient ids are known. If it is more than half of
    the images, a built-in study holds out a third of them, at least 20; a number that you set is never changed."""
    views: Annotated[int, Field(ge=2, le=64)] = 2
    """Number of views of each image at each level."""
    levels: Annotated[tuple[str, ...], Field(min_length=1)] = ("strong@0.25", "strong@0.5", "strong")
    """Scales that the panel's views are drawn from, mild to strong: names or scale cards."""
    score: Literal["dprime", "pair_auroc", "alpha_req", "cv-auroc", "knn-auroc"] = "dprime"
    """Score of a trial: separation of pairs ("dprime", "pair_auroc"), slope of the spectrum ("alpha_req"), or, with
    labels, macro AUROC on the train and val images of `labelled`: of cross-validated ridge regression ("cv-auroc",
    `--labels`), or of nearest neighbors, val images among train images ("knn-auroc")."""
    labelled: tuple[str, ...] | None = None
    """Labelled datasets of a score from labels: prepared names, folders or tables. Test images are never read."""
    labelled_root: str | None = None
    """Folder in which the datasets named in `labelled` were prepared; if not set, the default of `augscale data`."""
    unlabelled: tuple[str, ...] = ()
    """Labels in `labelled` that mean "no label", e.g. ["-1"]; such images are left out."""
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Number of bootstrap resamples of the panel's patients for the intervals."""
    min_effective_rank: Annotated[float, Field(ge=1)] = 2.0
    """Effective rank (RankMe) of the panel's embeddings below which a trial counts as collapsed."""
    min_information: Annotated[float, Field(ge=0)] = 0.1
    """Mutual information of image and teacher output at the end of training, in nats, below which a trial counts as
    collapsed; 0 switches the check off."""
    seed: int = 0
    """Seed of the panel: its images, views and bootstrap."""

    @property
    def uses_labels(self) -> bool:
        return self.score in (CV_AUROC, KNN_AUROC)

    @property
    def separation(self) -> Literal["dprime", "pair_auroc"]:
        """The pair separation shown for every level: the score itself if it is one, else d'."""
        return self.score if self.score in ("dprime", "pair_auroc") else "dprime"

    @model_validator(mode="after")
    def _labels_where_needed(self) -> ProbeConfig:
        if self.uses_labels and not self.labelled:
            raise ValueError(
                f'score = "{self.score}" needs labels: expected probe.labelled (--labels), e.g. labelled = '
                '["aptos2019"] or a folder'
            )
        if self.unlabelled and not self.labelled:
            raise ValueError(f"unlabelled = {list(self.unlabelled)} is about labels; expected probe.labelled, too")
        if self.labelled and not self.uses_labels:
            raise ValueError(
                f'labelled = {list(self.labelled)} is only used by score = "{CV_AUROC}" or "{KNN_AUROC}"; '
                f'found score = "{self.score}"'
            )
        return self


LOCAL_PARAMETERS = ("local_crop_low", "local_crop_width")
"""Ranges of `[space]` that have no effect, and are not searched, if trials draw no local crops."""


class SpaceConfig(Settings):
    """The search space: values that a trial may take. Each range is [low, high]; low = high fixes the value."""

    global_crop_low: Range = (0.2, 1.0)
    """Range of the smallest area of a global crop, as a fraction of the image; the largest area is always 1."""
    local_crop_low: Range = (0.05, 1.0)
    """Range of the smallest area of a local crop, as a fraction of the image; not searched if `crops.n_local` is 0."""
    local_crop_width: Range = (0.0, 0.6)
    """Range of the largest minus the smallest area of a local crop; the largest never exceeds 1. Not searched if
    `crops.n_local` is 0."""
    jitter: Range = (0.0, 0.8)
    """Range of the strength of brightness and contrast jitter, within 0 to 2; saturation is 1/2 and hue 1/4 of it, as
    in DINO, unless `free` names them."""
    free: dict[str, Range] = Field(default_factory=dict)
    """Ranges of further fields of the scales, by name, e.g. `{ hue = [0, 0.2], grayscale_p = [0, 0.4] }`."""
    base: str = "strong"
    """Scales that every field outside the space is taken from: a name or a scale card."""

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
    """Total number of trials, counting every trial that was ever started."""
    sampler: Literal["tpe", "random", "qmc"] = "tpe"
    """Optuna sampler; "qmc" is a scrambled Sobol sequence."""
    startup_trials: Annotated[int, Field(ge=0)] = 10
    """Number of random trials, after the controls, before the TPE sampler learns from results."""
    controls: tuple[str, ...] = ("none", "weak", "strong", "weak+med")
    """Scales that are always run first and never pruned."""
    null_trials: Annotated[int, Field(ge=0)] = 1
    """Number of controls, in the order listed, that are also run with learning rate 0; a score counts as learned only
    above the score of these runs."""
    rungs: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.25, 0.5, 1.0)
    """Shares of the steps at which a trial is scored and may be pruned; rising, the last is 1."""
    prune: bool = True
    """End a trial at a rung where its score is behind."""
    keep_best: Annotated[int, Field(ge=1)] = 3
    """Number of best trials whose weights are kept; the weights of the controls always are."""
    keep_weights: Literal["best", "all", "rungs"] = "best"
    """Weights to keep: "best" as `keep_best` says; "all" of every complete trial; "rungs" also at every rung, pruned
    trials included, so that `augscale validate` can compare trials at equal steps."""
    seed: int = 0
    """Root seed of initial weights, data order, views and sampler."""
    max_failures: Annotated[int, Field(ge=1)] = 5
    """Number of failed trials in a row that stops the search; one is enough if a wrong setting makes all trials fail,
    or if a resumed run fails as it did before."""

    @field_validator("rungs")
    @classmethod
    def _rungs_rise_to_one(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if list(rungs) != sorted(set(rungs)) or rungs[0] <= 0 or rungs[-1] != 1:
            raise ValueError(f"rungs = {list(rungs)}: expected rising shares above 0 that end in 1")
        return rungs


class ConfirmConfig(Settings):
    """Confirmation after the search: the best scales and controls again, at full trial length, on fresh seeds."""

    top_k: Annotated[int, Field(ge=0)] = 2
    """Number of best trials, controls not counted, to run again."""
    seeds: Annotated[int, Field(ge=0)] = 3
    """Number of fresh seeds for each; 0 skips the confirmation."""
    controls: tuple[str, ...] = ("weak", "strong")
    """Controls to run again; each must be one of `search.controls`."""


class StudyConfig(Settings):
    """Every setting of a study."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "study"
    """Name of the study; the run folder of its search is `runs/NAME` unless `--out` is given."""
    description: str = ""
    """One line about the purpose of the study."""
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
    """Settings that a resumed run may change, because no result depends on them. Images are compared by fingerprint."""

    @property
    def draws_local_crops(self) -> bool:
        """False if trials have global views only: then scales of local crops have no effect and are not searched."""
        return self.pretrain.multi_crop and self.crops.n_local > 0

    @model_validator(mode="after")
    def _fits_together(self) -> StudyConfig:
        if self.pretrain.batch_norm == "frozen" and self.backbone.init == "none":
            raise ValueError(
                'pretrain.batch_norm = "frozen" with backbone.init = "none": a network without training has no '
                'statistics to keep; expected batch_norm = "train", or init = "imagenet" or a weights file'
            )
        if self.pretrain.head_warmup_fraction and self.backbone.init == "none":
            raise ValueError(
                f'pretrain.head_warmup_fraction = {self.pretrain.head_warmup_fraction:g} with backbone.init = "none": '
                'a network without training has nothing to keep; expected 0, or init = "imagenet" or a weights file'
            )
        if self.crops.n_local and not self.pretrain.multi_crop:
            raise ValueError(
                f'pretrain.method = "{self.pretrain.method}" takes two global views; found crops.n_local = '
                f"{self.crops.n_local}, expected 0"
            )
        if self.crops.local_size > self.crops.global_size:
            raise ValueError(
                f"crops.local_size = {self.crops.local_size} is above crops.global_size = "
                f"{self.crops.global_size}; expected local <= global"
            )
        return self


def source_list(data: str | Path | list[str | Path] | None) -> list[str] | None:
    """One or several sources, as `data.sources` has them; None for None."""
    if data is None:
        return None
    return [str(source) for source in ([data] if isinstance(data, str | Path) else data)]


def lasting_sources(config: DataConfig) -> list[str]:
    """The sources as absolute paths, so that they are found from any folder."""
    return [source if source == "synthetic" else str(Path(source).expanduser().absolute()) for source in config.sources]


def study_text(config: StudyConfig) -> str:
    """The study as the text of a TOML file that names every setting."""
    values = config.model_dump(mode="json", exclude_none=True)
    # TOML must be UTF-8: other bytes in file names are written as \\xNN, for the reader only.
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
        overrides: values by dotted key, e.g. {"search.trials": 12}; None values are ignored.
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


def sets_panel(study: str | Path | StudyConfig, overrides: Mapping[str, Any]) -> bool:
    """True if `probe.images` is the user's own: an override, or set in a study file or StudyConfig of his.

    Args:
        study: a study that can be read, as `load_study` takes it.
        overrides: values by dotted key.
    """
    if overrides.get("probe.images") is not None:
        return True
    if isinstance(study, StudyConfig):
        return "images" in study.probe.model_fields_set
    return Path(study).suffix == ".toml" and "images" in read_toml(Path(study)).get("probe", {})


def apply_overrides(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested values with overrides by dotted key, e.g. {"search.trials": 12}; None values are ignored."""
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
