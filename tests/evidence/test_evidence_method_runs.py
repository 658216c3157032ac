"""Runs of other methods than DINO in miniature: the plan, the whole chain, and what each run is trained with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_data import write_tiny

from augscale.augmentation.scales import WEAK
from augscale.config import load_study
from augscale.errors import DataError
from benchmarks.evidence import runner
from benchmarks.evidence.__main__ import main
from benchmarks.evidence.data import pretraining_study
from benchmarks.evidence.measure import Measurer
from benchmarks.evidence.plan import CONTROLS, PlannedRun, check_plan, methods_plan, spread_scales
from benchmarks.evidence.runner import perform, study_of
from benchmarks.evidence.settings import load_settings

HARD_RUN = PlannedRun(name="hard-weak", seed=0, scales=WEAK, parts=("hard",), recipe=(("pair_weighting", "hard"),))
STUDIES = ("evidence-simclr", "evidence-mocov3", "evidence-dinov2")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path_factory.getbasetemp() / "evidence-cache"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


def _measurer(tiny: tuple[Path, Path, Path], folder: Path, method: str) -> Measurer:
    root, study_file, settings_file = tiny
    settings = load_settings(settings_file).model_copy(update={"datasets": ("eyes",), "early_datasets": ()})
    two_views = {} if method == "dinov2" else {"crops.n_local": 0}
    study = load_study(study_file, {"pretrain.method": method, "pretrain.ibot_weight": 0.0} | two_views)
    return Measurer.build(pretraining_study(study, settings, root), settings, root, folder)


def test_an_early_stop_leaves_one_seed_of_all_scales_then_two_then_weighed_pairs() -> None:
    plan = methods_plan(load_study("evidence").space)

    trained = [run for run in plan if run.kind == "run"]
    names = [*CONTROLS, *(f"sobol-{number:02d}" for number in range(8))]
    assert [run.run_id for run in trained[:24]] == [f"{name}-s{seed}" for seed in (0, 1) for name in names]
    weighed = [f"hard-{name}-s{seed}" for seed in (0, 1) for name in CONTROLS]
    third = [*(f"{name}-s2" for name in CONTROLS), *(f"hard-{name}-s2" for name in CONTROLS)]
    assert [run.run_id for run in trained[24:]] == [*weighed, *third]
    assert [run.run_id for run in plan[:4]] == ["untrained-s0", "untrained-s1", "null-none-s0", "null-strong-s0"]
    assert len({run.run_id for run in plan}) == len(plan)
    by_name = {run.name: run.scales for run in trained}
    assert all(by_name[f"hard-{name}"] == by_name[name] for name in CONTROLS)
    assert [run.run_id for run in check_plan() if run.kind == "run"] == ["none-s0", "weak-s0"]


def test_methods_differ_from_dino_in_nothing_but_the_method() -> None:
    dino = load_study("evidence")
    for name in STUDIES:
        study = load_study(name)
        assert spread_scales(study.space, 8) == spread_scales(dino.space, 8)
        for part in ("data", "backbone", "probe"):
            assert getattr(study, part) == getattr(dino, part), (name, part)
        assert study.crops.global_size == dino.crops.global_size
        for setting in ("steps", "batch_size", "lr", "lr_scaling", "min_lr", "warmup_fraction", "weight_decay"):
            assert getattr(study.pretrain, setting) == getattr(dino.pretrain, setting), (name, setting)


def test_a_runs_own_recipe_is_all_that_differs() -> None:
    study = load_study("evidence-simclr")
    null = methods_plan(study.space)[2]

    assert study_of(HARD_RUN, study).pretrain.pair_weighting == "hard"
    assert study_of(HARD_RUN, study).pretrain.model_copy(update={"pair_weighting": "none"}) == study.pretrain
    assert (study_of(null, study).pretrain.lr, study_of(null, study).pretrain.min_lr) == (0.0, 0.0)


def test_the_plan_of_a_method_from_runs_to_csvs(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    root, study, settings = tiny
    command = ["run", "--data-root", str(root), "--study", str(study), "--measure", str(settings), "--smoke"]
    command += ["--plan", "methods", "--worker", "--set", "pretrain.method=mocov3", "--set", "crops.n_local=0"]
    command += ["--out", str(tmp_path / "out")]
    runner.prepare_folder(
        tmp_path / "out",
        load_study(study, {"pretrain.method": "mocov3", "crops.n_local": 0}),
        load_settings(settings),
    )
    assert main(command) == 0
    assert main(["collect", str(tmp_path / "out"), "--to", str(tmp_path / "csv")]) == 0

    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out" / "results").iterdir()}
    assert {result["state"] for result in results.values()} == {"complete"}
    assert len(results) == 2 + 2 + 2 * 4 + 2
    assert results["hard-weak-s0"]["recipe"] == {"pair_weighting": "hard"}
    plain, weighed = (results[name]["rungs"][-1] for name in ("weak-s0", "hard-weak-s0"))
    assert plain["loss"] != weighed["loss"]
    # Without learning only the run's own views differ.
    null, start = results["null-none-s0"]["rungs"][-1], results["untrained-s0"]["rungs"][-1]
    for protocol, outcome in null["outcomes"]["eyes"].items():
        assert outcome == start["outcomes"]["eyes"][protocol]
    assert null["scores"]["bottleneck"]["strong"] == start["scores"]["bottleneck"]["strong"]

    command[command.index("pretrain.method=mocov3")] = "pretrain.method=simclr"
    assert main([*command, "--known", str(tmp_path / "csv")]) == DataError.exit_code


@pytest.mark.parametrize("method", ["simclr", "dinov2"])
def test_runs_of_every_method_are_measured(tiny: tuple[Path, Path, Path], tmp_path: Path, method: str) -> None:
    record = perform(HARD_RUN, tmp_path, _measurer(tiny, tmp_path / "files", method))

    assert record["state"] == "complete"
    for rung in record["rungs"]:
        for layer in ("embedding", "earlier", "bottleneck"):
            assert rung["scores"][layer]["strong"]["pair_auroc"] is not None
    assert set(record["rungs"][-1]["outcomes"]["eyes"]) == {"linear", "knn", "cv"}


def test_images_of_one_patient_are_known_to_the_training(
    tiny: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurer = _measurer(tiny, tmp_path / "files", "simclr")
    seen: dict[str, Any] = {}

    class Stopped(Exception):
        pass

    def keeps_its_arguments(*args: Any, **options: Any) -> None:
        seen.update(options)
        raise Stopped

    monkeypatch.setattr(runner, "pretrain", keeps_its_arguments)
    with pytest.raises(Stopped):
        perform(HARD_RUN, tmp_path, measurer)
    numbers = np.unique(seen["patients"], return_counts=True)[1]
    # The tiny data has two training images of each of its 18 patients.
    assert len(seen["patients"]) == len(measurer.cache.images) == 36
    assert set(numbers.tolist()) == {2}
