"""Weights of Hugging Face, torchvision and official DINOv3: equal to what their own code computes."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn
from vit_oracle import tiny_state

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError
from augscale.networks.backbones import build_backbone
from augscale.networks.checkpoints import load_checkpoint, untrained_like

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TINY = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _random(model):
    """All parameters and statistics random, so that none can hide."""
    generator = torch.Generator().manual_seed(2)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.8, 1.2, generator=generator)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1, generator=generator)
        elif value.is_floating_point() and value.ndim < 2:
            value += 0.1 * torch.randn(value.shape, generator=generator)
    return model.eval()


def _embed(checkpoint, images=IMAGES):
    with torch.inference_mode():
        return checkpoint.backbone(images)


HUGGING_FACE = {
    "ViT": ("ViTModel", "ViTConfig", {"intermediate_size": 96}),
    "ViT with a classifier": ("ViTForImageClassification", "ViTConfig", {"intermediate_size": 96}),
    "DINOv2": ("Dinov2Model", "Dinov2Config", {"mlp_ratio": 2}),
    "DINOv2 with SwiGLU": ("Dinov2Model", "Dinov2Config", {"use_swiglu_ffn": True}),
    "DINOv2 with registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {"num_register_tokens": 3}),
    "DINOv3": ("DINOv3ViTModel", "DINOv3ViTConfig", {"num_register_tokens": 4, "intermediate_size": 96}),
    "gated DINOv3": (
        "DINOv3ViTModel", "DINOv3ViTConfig",
        {"num_register_tokens": 4, "intermediate_size": 96, "use_gated_mlp": True, "hidden_act": "silu"},
    ),
}  # fmt: skip


def _hugging_face(tmp_path, kind, **changes):
    transformers = pytest.importorskip("transformers")
    network, config, settings = HUGGING_FACE[kind]
    torch.manual_seed(0)
    model = _random(getattr(transformers, network)(getattr(transformers, config)(**(TINY | settings | changes))))
    model.save_pretrained(tmp_path / "folder")
    return model, tmp_path / "folder"


def _class_token(model, images=IMAGES):
    encoder = model if "DINOv3" in type(model).__name__ else model.base_model
    with torch.inference_mode():
        return encoder(images).last_hidden_state[:, 0]


@pytest.mark.parametrize("kind", HUGGING_FACE)
@pytest.mark.parametrize("as_folder", [True, False], ids=["folder", "file"])
def test_hugging_faces_vits_embed_as_transformers_does(tmp_path, kind, as_folder):
    model, folder = _hugging_face(tmp_path, kind)
    loaded = load_checkpoint(folder if as_folder else folder / "model.safetensors", image_size=32)
    torch.testing.assert_close(_embed(loaded), _class_token(model), **TOLERANCE)
    assert loaded.kind.startswith("Hugging Face " + ("ViT" if kind.startswith("ViT") else "DINOv"))
    assert loaded.report.matched_share == 1
    eps = {module.eps for module in untrained_like(loaded).backbone.modules() if isinstance(module, nn.LayerNorm)}
    assert eps == {model.config.layer_norm_eps}


@pytest.mark.parametrize("kind", ["ViT", "DINOv2", "DINOv2 with SwiGLU", "DINOv3"])
def test_a_bare_state_dict_of_transformers_has_the_heads_of_its_family(tmp_path, kind):
    """Without config.json, under the names of this version of transformers, which are not those that it saves."""
    model, _ = _hugging_face(tmp_path, kind, hidden_size=192)
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    loaded = load_checkpoint(tmp_path / "bare.pth", image_size=32)
    torch.testing.assert_close(_embed(loaded), _class_token(model), **TOLERANCE)


def test_a_hugging_face_folder_says_heads_and_normalisation(tmp_path):
    _, folder = _hugging_face(tmp_path, "ViT")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    loaded = load_checkpoint(folder)
    assert (loaded.name, loaded.image_size, loaded.overrides["num_heads"]) == ("folder", 32, 3)
    assert loaded.backbone.input_scale is not None
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"expected a weights file or .*; it holds model.safetensors"):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"48 wide, of no known family, .*num_heads=H"):
        load_checkpoint(folder / "model.safetensors")


def test_a_folder_in_shards_is_read_whole_and_never_leaves_itself(tmp_path):
    model, folder = _hugging_face(tmp_path, "DINOv2")
    state = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {key: f"part{number % 2}.safetensors" for number, key in enumerate(state)}
    for part in set(names.values()):
        safetensors.torch.save_file({key: state[key] for key in state if names[key] == part}, folder / part)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    torch.testing.assert_close(_embed(load_checkpoint(folder)), _class_token(model), **TOLERANCE)
    index.write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(CheckpointError, match="does not name the weights files of this folder"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"hidden_act": "quick_gelu"}, "hidden_act = quick_gelu"), ([1], "holds a list; expected a JSON object")],
)
def test_a_config_that_asks_for_something_else_is_refused(tmp_path, change, words):
    _, folder = _hugging_face(tmp_path, "ViT")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | change if isinstance(change, dict) else change))
    with pytest.raises(CheckpointError, match=rf"config\.json: {words}"):
        load_checkpoint(folder)


def test_timms_own_folder_names_its_model_and_normalisation(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    facts = {"input_size": [3, 224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "tf_efficientnet_lite0", "pretrained_cfg": facts})
    )
    loaded = load_checkpoint(tmp_path)
    assert (loaded.arch, loaded.image_size) == ("tf_efficientnet_lite0", 224)
    with torch.inference_mode():
        scaled = IMAGES * loaded.backbone.input_scale + loaded.backbone.input_shift
        torch.testing.assert_close(_embed(loaded), model(scaled), **TOLERANCE)


# Official DINOv3


def _official_dinov3(timms, **changes):
    """timm's names to those of Meta's repository."""
    state = {}
    for name, value in timms.items():
        name = (
            name.replace("reg_token", "storage_tokens").replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        )
        if name.endswith("q_bias"):
            key = torch.full_like(value, 3.0)
            state[name.replace("q_bias", "qkv.bias")] = torch.cat([value, key, timms[name.replace("q_bias", "v_bias")]])
            mask = torch.cat(
                [torch.ones_like(value), torch.full_like(value, changes.get("mask", 0.0)), torch.ones_like(value)]
            )
            state[name.replace("q_bias", "qkv.bias_mask")] = mask
        elif not name.endswith("v_bias"):
            state[name] = value
    return state | {"mask_token": torch.zeros(1, 192), "rope_embed.periods": torch.rand(16)}


def _dinov3(name="vit_small_patch16_dinov3_qkvb"):
    torch.manual_seed(0)
    return _random(timm.create_model(name, num_classes=0, embed_dim=192, depth=2, num_heads=3, global_pool="token"))


@pytest.mark.parametrize("mask", [0.0, float("nan")])
def test_official_dinov3_embeds_its_class_token_and_masks_the_bias_of_its_keys(tmp_path, mask):
    model = _dinov3()
    torch.save(_official_dinov3(model.state_dict(), mask=mask), tmp_path / "official.pth")
    loaded = load_checkpoint(tmp_path / "official.pth", image_size=64)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(_embed(loaded, images), model(images), **TOLERANCE)
    assert loaded.kind == "official DINOv3"
    named = load_checkpoint(
        tmp_path / "official.pth", arch="vit_small_patch16_dinov3_qkvb,embed_dim=192,depth=2,num_heads=3"
    )
    torch.testing.assert_close(_embed(named, images), _embed(loaded, images), rtol=0, atol=0)


def test_a_bias_of_keys_that_counts_is_refused(tmp_path):
    torch.save(_official_dinov3(_dinov3().state_dict(), mask=1.0), tmp_path / "official.pth")
    with pytest.raises(CheckpointError, match="keys have a bias"):
        load_checkpoint(tmp_path / "official.pth")


# torchvision


@pytest.mark.parametrize("with_head", [True, False])
def test_torchvisions_vit_embeds_as_torchvision_does(tmp_path, with_head):
    torch.manual_seed(0)
    model = _random(
        torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=3, hidden_dim=192, mlp_dim=384, num_classes=5
        )
    )
    state = {key: value for key, value in model.state_dict().items() if with_head or not key.startswith("heads.")}
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "tv.pth")
    model.heads = nn.Identity()
    loaded = load_checkpoint(tmp_path / "tv.pth")
    with torch.inference_mode():
        torch.testing.assert_close(_embed(loaded), model(IMAGES), **TOLERANCE)
    assert (loaded.kind, loaded.image_size) == ("torchvision ViT", 32)


TORCHVISION = {
    "resnet18": ("resnet18", "fc"),
    "mobilenet_v3_small": ("mobilenetv3_small_100", "classifier.3"),
    "efficientnet_b0": ("efficientnet_b0", "classifier"),
    "mobilenet_v2": ("mobilenetv2_100", "classifier"),
}
SLOW_TORCHVISION = {
    "convnext_tiny": ("convnext_tiny", "classifier.2"),
    "efficientnet_v2_s": ("efficientnetv2_s", "classifier"),
    "efficientnet_b5": ("efficientnet_b5", "classifier"),
    "mobilenet_v3_large": ("mobilenetv3_large_100", "classifier.3"),
    "mnasnet1_0": ("mnasnet_100", "classifier"),
    "vgg11": ("vgg11", "classifier.6"),
    "vgg16_bn": ("vgg16_bn", "classifier.6"),
    "densenet121": ("densenet121", "classifier"),
    "wide_resnet50_2": ("wide_resnet50_2", "fc"),
    "regnet_y_400mf": ("regnety_004", "fc"),
    "regnet_x_400mf": ("regnetx_004_tv", "fc"),
    "swin_t": ("swin_tiny_patch4_window7_224", "head"),
}


def _check_torchvision(tmp_path, name, arch, classifier, size):
    torch.manual_seed(0)
    model = _random(getattr(torchvision.models, name)(num_classes=5))
    torch.save(model.state_dict(), tmp_path / "tv.pth")
    model.set_submodule(classifier, nn.Identity())
    loaded = load_checkpoint(tmp_path / "tv.pth")
    assert loaded.arch == arch
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = model(images)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(_embed(loaded, images) / scale, expected / scale, **TOLERANCE)


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_embed_as_torchvision_does(tmp_path, name):
    _check_torchvision(tmp_path, name, *TORCHVISION[name], size=64)


def test_a_training_that_starts_from_them_is_told_what_its_network_computes_otherwise(tmp_path, caplog):
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "tv.pth")
    config = BackboneConfig(name="mobilenetv3_small_100", init=str(tmp_path / "tv.pth"))
    build_backbone(config, 64)
    assert "its batch norms add 0.001 to the variance; set backbone.overrides.bn_eps = 0.001" in caplog.text
    caplog.clear()
    build_backbone(config.model_copy(update={"overrides": {"bn_eps": 1e-3}}), 64)
    assert not caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_TORCHVISION)
def test_more_of_torchvisions_networks(tmp_path, name):
    _check_torchvision(tmp_path, name, *SLOW_TORCHVISION[name], size=224)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["embedder.embedder.convolution.weight"], "a ResNet of Hugging Face"),
        (
            ["embeddings.patch_embeddings.weight", "encoder.stages.0.layers.0.dwconv.weight"],
            "a ConvNeXt of Hugging Face",
        ),
        (["features.0.0.weight", "features.3.1.weight"], "a network of torchvision"),
    ],
)
def test_layouts_that_are_not_translated_are_named_with_what_to_do(tmp_path, names, words):
    torch.save({name: torch.zeros(4, 3, 3, 3) for name in names}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=rf"{words}, .*give timm's own weights of that network \(timm:NAME"):
        load_checkpoint(tmp_path / "other.pth")


def test_chunked_blocks_are_those_of_a_vit_only(tmp_path):
    """EfficientNets call their blocks `blocks.0.0.`, too."""
    state = tiny_state(depth=2)
    chunked = {
        key.replace("blocks.1.", "blocks.0.1.").replace("blocks.0.norm", "blocks.0.0.norm"): v
        for key, v in state.items()
    }
    chunked = {
        key.replace("blocks.0.attn", "blocks.0.0.attn").replace("blocks.0.mlp", "blocks.0.0.mlp"): v
        for key, v in chunked.items()
    }
    torch.save(chunked, tmp_path / "chunked.pth")
    loaded = load_checkpoint(tmp_path / "chunked.pth")
    assert all(torch.equal(loaded.backbone.model.state_dict()[key], value) for key, value in state.items())
