"""State dicts of timm's families, classifier included, as `torch.save(model.state_dict())` and safetensors leave them.

What is loaded by file, by `backbone.init` and from an export must embed as timm's own forward pass does.
"""

from __future__ import annotations

import pytest
import safetensors.torch
import timm
import torch

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.backbones import build_backbone
from augscale.networks.checkpoints import load_checkpoint
from augscale.networks.export_weights import export_weights
from augscale.networks.timm_index import models_like, models_with, shapes_of
from augscale.networks.weights import save_weights

QUICK = {
    "convnext_atto": 64, "mobilenetv3_small_050": 64, "regnetx_002": 64, "pvt_v2_b0": 64, "mobilevit_xxs": 64,
    "levit_128s": 224, "xcit_nano_12_p16_224": 224, "eva02_tiny_patch14_224": 224,
}  # fmt: skip
"""Models whose tensors no other model of timm has, to the side of the views."""
QUICK_AMBIGUOUS = {"tf_efficientnet_lite0": 64}
SLOW = {
    "ghostnet_100": 64, "repvgg_a0": 64, "poolformer_s12": 64, "efficientvit_b0": 64, "efficientnet_b0": 64,
    "deit_tiny_distilled_patch16_224": 224,
    "densenet121": 64, "resnet26": 64, "seresnet50": 64, "resnext50_32x4d": 64, "vgg11": 64, "inception_v3": 299,
    "dm_nfnet_f0": 64, "hrnet_w18_small": 64, "dpn48b": 64, "caformer_s18": 64, "fastvit_t8": 64, "davit_tiny": 64,
    "mambaout_femto": 64, "swin_tiny_patch4_window7_224": 224, "maxvit_tiny_tf_224": 224, "coatnet_0_224": 224,
    "cait_xxs24_224": 224, "volo_d1_224": 224, "crossvit_tiny_240": 240, "pit_ti_224": 224, "mixer_s32_224": 224,
    "twins_svt_small": 224, "mvitv2_tiny": 224, "hiera_tiny_224": 224, "tiny_vit_5m_224": 224, "coat_tiny": 224,
    "vit_tiny_r_s16_p8_224": 224, "vit_small_patch16_dinov3": 64, "beit_base_patch16_224": 224, "convit_tiny": 224,
}  # fmt: skip


def _file_of(tmp_path, name, suffix=".pth"):
    """A state dict with classifier, statistics that matter, and timm's own network without classifier."""
    torch.manual_seed(0)
    state = timm.create_model(name, num_classes=7).state_dict()
    for key, value in state.items():
        if key.endswith("running_var"):
            value.uniform_(0.8, 1.2)
        elif key.endswith("running_mean"):
            value.normal_(0, 0.1)
    file = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save(state, file)
    else:
        safetensors.torch.save_file({key: value.clone() for key, value in state.items()}, file)
    own = timm.create_model(name, num_classes=0).eval()
    assert not own.load_state_dict(state, strict=False).missing_keys
    return file, own


def _same(backbone, own, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = backbone(images), own(images)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-5, atol=1e-5)
    assert found.shape == (2, backbone.embed_dim)


def _check(tmp_path, name, size, suffix, arch=None):
    file, own = _file_of(tmp_path, name, suffix)
    loaded = load_checkpoint(file, arch=arch, image_size=size)
    assert loaded.arch == name
    assert loaded.report.matched_share == 1
    assert not loaded.report.missing + loaded.report.mismatched
    _same(loaded.backbone, own, size)
    config = BackboneConfig(name=name, init=str(file), drop_path=0.0)
    started = build_backbone(config, size, seed=3).eval()
    _same(started, own, size)
    save_weights(tmp_path / "ours.safetensors", started, {"backbone": config.model_dump(), "image_size": size})
    _same(load_checkpoint(tmp_path / "ours.safetensors").backbone, own, size)
    exported = export_weights(tmp_path / "ours.safetensors", "timm", tmp_path / f"timm{suffix}").path
    _same(load_checkpoint(exported, arch=name, image_size=size).backbone, own, size)


@pytest.mark.parametrize("name", QUICK)
def test_a_state_dict_of_a_family_embeds_as_timm_does(tmp_path, name):
    _check(tmp_path, name, QUICK[name], ".pth")


@pytest.mark.parametrize("name", QUICK_AMBIGUOUS)
def test_models_with_equal_tensors_are_named_and_loaded_when_one_is_chosen(tmp_path, name):
    file, _ = _file_of(tmp_path, name)
    with pytest.raises(CheckpointError, match=rf"models of timm have these tensors .*--arch NAME: .*{name}"):
        load_checkpoint(file)
    _check(tmp_path, name, QUICK_AMBIGUOUS[name], ".safetensors", arch=name)


def test_the_model_that_the_file_names_decides_between_equal_tensors(tmp_path):
    file, own = _file_of(tmp_path, "tf_efficientnet_lite0")
    content = {"arch": "tf_efficientnet_lite0", "epoch": 3, "state_dict": torch.load(file)}
    torch.save(content, tmp_path / "timms.pth")
    loaded = load_checkpoint(tmp_path / "timms.pth")
    assert loaded.arch == "tf_efficientnet_lite0"
    _same(loaded.backbone, own, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_state_dicts_of_more_families(tmp_path, name):
    with torch.device("meta"):
        groups = models_with(shapes_of(timm.create_model(name, num_classes=0).state_dict()))
    known = len(groups) == 1 or name in ("swin_tiny_patch4_window7_224", "maxvit_tiny_tf_224")
    _check(tmp_path, name, SLOW[name], ".pth", arch=None if known else name)


def test_the_table_knows_the_installed_models():
    for name in ("convnext_atto", "mobilenetv3_small_050", "pvt_v2_b0"):
        with torch.device("meta"):
            shapes = shapes_of(timm.create_model(name).state_dict())
        assert models_with(shapes) == [[name]]
        assert name in models_like(shapes)


def test_other_sizes_of_a_known_family_are_named(tmp_path):
    narrow = timm.create_model("convnext_atto", dims=(8, 16, 24, 32), depths=(2, 2, 6, 2), num_classes=3)
    torch.save(narrow.state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(CheckpointError, match=r"has the tensors of .*convnext_atto.* in other sizes; .*--arch NAME"):
        load_checkpoint(tmp_path / "narrow.pth")


def test_a_file_with_more_blocks_than_the_model_is_no_init_for_it(tmp_path):
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "resnet34.pth")
    config = BackboneConfig(name="resnet18", init=str(tmp_path / "resnet34.pth"))
    with pytest.raises(CheckpointError, match="no place in ResNet"):
        build_backbone(config, 64)


def test_networks_of_one_image_size_take_no_other():
    backbone = build_backbone(BackboneConfig(name="levit_128s"), 224)
    with pytest.raises(ConfigError, match=r"crops.local_size = 96: .* one size only, here 224 pixels"):
        backbone.check_view_size(96, "crops.local_size")


def test_stochastic_depth_that_a_network_does_not_have_is_refused():
    config = BackboneConfig(name="vgg11")
    with pytest.raises(ConfigError, match=r"backbone.drop_path = 0.1: vgg11 has no stochastic depth; expected 0"):
        build_backbone(config, 64, drop_path=0.1)
