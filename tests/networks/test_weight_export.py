"""Exported weights: read back by our loader and by official DINO's own, as a plain copy of it."""

from __future__ import annotations

import pytest
import safetensors.torch
import timm
import torch
from tiny_runs import TINY_VIT

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.backbones import build_backbone
from augscale.networks.export_weights import export_weights
from augscale.networks.loading import load_weights_into
from augscale.networks.weights import save_weights

VIT = BackboneConfig(name="vit_tiny_patch16_224", overrides=TINY_VIT)
RESNET = BackboneConfig(name="resnet18")


def _saved(folder, config, size, **facts):
    backbone = build_backbone(config, size, seed=0).eval()
    for name, buffer in backbone.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    sidecar = {"backbone": config.model_dump(), "image_size": size, "epoch": 7.5} | facts
    save_weights(folder / "best.safetensors", backbone, sidecar)
    return backbone, folder / "best.safetensors"


def _official_load(model, file, checkpoint_key="teacher"):
    """`utils.load_pretrained_weights` of official DINO, less its downloads."""
    state_dict = torch.load(file, map_location="cpu")
    if checkpoint_key is not None and checkpoint_key in state_dict:
        state_dict = state_dict[checkpoint_key]
    state_dict = {k.replace("module.", ""): v for k, v in state_dict.items()}
    state_dict = {k.replace("backbone.", ""): v for k, v in state_dict.items()}
    return model.load_state_dict(state_dict, strict=False)


def _embedding(backbone, size):
    views = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return backbone(views)


@pytest.mark.parametrize("to", ["dino", "timm"])
@pytest.mark.parametrize(("config", "size"), [(VIT, 224), (RESNET, 64)], ids=["vit", "resnet"])
def test_an_export_read_back_gives_the_same_embeddings(tmp_path, to, config, size):
    source, file = _saved(tmp_path, config, size)
    exported = export_weights(file, to)
    assert exported.path == tmp_path / f"best.{to}.pth"
    target = build_backbone(config, size, seed=1).eval()
    report = load_weights_into(target, exported.path)
    assert report.matched_share == 1
    assert not report.missing + report.mismatched + report.unexpected
    assert torch.equal(_embedding(source, size), _embedding(target, size))


@pytest.mark.parametrize("size", [224, 32], ids=["trained at 224 px", "trained at 32 px"])
def test_official_dinos_loader_fills_a_vit_completely(tmp_path, size):
    source, file = _saved(tmp_path, VIT, size)
    exported = export_weights(file, "dino")
    # Official DINO's ViT has the parameters of timm's, by the same names, and is built for images of 224 px.
    official = timm.create_model(VIT.name, num_classes=0, img_size=224, **TINY_VIT)
    message = _official_load(official, exported.path)
    assert not message.missing_keys
    assert not message.unexpected_keys
    assert torch.equal(official.blocks[1].mlp.fc2.weight, source.model.blocks[1].mlp.fc2.weight)
    if size == 224:
        assert torch.equal(official.pos_embed, source.model.pos_embed)
    assert exported.image_size == 224
    assert ("position embedding resampled from 32 px to 224 px" in exported.notes) == (size == 32)


def test_a_resampled_position_embedding_comes_back_nearly_as_it_was(tmp_path):
    config = VIT.model_copy(update={"overrides": TINY_VIT | {"pos_embed": "learn"}})
    source, file = _saved(tmp_path, config, 32)
    with torch.no_grad():
        smooth = torch.linspace(0, 1, 16)[:, None].expand(16, 32)
        source.model.pos_embed[0, 1:] = smooth
    save_weights(file, source, {"backbone": config.model_dump(), "image_size": 32})
    target = build_backbone(config, 32, seed=1)
    load_weights_into(target, export_weights(file, "dino").path)
    assert torch.equal(target.model.pos_embed[:, :1], source.model.pos_embed[:, :1])
    torch.testing.assert_close(target.model.pos_embed, source.model.pos_embed, atol=0.05, rtol=0)


def test_official_dinos_loader_fills_a_resnet_completely(tmp_path):
    from torchvision.models import resnet18

    source, file = _saved(tmp_path, RESNET, 64)
    official = resnet18()
    official.fc = torch.nn.Identity()
    message = _official_load(official, export_weights(file, "dino").path)
    assert not message.missing_keys
    assert not message.unexpected_keys
    views = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(official.eval()(views), source(views))


def test_a_dino_export_is_data_only_and_says_what_it_is(tmp_path):
    _, file = _saved(tmp_path, VIT, 224, seed=3, scales={"hue": 0.1})
    content = torch.load(export_weights(file, "dino").path, weights_only=True)
    assert set(content) == {"teacher", "epoch", "args"}
    assert content["epoch"] == 7
    assert content["args"]["patch_size"] == 8
    assert content["args"]["seed"] == 3
    assert all(key.startswith("backbone.") for key in content["teacher"])


def test_a_timm_export_is_what_timm_itself_loads(tmp_path):
    source, file = _saved(tmp_path, VIT, 48)
    path = export_weights(file, "timm", tmp_path / "bare.pth").path
    model = timm.create_model(VIT.name, num_classes=0, img_size=48, checkpoint_path=str(path), **TINY_VIT)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), source.model.parameters(), strict=True))
    tensors = safetensors.torch.load_file(export_weights(file, "timm", tmp_path / "bare.safetensors").path)
    assert tensors.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    "config",
    [BackboneConfig(name="resnet10t"), VIT.model_copy(update={"overrides": TINY_VIT | {"reg_tokens": 2}})],
    ids=["another stem", "register tokens"],
)
def test_networks_that_official_dino_would_load_in_part_are_refused(tmp_path, config):
    _, file = _saved(tmp_path, config, 32)
    with pytest.raises(CheckpointError, match=r"official DINO has no network with .*--to timm"):
        export_weights(file, "dino")
    assert [path.name for path in tmp_path.glob("*.pth")] == []
    assert export_weights(file, "timm").path.exists()


def test_wrong_wishes_are_refused(tmp_path):
    _, file = _saved(tmp_path, VIT, 32)
    with pytest.raises(ConfigError, match="--to onnx: expected one of dino, timm"):
        export_weights(file, "onnx")
    with pytest.raises(ConfigError, match="multiple of the patch size 8"):
        export_weights(file, "dino", image_size=100)
    with pytest.raises(ConfigError, match="is the file to be exported"):
        export_weights(file, "timm", file)
    (tmp_path / "best.json").unlink()
    with pytest.raises(CheckpointError, match=r"best\.json: cannot be read"):
        export_weights(file, "dino")


def test_a_sidecar_of_another_program_is_refused(tmp_path):
    _, file = _saved(tmp_path, VIT, 32)
    (tmp_path / "best.json").write_text('{"arch": "vit"}')
    with pytest.raises(CheckpointError, match="does not say what network it is"):
        export_weights(file, "timm")


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_the_state_of_a_run_gives_student_teacher_and_official_heads(finished_run, tmp_path):
    folder = finished_run.run_dir
    path = export_weights(folder / "state.pt", "dino", tmp_path / "full.pth").path
    content = torch.load(path, weights_only=True)
    assert content["epoch"] == 2
    last = safetensors.torch.load_file(folder / "last.safetensors")
    embedding = content["teacher"].pop("backbone.pos_embed")
    assert embedding.shape == (1, 28 * 28 + 1, 32)
    for key, value in last.items():
        assert key == "pos_embed" or torch.equal(content["teacher"][f"backbone.{key}"], value)
    heads = {key.removeprefix("module.") for key in content["student"] if key.startswith("module.head.")}
    assert heads == {key for key in content["teacher"] if key.startswith("head.")}
    assert {"head.last_layer.weight_v", "head.last_layer.weight_g", "head.mlp.0.weight"} <= heads
    # Official DINO's last layer, weight_norm(Linear), computes with these weights what ours does.
    layer = torch.nn.utils.weight_norm(torch.nn.Linear(32, 64, bias=False))
    weights = {
        key.removeprefix("head.last_layer."): value for key, value in content["teacher"].items() if "last_" in key
    }
    layer.load_state_dict(weights)
    x = torch.rand(3, 32, generator=torch.Generator().manual_seed(2))
    direction, gain = weights["weight_v"], weights["weight_g"]
    torch.testing.assert_close(layer(x), x @ (gain * torch.nn.functional.normalize(direction, dim=1)).T)


def test_a_state_without_its_study_is_refused(tmp_path):
    torch.save({"step": 1}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"study\.toml: cannot be read"):
        export_weights(tmp_path / "state.pt", "dino")
