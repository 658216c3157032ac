"""lightly-train in the throughput benchmark, as far as it can be tested without lightly-train."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from augscale.config import StudyConfig, load_study
from benchmarks import throughput, training_loops
from benchmarks.lightly_train_recipe import link_images, pretrain_arguments

STUDY = {
    "backbone.name": "vit_tiny_patch16_224",
    "backbone.init": "none",
    "crops.global_size": 112,
    "crops.local_size": 48,
    "crops.n_local": 6,
    "pretrain.out_dim": 4096,
    "pretrain.batch_size": 16,
}


@pytest.fixture
def config() -> StudyConfig:
    return load_study("fundus-vits16", STUDY)


def test_the_studys_geometry_reaches_lightly_train(config: StudyConfig):
    arguments = pretrain_arguments(config)
    transform = arguments["transform_args"]
    assert transform["image_size"] == (112, 112)
    assert transform["local_view"]["view_size"] == (48, 48)
    assert transform["local_view"]["num_views"] == 6
    assert arguments["method_args"]["output_dim"] == 4096
    assert arguments["batch_size"] == 16
    assert arguments["model"] == "timm/vit_tiny_patch16_224"
    assert arguments["model_args"]["img_size"] == 112


def test_without_local_crops_lightly_train_is_told_so():
    arguments = pretrain_arguments(load_study("fundus-vits16", STUDY | {"crops.n_local": 0}))
    assert arguments["transform_args"]["local_view"] is None  # left out, it would make six


def test_images_are_linked_as_often_as_an_epoch_needs(tmp_path: Path):
    files = [tmp_path / "a.jpg", tmp_path / "b.png"]
    for file in files:
        file.write_text(file.name)
    link_images(files, tmp_path / "images", 5)
    links = sorted((tmp_path / "images").iterdir())
    assert [link.read_text() for link in links] == ["a.jpg", "b.png", "a.jpg", "b.png", "a.jpg"]


def test_a_loop_without_its_package_is_left_out_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lightly_train" else object())
    arguments = argparse.Namespace(against=list(throughput.NEEDS), others="0x1")
    loops = {contender.loop for contender in throughput._contenders(arguments, "cpu")}
    assert loops == {"products", "augscale", "official", "lightly"}
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{loop} is left out: lightly-train is not installed (pip install lightly-train)"
        for loop in ("lightly-train bf16-mixed", "lightly-train 32-true")
    ]


def test_loops_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["throughput", "--against", "official, lightly-train 32-true"])
    assert throughput._arguments().against == ["official", "lightly-train 32-true"]
    monkeypatch.setattr(sys, "argv", ["throughput", "--against", "official,lightly-trian"])
    with pytest.raises(SystemExit):
        throughput._arguments()
    assert "lightly-trian: not one of" in capsys.readouterr().err


def test_every_other_loop_can_be_run():
    assert set(throughput.NEEDS) <= set(training_loops.LOOPS)


class Watch:
    """Stands for `StepWatch`: no Lightning, no seconds."""

    waited = last_step_ended = 0.0

    def __init__(self, before_step: Callable[[], None]) -> None:
        self.before_step = before_step


@pytest.mark.parametrize("workers", [0, 3])
def test_every_turn_has_its_steps_and_the_call_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: StudyConfig, workers: int
):
    """With loader workers a turn begins with the batches that they have made while others had theirs."""
    begun, answers = [], []
    linked: list[int] = []

    def pretrain(images: Path, out: Path, *rest: Any) -> None:
        *_, precision, steps, watch = rest
        assert precision == "32-true"
        linked.append(len(list(images.iterdir())))
        for step in range(steps):
            watch.before_step()
            begun.append(step)

    call = ModuleType("benchmarks.lightly_train_call")
    call.StepWatch, call.pretrain = Watch, pretrain  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "benchmarks.lightly_train_call", call)
    monkeypatch.setitem(sys.modules, "lightly_train", ModuleType("lightly_train"))
    monkeypatch.setattr(training_loops, "_answer", lambda content: answers.append((len(begun), list(content))))
    (tmp_path / "a.jpg").touch()
    job = {"steps": 4, "turns": 2, "device": "cpu", "files": [str(tmp_path / "a.jpg")], "folder": str(tmp_path)}
    loop = training_loops.LOOPS["lightly-train 32-true"]
    assert isinstance(loop, functools.partial)
    loop(config, job, workers)

    warm_up, ahead = training_loops.WARM_UP_STEPS, 2 * workers
    first, second = warm_up + ahead + 4, warm_up + 2 * (ahead + 4)
    counted_from = [(warm_up + ahead, [])], [(first + ahead, [])]
    assert answers == [
        (warm_up, []),
        *(counted_from[0] if workers else []),
        (first, ["waiting for data"]),
        *(counted_from[1] if workers else []),
        (second, ["waiting for data"]),
        (second + 1, ["import", "before the first step", "after the last step"]),
    ]
    assert linked == [(second + 1) * 16]  # one epoch


@pytest.mark.parametrize("workers", [0, 2])
def test_what_loaders_have_made_ahead_is_used_up_before_a_turn_counts(monkeypatch: pytest.MonkeyPatch, workers: int):
    steps, answers = [], []

    def answer(content: dict[str, float]) -> None:
        answers.append((len(steps), list(content)))
        if len(answers) > 4:
            raise SystemExit

    def step() -> float:
        steps.append(None)
        return 0.0

    monkeypatch.setattr(training_loops, "_answer", answer)
    with pytest.raises(SystemExit):
        training_loops._run_steps(step, {"steps": 5, "device": "cpu"}, workers)
    begin = training_loops.WARM_UP_STEPS
    if workers:
        assert [count - begin for count, _ in answers] == [0, 4, 9, 13, 18]
        assert [bool(content) for _, content in answers] == [False, False, True, False, True]
    else:
        assert [count - begin for count, _ in answers] == [0, 5, 10, 15, 20]
