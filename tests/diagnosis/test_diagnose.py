"""`augscale.diagnose` from checkpoints and photographs to its files, and what it makes of odd input."""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import augscale
from augscale.cli.app import app
from augscale.config import BackboneConfig
from augscale.demo import render
from augscale.demo.patients import synthetic_records
from augscale.diagnosis import subjects
from augscale.errors import CheckpointError, ConfigError, DataError
from augscale.networks.backbones import build_backbone
from augscale.networks.batch_norm import gather, use
from augscale.networks.weights import save_weights
from augscale.records.diagnosis import DiagnosisRecord

SIZE = 32
TINY = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
UNTRAINED = "untrained vit_tiny_patch16_224"
SMALL = {"images": 10, "views": 2, "bootstrap": 20}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUGSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Twelve labelled photographs of six patients."""
    folder = tmp_path_factory.mktemp("photographs")
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "patient_id"])
        for index, record in enumerate(synthetic_records(8, 0)[:12]):
            Image.fromarray(render(record.image_id, 0, 48)).save(folder / f"{index:02d}.png")
            table.writerow([f"{index:02d}.png", record.label, record.patient_id])
    return folder


def _backbone(seed: int = 1):
    return build_backbone(BackboneConfig(name="vit_tiny_patch16_224", overrides=TINY), SIZE, seed=seed)


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ours") / "teacher.safetensors"
    sidecar = {
        "name": "weak",
        "backbone": {"name": "vit_tiny_patch16_224", "overrides": TINY, "init": "none", "drop_path": 0.0},
        "image_size": SIZE,
        "scales": augscale.load_scales("weak").model_dump(),
        "training": {"loss": 3.0, "information": 1.2, "out_dim": 64},
    }
    save_weights(path, _backbone(), sidecar)
    return path


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """The same weights in a full file of official DINO, with a head and a center."""
    names = {f"module.backbone.{key}": value for key, value in _backbone().model.state_dict().items()}
    torch.manual_seed(0)
    head = {"mlp.0.weight": torch.randn(32, 64), "mlp.0.bias": torch.zeros(32), "mlp.2.weight": torch.randn(16, 32)}
    head |= {"mlp.2.bias": torch.zeros(16), "last_layer.weight_v": torch.randn(50, 16)}
    head |= {"last_layer.weight_g": torch.ones(50, 1)}
    names |= {f"module.head.{key}": value for key, value in head.items()}
    arguments = argparse.Namespace(
        patch_size=8, global_crops_scale=(0.5, 1.0), local_crops_scale=(0.1, 0.4), teacher_temp=0.04, out_dim=50
    )
    path = tmp_path_factory.mktemp("official") / "checkpoint.pth"
    content = {"student": names, "teacher": {key.removeprefix("module."): value for key, value in names.items()}}
    torch.save(content | {"epoch": 2, "args": arguments, "dino_loss": {"center": torch.zeros(1, 50)}}, path)
    lines = [{"epoch": 0, "train_loss": 3.9}, {"epoch": 1, "train_loss": 3.5}, {"epoch": 2, "train_loss": 9.9}]
    path.with_name("log.txt").write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture(scope="module")
def both(ours, official, photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "diagnosis"
    return augscale.diagnose([ours, official], data=photographs, out=out, figures=True, **SMALL), out


def _numbers(level) -> dict[str, float | None]:
    return {name: measured.value for name, measured in level.metrics.items()}


def test_the_same_weights_in_both_layouts_give_the_same_numbers_on_the_same_views(both):
    diagnosis, _ = both
    ours, official = diagnosis["weak"], diagnosis["checkpoint"]
    assert (ours.kind, official.kind) == ("augscale", "DINO")
    assert set(ours.levels) == set(official.levels)
    for name, level in ours.levels.items():
        assert _numbers(level) == pytest.approx(_numbers(official.levels[name]), rel=1e-4, abs=1e-5, nan_ok=False)
    same = next(c for c in diagnosis.comparisons if {c.a, c.b} == {"weak", "checkpoint"} and c.metric == "dprime")
    assert abs(same.difference) < 1e-4


def test_levels_are_the_ladder_weak_and_the_own_scales_each_once(both):
    diagnosis, _ = both
    kinds = {level.name: level.kind for level in diagnosis.levels}
    assert kinds == {
        "strong@0.25": "ladder",
        "strong@0.5": "ladder",
        "strong": "ladder",
        "weak": "scales",
        "own of checkpoint": "scales",
    }
    assert "global crops 50 to 100 % and local crops 10 to 40 %" in (diagnosis["checkpoint"].trained_with or "")


def test_the_untrained_network_stands_beside_and_is_compared_with(both):
    diagnosis, _ = both
    assert diagnosis[UNTRAINED].kind == "untrained"
    assert any("before training" in line for line in diagnosis["weak"].examination.evidence)
    assert not any("before training" in line for line in diagnosis[UNTRAINED].examination.evidence)


def test_what_sidecar_log_and_head_tell_is_in_the_evidence(both):
    diagnosis, _ = both
    assert any("1.200 nats" in line and "sidecar" in line for line in diagnosis["weak"].examination.evidence)
    of_official = " ".join(diagnosis["checkpoint"].examination.evidence)
    assert "loss 3.500" in of_official, "the loss of the file's own epoch, not of a later one"
    assert "nats about the image" in of_official
    assert "the file's head" in of_official


def test_every_file_is_written_and_holds_what_the_object_holds(both):
    diagnosis, out = both
    written = json.loads((out / "diagnosis.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [c["name"] for c in written["checkpoints"]] == ["weak", "checkpoint", UNTRAINED]
    assert written["checkpoints"][0]["ladder"]["metrics"]["dprime"]["value"] == diagnosis["weak"].ladder["dprime"].value
    assert DiagnosisRecord.read(out / "diagnosis.json").to_dict() == diagnosis.to_dict()
    assert "<html" in (out / "diagnosis.html").read_text()[:500].lower()
    for name in ("distances.png", "distances_raw.png", "map.png", "spectrum.png"):
        assert Image.open(out / name).size[0] > 500
    arrays = np.load(out / "distances.npz")
    level = diagnosis["weak"].levels["strong"].metrics
    assert arrays["weak/strong/positive"].mean() == pytest.approx(level["positive_mean"].value, rel=1e-5)
    assert arrays["weak/strong/negative"].mean() == pytest.approx(level["negative_mean"].value, rel=1e-5)
    assert arrays["weak/strong/raw_negative"].mean() == pytest.approx(level["raw_negative_mean"].value, rel=1e-5)
    assert len(arrays["weak/strong/positive"]) == len(diagnosis.images)


def test_views_do_not_depend_on_which_other_checkpoints_are_examined(both, ours, photographs, tmp_path):
    alone = augscale.diagnose(ours, data=photographs, scales=["weak"], untrained=False, cache_root=tmp_path, **SMALL)
    diagnosis, _ = both
    for name in ("strong@0.25", "weak"):
        assert _numbers(alone["weak"].levels[name]) == pytest.approx(_numbers(diagnosis["weak"].levels[name]))


def test_a_second_diagnosis_runs_no_network_and_has_the_same_numbers_to_the_last_bit(
    ours, photographs, tmp_path, monkeypatch
):
    def result(cache: str) -> dict:
        found = augscale.diagnose(ours, data=photographs, cache_root=tmp_path / cache, **SMALL)
        distances = {f"{c.name} {k}": v.tolist() for c in found.checkpoints for k, v in c.distances.items()}
        return found.to_dict() | {"finished": "", "distances": distances}

    passes = []
    embed = subjects.embed
    monkeypatch.setattr(subjects, "embed", lambda *args, **kwargs: passes.append(1) or embed(*args, **kwargs))
    first = result("one")
    assert len(passes) == 2 * 5, "clean photographs and four levels, of the checkpoint and of its untrained network"
    assert result("one") == first
    assert len(passes) == 10
    assert result("two") == first
    assert len(passes) == 20


def test_another_seed_or_checkpoint_finds_no_kept_views_but_those_of_the_untrained_network(
    ours, photographs, tmp_path, monkeypatch
):
    passes = []
    embed = subjects.embed
    monkeypatch.setattr(subjects, "embed", lambda *args, **kwargs: passes.append(1) or embed(*args, **kwargs))
    other = tmp_path / "other.safetensors"
    save_weights(other, _backbone(2), json.loads(ours.with_suffix(".json").read_text()))
    for checkpoint, seed, new in ((ours, 0, 10), (other, 0, 5), (ours, 1, 10), (other, 1, 5)):
        del passes[:]
        augscale.diagnose(checkpoint, data=photographs, cache_root=tmp_path / "cache", seed=seed, **SMALL)
        assert len(passes) == new, (checkpoint, seed)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_images_give_a_result_that_says_what_could_not_be_computed(ours, photographs, tmp_path, count):
    for index in range(count):
        Image.open(photographs / f"{index * 4:02d}.png").save(tmp_path / f"{index}.png")
    diagnosis = augscale.diagnose(ours, data=tmp_path, out=tmp_path / "out", **SMALL)
    text = (tmp_path / "out" / "diagnosis.json").read_text()
    assert "NaN" not in text
    reason = diagnosis["weak"].levels["strong"].metrics["dprime"].reason
    assert reason
    assert f"{count} image" in reason


def test_identical_images_are_one_photograph(ours, photographs, tmp_path):
    for index in range(5):
        Image.open(photographs / "00.png").save(tmp_path / f"{index}.png")
    diagnosis = augscale.diagnose(ours, data=tmp_path, **SMALL)
    assert len(diagnosis.images) == 1
    assert diagnosis.data["num_exact_duplicates"] == 4


def test_constant_embeddings_are_collapsed_and_have_no_nan_headline(photographs, tmp_path):
    backbone = _backbone()
    with torch.no_grad():
        backbone.model.norm.weight.zero_()
    save_weights(tmp_path / "flat.safetensors", backbone, _plain_sidecar())
    diagnosis = augscale.diagnose(tmp_path / "flat.safetensors", data=photographs, out=tmp_path / "out", **SMALL)
    assert diagnosis["flat"].examination.verdict == "collapsed"
    assert "nan" not in CliRunner().invoke(app, ["--version"]).output
    assert "NaN" not in (tmp_path / "out" / "diagnosis.json").read_text()


def _plain_sidecar() -> dict:
    return {"backbone": {"name": "vit_tiny_patch16_224", "overrides": TINY}, "image_size": SIZE}


def test_nan_in_the_weights_is_a_result_that_names_the_tensor(ours, photographs, tmp_path):
    backbone = _backbone()
    with torch.no_grad():
        backbone.model.blocks[0].mlp.fc1.weight[0, 0] = math.nan
    save_weights(tmp_path / "broken.safetensors", backbone, _plain_sidecar())
    diagnosis = augscale.diagnose(
        [tmp_path / "broken.safetensors", ours], data=photographs, out=tmp_path / "out", **SMALL
    )
    broken = diagnosis["broken"]
    assert broken.examination.verdict == "collapsed"
    assert "blocks.0.mlp.fc1.weight" in broken.examination.evidence[0]
    assert broken.levels == {}
    assert diagnosis["weak"].levels
    assert any("broken: nothing was measured" in note for note in diagnosis.notes)


def test_more_photographs_than_a_chunk_are_each_seen_once(ours, tmp_path, monkeypatch):
    data = tmp_path / "photographs"
    data.mkdir()
    for index, record in enumerate(synthetic_records(10, 0)[:9]):
        Image.fromarray(render(record.image_id, 0, 48)).save(data / f"{index}.png")
    whole = augscale.diagnose(ours, data=data, scales=["weak"], untrained=False, **SMALL)
    monkeypatch.setattr(subjects, "CHUNK_IMAGES", 4)
    chunked = augscale.diagnose(
        ours, data=data, scales=["weak"], untrained=False, cache_root=tmp_path / "cache", **SMALL
    )
    assert len(chunked.images) == 9
    for name, level in whole["weak"].levels.items():
        assert _numbers(chunked["weak"].levels[name]) == pytest.approx(_numbers(level), rel=1e-4, abs=1e-5)


def test_a_network_with_batch_norm_is_folded_and_embeds_the_same_to_rounding():
    narrow = {"channels": [8, 8, 16, 16], "stem_width": 8}
    backbone = build_backbone(BackboneConfig(name="resnet10t", overrides=narrow), SIZE, seed=1).eval()
    views = torch.randn(subjects.BATCH_VIEWS["cpu"] + 3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    statistics = gather(backbone, views * 2 + 1)
    with use(backbone, statistics), torch.inference_mode():
        expected = backbone(views).numpy()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}

    found = subjects._embed_views(backbone, statistics, views, "cpu")

    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))
    assert not np.array_equal(found, expected), "nothing was folded"
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_labels_for_half_of_the_files_are_used_and_said_so(ours, photographs, tmp_path):
    rows = list(csv.reader((photographs / "labels.csv").open()))
    for row in rows[1:]:
        Image.open(photographs / row[0]).save(tmp_path / row[0])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *([r[0], r[1] if i % 2 else "", r[2]] for i, r in enumerate(rows[1:]))])
    diagnosis = augscale.diagnose(ours, data=tmp_path, images=12, views=2, bootstrap=0)
    assert any("6 of 12 photographs have no label" in note for note in diagnosis.notes)
    assert diagnosis["weak"].images.num_labelled == 6


def test_patient_ids_from_file_names_make_no_negative_pairs_of_one_patient(ours, photographs, tmp_path):
    for number, path in enumerate(sorted(photographs.glob("*.png"))):
        (tmp_path / f"P{number // 2}_{'LR'[number % 2]}.png").write_bytes(path.read_bytes())
    plain = augscale.diagnose(ours, data=tmp_path, untrained=False, **SMALL | {"images": 12})
    paired = augscale.diagnose(ours, data=tmp_path, untrained=False, patient_pattern="(P.)_", **SMALL | {"images": 12})
    assert (plain.data["num_patients"], paired.data["num_patients"]) == (12, 6)
    means = [found.checkpoints[0].levels["weak"].metrics["negative_mean"].value for found in (plain, paired)]
    assert means[0] != means[1]
    with pytest.raises(DataError, match=r"data\.patient_pattern = '\(Q\)' finds no patient id in 12 of 12 names"):
        augscale.diagnose(ours, data=tmp_path, patient_pattern="(Q)")


def test_wrong_input_is_refused_with_one_clear_line(ours, photographs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        augscale.diagnose(ours, data=tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no such weights file"):
        augscale.diagnose(tmp_path / "nothing.pth", data=photographs)
    with pytest.raises(ConfigError, match="unknown scales"):
        augscale.diagnose(ours, data=photographs, scales=["wek"])
    with pytest.raises(ConfigError, match="--size"):
        augscale.diagnose(ours, data=photographs, size=33)
    with pytest.raises(ConfigError, match="cannot be written"):
        augscale.diagnose(ours, data=photographs, out="/proc/nowhere")
    with pytest.raises(ConfigError, match="views = 1"):
        augscale.diagnose(ours, data=photographs, views=1)
    with pytest.raises(ConfigError, match="patient_pattern: '' has no group"):
        augscale.diagnose(ours, data=photographs, patient_pattern="")


def test_the_command_prints_the_verdict_or_json(ours, photographs, tmp_path):
    arguments = ["diagnose", str(ours), "--data", str(photographs), "--out", str(tmp_path / "out")]
    arguments += ["--images", "6", "--views", "2", "--bootstrap", "10"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    assert "pair AUROC" in done.output.replace("Pair", "pair")
    assert str(tmp_path / "out" / "diagnosis.html") in done.output.replace("\n", "")
    assert not list((tmp_path / "out").glob("*.png")), "they take --figures"
    values = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert values["num_images"] == 6


def test_each_checkpoint_is_examined_at_its_own_size_whatever_the_order(ours, photographs, tmp_path):
    other = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", overrides=TINY), 48, seed=2)
    sidecar = _plain_sidecar() | {"name": "larger", "image_size": 48}
    save_weights(tmp_path / "larger.safetensors", other, sidecar)
    alone = augscale.diagnose(ours, data=photographs, scales=["weak"], **SMALL)
    found = augscale.diagnose([tmp_path / "larger.safetensors", ours], data=photographs, scales=["weak"], **SMALL)
    assert (found["weak"].view_size, found["larger"].view_size, found.view_size) == (SIZE, 48, None)
    assert any("32 px: weak; 48 px: larger" in note for note in found.notes)
    assert any("another training seed may order them otherwise" in note for note in found.notes)
    assert {c.name for c in found.checkpoints} == {
        "larger", "weak", UNTRAINED, f"{UNTRAINED} at {SIZE} px"
    }, "the network before training has the size of its checkpoint"  # fmt: skip
    assert alone.view_size == SIZE
    level = found["weak"].levels["weak"]
    assert level.num_images == alone["weak"].levels["weak"].num_images
    both = augscale.diagnose([ours, tmp_path / "larger.safetensors"], data=photographs, scales=["weak"], **SMALL)
    assert _numbers(both["weak"].levels["weak"]) == pytest.approx(_numbers(level))
    one_size = augscale.diagnose(
        [ours, tmp_path / "larger.safetensors"], data=photographs, scales=["weak"], size=SIZE, **SMALL
    )
    assert one_size.view_size == SIZE
    assert any("larger: made for 48 px, examined at 32 px" in note for note in one_size.notes)


@pytest.mark.gpu
def test_a_gpu_gives_the_numbers_of_the_cpu(ours, photographs):
    found = [
        augscale.diagnose(ours, data=photographs, scales=["weak"], untrained=False, device=device, **SMALL)
        for device in ("cpu", "cuda")
    ]
    for name in ("strong@0.25", "weak"):
        on_cpu, on_gpu = (_numbers(diagnosis["weak"].levels[name]) for diagnosis in found)
        assert on_gpu == pytest.approx(on_cpu, rel=0.02, abs=5e-3)
