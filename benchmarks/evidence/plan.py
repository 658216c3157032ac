"""Which runs a study consists of, and in which order, so that an early stop leaves a usable study.

The setting `plan`, or `--plan`, chooses one. "scratch" (`full_plan`), from random weights:

Part "spread": scales from a scrambled Sobol sequence over the study's search space and the four controls, two seeds.
Part "fresh": further scales of that sequence, added later to test what the spread had suggested on unseen scales.
Part "null": the controls with learning rate 0.
Part "question": the controls with five seeds, and scales that vary one thing at a time between weak and strong.

"pretrained" (`pretrained_plan`), from pre-trained weights: baselines, nulls, and
Part "gate": settings that should differ much, two seeds. If their outcomes do not differ by more than two seeds do,
the rest is not worth its hours.
Part "spread": as above.

"long" (`long_plan`): the same runs in an order for little time, and nulls of few steps.

"methods" (`methods_plan`), the same for every method of pre-training, so that methods can be compared: untrained
networks, nulls, and
Part "methods": the controls and the first scales of the spread, two seeds, and a third of the controls.
Part "hard": the controls with weighed pairs (`pretrain.pair_weighting = "hard"`), three seeds.

"check" (`check_plan`) asks only whether a method learns: untrained network, nulls, two controls.

Seed k means the same weights, order and draws in every run, so that differences can be taken seed by seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy.stats import qmc

from augscale.augmentation.scales import NONE, STRONG, WEAK, WEAK_MED, AugmentationScales, load_scales
from augscale.config import SpaceConfig
from augscale.searching.space import distributions, scales_from_params
from augscale.seeding import derive_seed

Kind = Literal["run", "null", "untrained", "pixels8", "pixels16", "colour"]
Plan = Literal["scratch", "pretrained", "long", "methods", "check"]

CONTROLS = ("none", "weak", "strong", "weak+med")
NUM_SPREAD = 24
SPREAD_SEEDS = 2
NUM_FRESH = 16
QUESTION_SEEDS = 5
FIRST_SEEDS = 3
"""Of the question's, before the spread's second."""
METHODS_SPREAD = 8
METHODS_SEEDS = 2
HARD_SEEDS = 3
HARD = "hard-"
"""Beginning of the name of a run with weighed pairs, before the name of its scales."""
NO_LEARNING = (("lr", 0.0), ("min_lr", 0.0))
"""Everything but learning."""
SHORT_NULL_STEPS = 20
"""Of the nulls of `long_plan`. On CPUs a null equals its start to the last digit, whatever its length."""
_SOBOL_BITS = 6


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One row of the plan."""

    name: str
    """Of the scales, or of the baseline."""
    seed: int
    kind: Kind = "run"
    scales: AugmentationScales | None = None
    """None for baselines, which train nothing."""
    parts: tuple[str, ...] = ()
    """"spread", "question", "gate", "fresh", "methods", "hard", "null" or "baseline"."""
    recipe: tuple[tuple[str, Any], ...] = ()
    """Settings of `pretrain` that differ from the study's, by name."""

    @property
    def run_id(self) -> str:
        """A file name, e.g. "weak+med-s3"."""
        return f"{self.name}-s{self.seed}"


def one_at_a_time() -> dict[str, AugmentationScales]:
    """Scales between weak and strong, and the parts of weak+med, by name.

    The medical blur of weak+med has no effect (its kernel has radius 0), so noise and bias field are all its parts.
    `crops` has strong's crops and flips and nothing photometric; `jitter` all that is photometric in strong, and flips.
    """
    crop_fields = ("global_crops_scale", "local_crops_scale", "aspect_ratio")
    weak_crops, strong_crops, no_crops = (
        {name: getattr(scales, name) for name in crop_fields} for scales in (WEAK, STRONG, NONE)
    )
    noise = {name: getattr(WEAK_MED, name) for name in ("noise_std", "noise_p")}
    bias = {name: getattr(WEAK_MED, name) for name in ("bias_field_coefficients", "bias_field_p")}
    flips = {"horizontal_flip_p": STRONG.horizontal_flip_p}
    return {
        "weak-crops+strong-jitter": STRONG.model_copy(update=weak_crops),
        "strong-crops+weak-jitter": WEAK.model_copy(update=strong_crops),
        "crops": NONE.model_copy(update=strong_crops | flips),
        "jitter": STRONG.model_copy(update=no_crops),
        "weak+noise": WEAK.model_copy(update=noise),
        "weak+bias": WEAK.model_copy(update=bias),
    }


def spread_scales(space: SpaceConfig, count: int = NUM_SPREAD, seed: int = 0) -> dict[str, AugmentationScales]:
    """Scales spread evenly over a search space, by name "sobol-00", ...

    Args:
        space: whose free parameters span the space.
        count: at most 64.
        seed: of the scrambling; the first points are the same whatever `count` is.
    """
    ranges = distributions(space)
    sequence = qmc.Sobol(len(ranges), scramble=True, rng=derive_seed(seed, "evidence spread") % 2**32)
    points = sequence.random_base2(_SOBOL_BITS)[:count]
    found = {}
    for number, point in enumerate(points.tolist()):
        params = {
            name: range_.low + share * (range_.high - range_.low)
            for share, (name, range_) in zip(point, ranges.items(), strict=True)
        }
        found[f"sobol-{number:02d}"] = scales_from_params(space, params)
    return found


def full_plan(space: SpaceConfig) -> list[PlannedRun]:
    """All runs of the study in the order in which they are to be done.

    Baselines and nulls, seed 0 of the spread, three seeds of the controls and of one thing at a time, seed 1 of the
    spread, fresh scales, and the seeds that are left. So an early stop leaves something on both questions.
    """
    controls = {name: load_scales(name) for name in CONTROLS}
    spread, single = spread_scales(space), one_at_a_time()
    runs = baselines(QUESTION_SEEDS)
    runs += null_runs(controls)
    runs += _runs(controls, [0], ("spread", "question")) + _runs(spread, [0], ("spread",))
    first, later = range(FIRST_SEEDS), range(FIRST_SEEDS, QUESTION_SEEDS)
    runs += _runs(controls, [1], ("spread", "question")) + _runs(controls, first[2:], ("question",))
    runs += _runs(single, first, ("question",))
    runs += _runs(spread, range(1, SPREAD_SEEDS), ("spread",))
    further = spread_scales(space, NUM_SPREAD + NUM_FRESH)
    runs += _runs({name: further[name] for name in further if name not in spread}, [0], ("fresh",))
    runs += _runs(controls, later, ("question",)) + _runs(single, later, ("question",))
    return runs


def gate_scales() -> dict[str, AugmentationScales]:
    """Scales that should differ much downstream, by name."""
    single = one_at_a_time()
    tiny = {"global_crops_scale": (0.02, 0.1), "local_crops_scale": (0.02, 0.05)}
    return {
        "none": NONE,
        "strong": STRONG,
        "jitter": single["jitter"],
        "weak+noise": single["weak+noise"],
        "grey": STRONG.model_copy(update={"grayscale_p": 1.0}),
        "tiny-crops": STRONG.model_copy(update=tiny),
    }


def pretrained_plan(space: SpaceConfig) -> list[PlannedRun]:
    """The runs of a study that begins with pre-trained weights.

    The network before training is the same for all seeds but for its head; it is measured for each seed, so that every
    run has its start. The nulls are those of the scales whose views differ most. Both seeds of the controls and of half
    of the scales come before the other half, so that an early stop leaves what two seeds agree on.
    """
    gate, spread = gate_scales(), spread_scales(space)
    controls = {name: load_scales(name) for name in CONTROLS}
    runs = baselines(SPREAD_SEEDS) + null_runs({name: controls[name] for name in ("none", "strong")})
    runs += [
        PlannedRun(name=name, seed=seed, scales=scales, parts=("gate", "spread") if name in controls else ("gate",))
        for seed in range(SPREAD_SEEDS)
        for name, scales in gate.items()
    ]
    names = list(spread)
    first, later = (
        {name: spread[name] for name in part} for part in (names[: NUM_SPREAD // 2], names[NUM_SPREAD // 2 :])
    )
    for part in ({name: controls[name] for name in controls if name not in gate} | first, later):
        runs += _runs(part, range(SPREAD_SEEDS), ("spread",))
    return runs


def long_plan(space: SpaceConfig) -> list[PlannedRun]:
    """The runs of `pretrained_plan` for a device that is at hand for minutes: whatever has ended is of use.

    A null, the controls and the network before training, once for each seed; then one scale of the spread after
    another, each with both seeds; at last what is left of the gate, the other null and the baselines without a network.
    """
    runs = {run.run_id: run for run in pretrained_plan(space)}
    order = ["null-strong-s0"]
    for seed in range(SPREAD_SEEDS):
        order += [f"{name}-s{seed}" for name in (*CONTROLS, "untrained")]
    order += [f"{name}-s{seed}" for name in spread_scales(space) for seed in range(SPREAD_SEEDS)]
    order += [run_id for run_id in runs if run_id not in order]
    return [
        replace(run, recipe=(*run.recipe, ("steps", SHORT_NULL_STEPS))) if run.kind == "null" else run
        for run in (runs[run_id] for run_id in order)
    ]


def methods_plan(
    space: SpaceConfig, *, controls: Sequence[str] = CONTROLS, count: int = METHODS_SPREAD, hard_seeds: int = HARD_SEEDS
) -> list[PlannedRun]:
    """The runs of one method in the comparison of methods, in the order in which they are to be done.

    Untrained networks and nulls, the controls and scales with seed 0, the same with seed 1, then the controls with
    weighed pairs, and what these lack of plain ones. The scales are those of `full_plan` in the same space.

    Args:
        space: the same for all methods.
        controls: their names.
        count: number of scales of the spread.
        hard_seeds: of the controls, with weighed and plain pairs.
    """
    named, spread = {name: load_scales(name) for name in controls}, spread_scales(space, count)
    runs = _untrained(METHODS_SEEDS) + null_runs({name: load_scales(name) for name in ("none", "strong")})
    for seed in range(METHODS_SEEDS):
        runs += _runs(named, [seed], ("methods",)) + _runs(spread, [seed], ("methods",))
    for seed in range(hard_seeds):
        if seed >= METHODS_SEEDS:
            runs += _runs(named, [seed], ("methods",))
        runs += [
            PlannedRun(
                name=HARD + name, seed=seed, scales=scales, parts=("hard",), recipe=(("pair_weighting", "hard"),)
            )
            for name, scales in named.items()
        ]
    return runs


def check_plan() -> list[PlannedRun]:
    """Whether a method learns at all: one seed of two controls."""
    controls = {name: load_scales(name) for name in ("none", "weak")}
    return _untrained(1) + null_runs(controls) + _runs(controls, [0], ("methods",))


def planned_runs(plan: Plan, space: SpaceConfig, *, smoke: bool = False) -> list[PlannedRun]:
    """All runs of the plan of a name.

    Args:
        smoke: a few runs of every kind instead, to try the whole chain.
    """
    if plan == "check":
        return check_plan()
    if plan == "methods":
        return methods_plan(space, controls=("weak", "strong"), count=2, hard_seeds=1) if smoke else methods_plan(space)
    if smoke:
        return smoke_plan(space)
    plans = {"scratch": full_plan, "pretrained": pretrained_plan, "long": long_plan}
    return plans[plan](space)


def null_runs(controls: dict[str, AugmentationScales]) -> list[PlannedRun]:
    """The controls with learning rate 0: whatever differs between them is no learning."""
    return [
        PlannedRun(name=f"null-{name}", seed=0, kind="null", scales=scales, parts=("null",), recipe=NO_LEARNING)
        for name, scales in controls.items()
    ]


def smoke_plan(space: SpaceConfig) -> list[PlannedRun]:
    """A few runs of every kind, to try the whole chain."""
    scales = {name: load_scales(name) for name in ("weak", "strong")} | spread_scales(space, 2)
    nulls = null_runs({name: load_scales(name) for name in ("none", "strong")})
    return baselines(1) + nulls + _runs(scales, [0, 1], ("spread", "question"))


def baselines(num_seeds: int) -> list[PlannedRun]:
    """What needs no pre-training: pixels and colours, and the network that each seed starts from."""
    kinds: Sequence[Kind] = ("colour", "pixels8", "pixels16")
    fixed = [PlannedRun(name=kind, seed=0, kind=kind, parts=("baseline",)) for kind in kinds]
    return fixed + _untrained(num_seeds)


def _untrained(num_seeds: int) -> list[PlannedRun]:
    return [PlannedRun(name="untrained", seed=seed, kind="untrained", parts=("baseline",)) for seed in range(num_seeds)]


def _runs(named: dict[str, AugmentationScales], seeds: Iterable[int], parts: tuple[str, ...]) -> list[PlannedRun]:
    return [
        PlannedRun(name=name, seed=seed, scales=scales, parts=parts) for seed in seeds for name, scales in named.items()
    ]
