"""Weights files: round trip, foreign files, damaged files."""

from __future__ import annotations

import argparse
import json
import pickle
import struct

import pytest
import safetensors.torch
import timm
import torch
from tiny_runs import TINY_VIT

from augscale.augmentation.scales import load_scales
from augscale.config import BackboneConfig, load_study
from augscale.errors import CheckpointError
from augscale.networks.backbones import build_backbone
from augscale.networks.loading import load_weights_into
from augscale.networks.weights import read_sidecar, save_weights, sidecar_facts

CONFIG = BackboneConfig(name="vit_tiny_patch16_224", overrides=TINY_VIT)


def _backbone(seed=0, size=32):
    return build_backbone(CONFIG, size, seed=seed)


def _same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_saved_weights_and_sidecar_read_back_exactly(tmp_path):
    source, target = _backbone(0), _backbone(1)
    file = tmp_path / "teacher.safetensors"
    save_weights(file, source, {"seed": 3, "scales": {"hue": 0.1}})
    report = load_weights_into(target, file)
    assert _same(source, target)
    assert report.matched_share == 1
    assert not report.missing + report.mismatched + report.unexpected
    facts = read_sidecar(file)
    assert facts.seed == 3
    assert facts.embed_dim == 32
    assert facts.mean == (0.485, 0.456, 0.406)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["teacher.json", "teacher.safetensors"]


def test_a_sidecar_holds_every_entry_that_it_was_given_and_no_other(tmp_path):
    facts = sidecar_facts(load_study("smoke"), load_scales("weak"), loss=2.5, information=None, chance_loss=4.1)
    facts |= {"name": "trial 3", "seed": 7, "epoch": 1.25, "metrics": {"score": 0.1, "interval": None}}
    save_weights(tmp_path / "w.safetensors", _backbone(), facts)
    written = json.loads((tmp_path / "w.json").read_text())
    assert written.keys() == {"embed_dim", "mean", "std", *facts}
    assert {key: written[key] for key in facts} == json.loads(json.dumps(facts))
    assert read_sidecar(tmp_path / "w.safetensors").to_dict() == written


def test_saved_weights_have_timms_key_names(tmp_path):
    save_weights(tmp_path / "w.safetensors", _backbone(), {})
    model = timm.create_model(CONFIG.name, num_classes=0, img_size=32, **TINY_VIT)
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "w.safetensors"), strict=True)


def test_init_file_starts_a_backbone_from_it(tmp_path):
    source = _backbone(0)
    save_weights(tmp_path / "w.safetensors", source, {})
    loaded = build_backbone(CONFIG.model_copy(update={"init": str(tmp_path / "w.safetensors")}), 32, seed=5)
    assert _same(source, loaded)
    assert loaded.load_report is not None


@pytest.mark.parametrize("wrapper", ["bare", "model", "dino"])
def test_foreign_checkpoints_load_whatever_wraps_them(tmp_path, wrapper):
    source, target = _backbone(0), _backbone(1)
    state = source.model.state_dict()
    prefixed = {f"module.backbone.{key}": value for key, value in state.items()}
    content = {
        "bare": state | {"head.weight": torch.zeros(5, 32)},
        "model": {"model": state, "epoch": 3},
        "dino": {
            "student": {key: value + 1 for key, value in prefixed.items()},
            "teacher": prefixed | {"module.head.mlp.0.weight": torch.zeros(4, 32)},
            "args": argparse.Namespace(arch="vit_tiny"),
            "epoch": 100,
        },
    }[wrapper]
    torch.save(content, tmp_path / "foreign.pth")
    report = load_weights_into(target, tmp_path / "foreign.pth")
    assert _same(source, target)
    expected = {"bare": ("head.weight",), "model": (), "dino": ("head.mlp.0.weight",)}[wrapper]
    assert report.unexpected == expected


def test_position_embedding_of_another_grid_is_resampled(tmp_path):
    save_weights(tmp_path / "w.safetensors", _backbone(0, size=48), {})
    target = _backbone(1, size=32)
    report = load_weights_into(target, tmp_path / "w.safetensors")
    assert report.matched_share == 1
    assert target.model.pos_embed.shape == (1, 17, 32)


def test_a_file_that_fits_too_little_is_refused_with_the_counts_and_changes_nothing(tmp_path):
    state = {key: value for key, value in _backbone(0).model.state_dict().items() if not key.startswith("blocks.1.")}
    torch.save(state, tmp_path / "half.pth")
    target, untouched = _backbone(1), _backbone(1)
    with pytest.raises(CheckpointError, match=r"half.pth: .*% of the parameters matched, 12 missing \(blocks.1.*95%"):
        load_weights_into(target, tmp_path / "half.pth")
    assert _same(target, untouched)


def test_a_few_missing_tensors_are_reported(tmp_path, caplog):
    state = _backbone(0).model.state_dict()
    del state["norm.bias"]
    torch.save(state, tmp_path / "nearly.pth")
    report = load_weights_into(_backbone(1), tmp_path / "nearly.pth")
    assert report.missing == ("norm.bias",)
    assert "norm.bias" in caplog.text


class _Payload:
    def __reduce__(self):
        return (print, ("code ran",))


def _damaged(kind, good):
    return {
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "absurd header": struct.pack("<Q", 2**60) + good[8:],
        "header beyond file": struct.pack("<Q", 10**7) + good[8:],
        "text": b"<html>Not found</html>" * 20,
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "truncated", "absurd header", "header beyond file", "text"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, kind, suffix):
    file = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(_backbone().model.state_dict(), file)
    else:
        save_weights(file, _backbone(), {})
    file.write_bytes(_damaged(kind, file.read_bytes()))
    with pytest.raises(CheckpointError, match=f"w{suffix}") as caught:
        load_weights_into(_backbone(), file)
    assert "\n" not in str(caught.value)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys):
    file = tmp_path / "evil.pth"
    torch.save({"model": _Payload()}, file)
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        load_weights_into(_backbone(), file)
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(_Payload()))
    with pytest.raises(CheckpointError, match=r"raw\.pth"):
        load_weights_into(_backbone(), tmp_path / "raw.pth")
    assert "code ran" not in capsys.readouterr().out


def test_a_missing_file_is_named():
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such weights file"):
        load_weights_into(_backbone(), "nowhere.pth")


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_damaged_sidecar_is_refused(tmp_path, text):
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"w\.json"):
        read_sidecar(tmp_path / "w.safetensors")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    save_weights(file, _backbone(0), {"seed": 0})
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_weights(file, _backbone(1), {"seed": 1})
    assert file.read_bytes() == before
    assert json.loads((tmp_path / "w.json").read_text())["seed"] == 0
    assert len(list(tmp_path.iterdir())) == 2
