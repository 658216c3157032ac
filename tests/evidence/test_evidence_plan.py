"""The plan of the evidence study."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from augscale.augmentation.scales import STRONG, WEAK, WEAK_MED
from augscale.config import SpaceConfig, load_study
from augscale.searching.space import params_from_scales
from benchmarks.evidence.plan import PlannedRun, full_plan, one_at_a_time, pretrained_plan, spread_scales


@pytest.fixture(scope="module")
def plan() -> list[PlannedRun]:
    return full_plan(load_study("evidence").space)


def test_every_run_is_planned_once(plan: list[PlannedRun]) -> None:
    assert max(Counter(run.run_id for run in plan).values()) == 1


def test_spread_has_24_scales_and_the_controls_with_two_seeds(plan: list[PlannedRun]) -> None:
    seeds = Counter(run.name for run in plan if "spread" in run.parts)

    assert len(seeds) == 28
    assert set(seeds.values()) == {2}


def test_fresh_scales_are_none_of_the_spread(plan: list[PlannedRun]) -> None:
    fresh = [run for run in plan if run.parts == ("fresh",)]

    assert [run.run_id for run in fresh] == [f"sobol-{number}-s0" for number in range(24, 40)]
    spread = {str(run.scales) for run in plan if "spread" in run.parts}
    assert not spread & {str(run.scales) for run in fresh}
    assert len({str(run.scales) for run in fresh}) == 16


def test_question_has_five_seeds_of_everything(plan: list[PlannedRun]) -> None:
    seeds = Counter(run.name for run in plan if "question" in run.parts)

    assert set(seeds) == {"none", "weak", "strong", "weak+med", *one_at_a_time()}
    assert set(seeds.values()) == {5}


def test_an_early_stop_leaves_whole_parts(plan: list[PlannedRun]) -> None:
    runs = [run for run in plan if run.kind == "run"]

    assert {run.seed for run in runs[:28]} == {0}
    assert [run.seed for run in runs[28:36]] == [1] * 4 + [2] * 4
    assert {run.name for run in runs[28:36]} == {"none", "weak", "strong", "weak+med"}
    assert {run.name for run in runs[36:54]} == set(one_at_a_time())
    assert [run.seed for run in runs[36:54]] == [0] * 6 + [1] * 6 + [2] * 6
    assert all(run.name.startswith("sobol") and run.seed == 1 for run in runs[54:78])
    assert {run.parts for run in runs[78:94]} == {("fresh",)}
    assert {run.seed for run in runs[94:]} == {3, 4}


def test_spread_scales_lie_in_the_space_and_fill_it() -> None:
    space = load_study("evidence").space
    found = list(spread_scales(space).values())

    assert all(params_from_scales(space, scales) is not None for scales in found)
    for name, (low, high) in (("jitter_p", space.free["jitter_p"]), ("hue", space.free["hue"])):
        values = sorted(getattr(scales, name) for scales in found)
        quarter = (high - low) / 4
        counts = Counter(min(3, int((value - low) / quarter)) for value in values)
        # A scrambled Sobol sequence puts 16 of its first 16 points evenly into quarters, 8 more nearly so.
        assert min(counts[part] for part in range(4)) >= 4


def test_fewer_spread_scales_are_the_first_ones() -> None:
    space = SpaceConfig()

    assert spread_scales(space, 3) == dict(list(spread_scales(space, 10).items())[:3])


def test_one_thing_at_a_time_differs_in_that_thing_only() -> None:
    single = one_at_a_time()

    crops = {"global_crops_scale", "local_crops_scale", "aspect_ratio"}
    colour = {"brightness", "contrast"}
    assert _differing(single["weak-crops+strong-jitter"], STRONG) <= crops
    assert _differing(single["weak-crops+strong-jitter"], WEAK) == colour
    assert _differing(single["strong-crops+weak-jitter"], STRONG) == colour
    assert _differing(single["jitter"], STRONG) == crops
    assert _differing(single["weak+noise"], WEAK_MED) == {
        "med_blur_std",
        "med_blur_p",
        "bias_field_coefficients",
        "bias_field_p",
    }
    assert _differing(single["weak+bias"], WEAK) == {"bias_field_coefficients", "bias_field_p"}


def _differing(a: object, b: object) -> set[str]:
    return {name for name in vars(a) if getattr(a, name) != getattr(b, name)}


def test_a_pretrained_study_begins_with_its_gate_and_ends_with_the_spread() -> None:
    plan = pretrained_plan(load_study("evidence-imagenet").space)

    assert max(Counter(run.run_id for run in plan).values()) == 1
    trained = [run for run in plan if run.kind == "run"]
    gate = ["none", "strong", "jitter", "weak+noise", "grey", "tiny-crops"]
    assert [run.run_id for run in trained[:12]] == [f"{name}-s{seed}" for seed in (0, 1) for name in gate]
    spread = Counter(run.name for run in trained if "spread" in run.parts)
    assert len(spread) == 28
    assert set(spread.values()) == {2}
    assert {"none", "weak", "strong", "weak+med"} < set(spread)
    assert [run.name for run in plan if run.kind == "null"] == ["null-none", "null-strong"]
    assert [run.run_id for run in plan if run.kind == "untrained"] == ["untrained-s0", "untrained-s1"]
    assert {run.name for run in trained[-24:]} == {f"sobol-{number:02d}" for number in range(12, 24)}, "last half"


@pytest.mark.parametrize("folder", ["", "methods/simclr", "methods/mocov3", "imagenet"])
def test_committed_studies_keep_their_scales_local_crops_included(folder: str) -> None:
    """A search without local crops samples no scales of them; these did. The file has six digits."""
    evidence = Path(__file__).parents[2] / "docs" / "evidence" / folder
    found = spread_scales(load_study(evidence / "study.toml").space, 64)
    with open(evidence / "runs.csv", encoding="utf-8", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file) if row["name"].startswith("sobol-")}

    assert len(rows) >= 8
    for name, row in rows.items():
        for field, value in found[name].model_dump().items():
            parts = value if isinstance(value, tuple) else (value,)
            columns = [f"{field}_{place}" for place in range(len(parts))] if isinstance(value, tuple) else [field]
            assert [float(row[column]) for column in columns] == pytest.approx(list(parts), rel=5e-6), (name, field)
    assert len({found[name].local_crops_scale for name in rows}) == len(rows)
