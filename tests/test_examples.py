"""The scripts in examples/: a scale card in, ten training steps or the other program's own file and command out."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from document_blocks import ROOT
from PIL import Image

import augscale
from augscale.augmentation.export_scales import export_scales
from augscale.demo import render, synthetic_records

EXAMPLES = ROOT / "examples"
CARD = """[scales]
global_crops_scale = [0.6, 1.0]
local_crops_scale = [0.2, 0.5]
brightness = 0.3
contrast = 0.3
jitter_p = 0.7
blur_p = [0.9, 0.2, 0.4]
"""
DINO_LINES = """
parser.add_argument("--global_crops_scale", type=float, nargs="+")

class DataAugmentationDINO(object):
    color = [
        transforms.RandomHorizontalFlip(p=0.5),
        transforms.RandomApply(
            [transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)],
            p=0.8
        ),
        transforms.RandomGrayscale(p=0.2),
    ]
    first = [utils.GaussianBlur(1.0)]
    second = [utils.GaussianBlur(0.1), utils.Solarization(0.2)]
    local = [utils.GaussianBlur(p=0.5)]
"""
"""The lines of main_dino.py that depend on scales."""


def _missing(library: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A folder with best.toml and a few photographs."""
    (tmp_path / "best.toml").write_text(CARD)
    folder = tmp_path / "images" / "all"
    folder.mkdir(parents=True)
    for number, record in enumerate(synthetic_records(4, 0)[:6]):
        Image.fromarray(render(record.image_id, 0, 64)).save(folder / f"{number}.png")
    return tmp_path


def _run(folder: Path, script: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "LIGHTLY_TRAIN_CACHE_DIR": str(folder / "cache"),
        "LIGHTLY_TRAIN_EVENTS_DISABLED": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("script", "options"),
    [
        pytest.param("with_torchvision.py", (), id="torchvision"),
        pytest.param("with_lightly.py", ("--model", "resnet10t"), id="lightly", marks=_missing("lightly")),
    ],
)
def test_steps_with_the_card(reader, script, options):
    printed = _run(reader, script, "best.toml", "images", "--steps", "3", "--batch-size", "2", *options)
    losses = [float(loss) for loss in re.findall(r"^step \d+: loss (\d+\.\d+)$", printed, re.MULTILINE)]
    assert len(losses) == 3


@pytest.mark.timeout(900)
@_missing("lightly_train")
def test_ten_steps_with_lightly_train(reader):
    options = ("--steps", "10", "--batch-size", "2", "--model", "timm/resnet10t", "--accelerator", "cpu")
    _run(reader, "with_lightly_train.py", "best.toml", "images", "out", *options)
    assert (reader / "out" / "exported_models" / "exported_last.pt").is_file()


def test_official_dino_gets_flags_and_replaced_lines(reader):
    (reader / "dino").mkdir()
    (reader / "dino" / "main_dino.py").write_text(DINO_LINES)
    command = shlex.split(_run(reader, "with_official_dino.py", "best.toml", "dino", "images"))
    assert command[:3] == ["torchrun", "--nproc-per-node=1", "dino/main_dino_scaled.py"]
    parser = argparse.ArgumentParser()
    for flag in ("--arch", "--data_path", "--output_dir"):
        parser.add_argument(flag)
    for flag in ("--global_crops_scale", "--local_crops_scale"):
        parser.add_argument(flag, type=float, nargs="+")
    given = parser.parse_args(command[3:])
    assert (given.global_crops_scale, given.local_crops_scale) == ([0.6, 1.0], [0.2, 0.5])
    written = (reader / "dino" / "main_dino_scaled.py").read_text()
    ast.parse(written)
    for line in (
        "ColorJitter(brightness=0.3, contrast=0.3, saturation=0.2, hue=0.1)",
        "p=0.7\n",
        "first = [utils.GaussianBlur(0.9)]",
        "second = [utils.GaussianBlur(0.2), utils.Solarization(0.2)]",
        "local = [utils.GaussianBlur(p=0.4)]",
    ):
        assert line in written


def test_official_dino_of_another_version_is_refused(reader):
    (reader / "dino").mkdir()
    (reader / "dino" / "main_dino.py").write_text(DINO_LINES.replace("GaussianBlur(1.0)", "GaussianBlur(0.8)"))
    with pytest.raises(AssertionError, match=r"'utils.GaussianBlur\(1.0\)' stands 0 times"):
        _run(reader, "with_official_dino.py", "best.toml", "dino", "images")


def test_solo_learn_gets_its_augmentation_file(reader):
    command = shlex.split(_run(reader, "with_solo_learn.py", "best.toml", "solo-learn", "images"))
    assert command[:2] == ["python3", "solo-learn/main_pretrain.py"]
    assert "augmentations=augscale" in command
    path = reader / "solo-learn" / "scripts" / "pretrain" / "imagenet-100" / "augmentations" / "augscale.yaml"
    text = path.read_text()
    assert text == export_scales(augscale.load_scales(reader / "best.toml"), "solo-learn")
    # The keys that solo-learn's build_transform_pipeline reads.
    keys = {
        "rrc", "color_jitter", "grayscale", "gaussian_blur", "solarization", "equalization", "horizontal_flip",
        "crop_size", "num_crops",
    }  # fmt: skip
    assert [set(view) for view in yaml.safe_load(text)] == [keys] * 3
