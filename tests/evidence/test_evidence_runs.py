"""Runs of the evidence study in miniature: the whole chain, interruptions, failures, and several workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_data import write_tiny

from augscale.augmentation.scales import WEAK
from augscale.config import load_study
from augscale.errors import ConfigError, DivergedError
from benchmarks.evidence import runner
from benchmarks.evidence.__main__ import main
from benchmarks.evidence.data import pretraining_study
from benchmarks.evidence.layers import embed_layers
from benchmarks.evidence.measure import Measurer
from benchmarks.evidence.plan import PlannedRun
from benchmarks.evidence.runner import pending, perform, prepare_folder, work
from benchmarks.evidence.settings import load_settings

WEAK_RUN = PlannedRun(name="weak", seed=0, scales=WEAK, parts=("question",))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path_factory.getbasetemp() / "evidence-cache"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def measurer(tiny: tuple[Path, Path, Path], tmp_path: Path) -> Measurer:
    root, study_file, settings_file = tiny
    settings = load_settings(settings_file)
    return Measurer.build(pretraining_study(load_study(study_file), settings, root), settings, root, tmp_path / "files")


def _command(tiny: tuple[Path, Path, Path], out: Path, *more: str) -> list[str]:
    root, study, settings = tiny
    paths = ["--data-root", str(root), "--study", str(study), "--measure", str(settings), "--out", str(out)]
    return ["run", *paths, "--smoke", *more]


@pytest.fixture(scope="module")
def finished(tiny: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 14 runs of the smoke plan; tests only read it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(_command(tiny, out, "--workers", "2")) == 0
    return out


def test_smoke_plan_from_runs_to_tables(tiny: tuple[Path, Path, Path], finished: Path, tmp_path: Path) -> None:
    assert main(["collect", str(finished), "--to", str(tmp_path / "csv")]) == 0
    assert main(["tables", "--csv", str(tmp_path / "csv"), "--bootstrap", "20"]) == 0

    assert main(_command(tiny, tmp_path / "more", "--known", str(tmp_path / "csv"))) == 0
    assert not list((tmp_path / "more" / "results").iterdir())

    results = [json.loads(path.read_text()) for path in (finished / "results").iterdir()]
    assert {result["state"] for result in results} == {"complete"}
    assert len(results) == 14
    nulls = [result for result in results if result["kind"] == "null"]
    for name in ("scores", "outcomes", "draws"):
        first, second = (result["rungs"][-1][name] for result in nulls)
        if name == "scores":
            # Each is scored on its own views too, which differ.
            first, second = (
                {layer: {k: v for k, v in levels.items() if k != "own"} for layer, levels in one.items()}
                for one in (first, second)
            )
        assert first == second, f"without learning {name} are equal"
    weak = next(result for result in results if result["run"] == "weak-s0")
    assert [rung["fraction"] for rung in weak["rungs"]] == [0.25, 0.5, 1.0]
    assert set(weak["rungs"][0]["outcomes"]) == {"eyes"}
    assert set(weak["rungs"][2]["outcomes"]) == {"eyes", "synthetic_lesions", "eyes_grey"}
    assert set(weak["rungs"][2]["outcomes"]["eyes"]) == {"linear", "knn", "cv", "released"}
    assert len(weak["rungs"][2]["draws"]["eyes"]["cv"]) == 10
    assert {"own", "clean", "strong", "strong|large", "natural:eyes"} <= set(weak["rungs"][2]["scores"]["embedding"])
    assert {
        size: {name: len(areas) for name, areas in found.items()}
        for size, found in weak["rungs"][2]["labels"]["eyes"].items()
    } == {size: {"cv": 5, "knn": 5, "others": 5} for size in ("10", "20")}
    clean = weak["rungs"][2]["scores"]["embedding"]["clean"]
    assert 0 < clean["cka_to_start"] <= 1
    untrained = next(result for result in results if result["run"] == "untrained-s0")
    assert untrained["rungs"][0]["scores"]["embedding"]["clean"]["cka_to_start"] == 1
    assert not list((finished / "work").glob("*/state.pt"))
    tables = (tmp_path / "csv" / "tables.md").read_text()
    assert "## 11." in tables
    assert "cka_to_start, clean" in tables
    assert "crop_area of the scales" in tables
    assert "20 labelled images:" in tables
    null = re.search(
        r"With learning rate 0 \((\d) runs: .*?\) .* is (\S+) AUROC .* and (\S+) in \d+ label-free", tables
    )
    assert null is not None
    assert null.groups() == ("2", "0", "0")


def test_an_interrupted_run_ends_as_one_that_was_not(
    measurer: Measurer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = perform(WEAK_RUN, tmp_path / "whole", measurer)
    calls = 0
    network = Measurer.network

    def dies_at_the_second_rung(self: Measurer, *args: Any, **options: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return network(self, *args, **options)

    monkeypatch.setattr(Measurer, "network", dies_at_the_second_rung)
    with pytest.raises(KeyboardInterrupt):
        perform(WEAK_RUN, tmp_path / "parts", measurer)
    progress = tmp_path / "parts" / "work" / WEAK_RUN.run_id / "progress.json"
    assert len(json.loads(progress.read_text())["rungs"]) == 1
    resumed = perform(WEAK_RUN, tmp_path / "parts", measurer)

    for record in (whole, resumed):
        for rung in record["rungs"]:
            del rung["seconds"]
    assert resumed["rungs"] == whole["rungs"]


def test_a_failed_run_is_recorded_with_its_reason_and_not_tried_again(
    measurer: Measurer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*args: Any, **options: Any) -> None:
        raise DivergedError("loss is nan at step 3")

    monkeypatch.setattr(runner, "pretrain", diverges)
    prepare_folder(tmp_path / "out", measurer.study, measurer.settings)

    assert work(tmp_path / "out", [WEAK_RUN], measurer) == 1
    assert work(tmp_path / "out", [WEAK_RUN], measurer) == 0
    result = json.loads((tmp_path / "out" / "results" / "weak-s0.json").read_text())
    assert (result["state"], result["reason"]) == ("failed", "loss is nan at step 3")
    monkeypatch.undo()
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "cache"))
    assert work(tmp_path / "out", [WEAK_RUN], measurer, retry_failed=True) == 1
    assert json.loads((tmp_path / "out" / "results" / "weak-s0.json").read_text())["state"] == "complete"


def test_another_folder_of_settings_is_refused(measurer: Measurer, tmp_path: Path) -> None:
    prepare_folder(tmp_path, measurer.study, measurer.settings)
    changed = measurer.settings.model_copy(update={"repeats": 1})

    prepare_folder(tmp_path, measurer.study, measurer.settings)
    with pytest.raises(ConfigError, match=r"measure\.toml: other settings \(repeats: \d, now 1\)"):
        prepare_folder(tmp_path, measurer.study, changed)


def test_runs_of_a_killed_and_of_a_stopped_process_are_finished(
    tiny: tuple[Path, Path, Path], finished: Path, tmp_path: Path
) -> None:
    """Three of the 14 runs; the others are there already."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks.evidence", *_command(tiny, out, "--worker")]
    prepare_folder(out, load_study(tiny[1]), load_settings(tiny[2]))
    missing = ("strong-s0.json", "weak-s0.json", "weak-s1.json")
    for path in (finished / "results").iterdir():
        if path.name not in missing:
            shutil.copy(path, out / "results")
    assert len(list((out / "results").iterdir())) == 14 - len(missing)
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as first:
        _wait_for(lambda: list((out / "work").glob("*-s?/state.pt")))
        first.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        held = [path.parent.name for path in (out / "work").glob("*-s?/lock")]
        first.send_signal(signal.SIGCONT)
        _wait_for(lambda: list((out / "work").glob("*-s?/state.pt")))
        first.kill()
    assert first.returncode == -signal.SIGKILL
    assert held

    assert main(_command(tiny, out, "--worker")) == 0

    results = [json.loads(path.read_text()) for path in (out / "results").iterdir()]
    assert len(results) == 14
    assert {result["state"] for result in results} == {"complete"}


def test_labels_of_a_finished_run_are_those_that_the_run_would_have_measured(
    tiny: tuple[Path, Path, Path], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, root = tmp_path / "out", tiny[0]
    shutil.copytree(finished, out)
    kept = {file: json.loads(file.read_text()) for file in sorted((out / "results").glob("*.json"))}
    trained = [file for file, result in kept.items() if result["kind"] == "run"]
    for file in trained[:2]:
        result = json.loads(file.read_text())
        assert result["rungs"][-1].pop("labels")["eyes"]["10"]["cv"]
        file.write_text(json.dumps(result))
    command = ["labels", str(out), "--data-root", str(root), "--datasets", "eyes"]

    assert main([*command, "--part", "nothing"]) == 0
    assert "0 runs measured" in capsys.readouterr().out
    assert main(command) == 0
    assert "2 runs measured" in capsys.readouterr().out

    assert {file: json.loads(file.read_text()) for file in kept} == kept


def _wait_for(condition: Any) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "the worker did not start a run"
        time.sleep(0.02)


def test_pending_follows_the_plan(tmp_path: Path) -> None:
    plan = [PlannedRun(name=name, seed=seed) for seed in (0, 1) for name in ("b", "a")]
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a-s0.json").write_text('{"state": "failed"}')
    (tmp_path / "results" / "b-s1.json").write_text('{"state": "comp')

    assert [run.run_id for run in pending(tmp_path, plan)] == ["b-s0", "b-s1", "a-s1"]
    assert [run.run_id for run in pending(tmp_path, plan, retry_failed=True)] == ["b-s0", "a-s0", "b-s1", "a-s1"]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("vit_tiny_patch16_224", {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}),
        ("resnet10t", {"channels": [8, 8, 16, 24], "stem_width": 8}),
        ("tf_efficientnet_lite0", {}),
    ],
)
def test_layers_are_those_of_the_network(name: str, overrides: dict[str, Any]) -> None:
    from augscale.config import BackboneConfig
    from augscale.networks.backbones import build_backbone
    from augscale.networks.head import DINOHead

    backbone = build_backbone(BackboneConfig(name=name, overrides=overrides), 32).train()
    head = DINOHead(backbone.embed_dim, 16, hidden_dim=16, bottleneck_dim=8)
    views = torch.randn(5, 3, 32, 32)

    layers = embed_layers(backbone, head, views, precision="fp32")

    assert backbone.training
    backbone.eval()
    model: Any = backbone.model
    with torch.inference_mode():
        embedding = backbone(views)
        if "efficientnet" in name:
            earlier = model.blocks[:-1](model.bn1(model.conv_stem(views))).mean(dim=(2, 3))
        elif name.startswith("vit"):
            tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(views))))
            earlier = model.blocks[:-1](tokens)[:, 1:].mean(dim=1)
        else:
            stem = model.maxpool(model.act1(model.bn1(model.conv1(views))))
            earlier = model.layer3(model.layer2(model.layer1(stem))).mean(dim=(2, 3))
        bottleneck = head.mlp(embedding)
    for layer, expected in (("embedding", embedding), ("earlier", earlier), ("bottleneck", bottleneck)):
        torch.testing.assert_close(torch.from_numpy(layers[layer]), expected, atol=1e-5, rtol=1e-4)
