"""Checkpoints of the DINO family: what each layout embeds, what else its file says, what is refused."""

from __future__ import annotations

import argparse
import json

import pytest
import safetensors.torch
import timm
import torch
from tiny_runs import TINY_VIT
from torch.nn import functional as F
from vit_oracle import class_token, patch_mean, tiny_state

from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks.architectures import infer_architecture
from augscale.networks.backbones import build_backbone
from augscale.networks.checkpoint_paths import unique_names
from augscale.networks.checkpoints import load_checkpoint, untrained_like
from augscale.networks.loading import load_weights_into
from augscale.networks.vit_architectures import VITS
from augscale.networks.weights import Sidecar, save_weights

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def vit():
    """192 wide, 3 heads, 2 blocks, 4 x 4 patches of 16 pixels; DINO's names equal timm's."""
    return tiny_state(depth=2)


@pytest.fixture(scope="module")
def other_vit():
    return tiny_state(depth=2, seed=7)


def _saved(tmp_path, content, name="checkpoint.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def _embed(checkpoint, images=IMAGES):
    assert not checkpoint.backbone.training
    with torch.inference_mode():
        return checkpoint.backbone(images)


def _prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def _head(prefix="module.head.", out_dim=11):
    return {
        f"{prefix}mlp.0.weight": torch.randn(8, 192),
        f"{prefix}last_layer.weight_g": torch.ones(out_dim, 1),
        f"{prefix}last_layer.weight_v": torch.randn(out_dim, 8),
    }


def _official_dino(teacher, student, **args):
    settings = {"arch": "vit_tiny", "patch_size": 16, "global_crops_scale": (0.4, 1.0), "out_dim": 11} | args
    return {
        "student": _prefixed(student, "module.backbone.") | _head(),
        "teacher": _prefixed(teacher, "backbone.") | _head("head."),
        "optimizer": {
            "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "epoch": 100,
        "args": argparse.Namespace(**settings),
        "dino_loss": {"center": torch.arange(11.0)[None]},
    }


def _dinov2(state):
    """timm's names to those of DINOv2's own files: registers, positions, SwiGLU, a mask token."""
    state = dict(state) | {"mask_token": torch.zeros(1, 192)}
    if "reg_token" in state:
        registers = state.pop("reg_token")
        position_of_class = torch.randn(1, 1, 192)
        state["cls_token"] = state["cls_token"] - position_of_class
        state |= {"register_tokens": registers, "pos_embed": torch.cat([position_of_class, state["pos_embed"]], dim=1)}
    if "blocks.0.mlp.fc1.weight" in state and state["blocks.0.mlp.fc1.weight"].shape[0] != 768:
        state = {key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): v for key, v in state.items()}
    return state


def _dinov2_chunks(official):
    return {
        key.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): v for key, v in official.items()
    }


# What each layout embeds


@pytest.mark.parametrize("key", [None, "teacher", "student"])
def test_official_dino_embeds_as_its_own_code_and_prefers_the_teacher(tmp_path, vit, other_vit, key):
    loaded = load_checkpoint(_saved(tmp_path, _official_dino(vit, other_vit)), key=key)
    expected = class_token(other_vit if key == "student" else vit, IMAGES, num_heads=3)
    torch.testing.assert_close(_embed(loaded), expected, **TOLERANCE)
    assert (loaded.kind, loaded.arch, loaded.overrides) == ("DINO", "vit_tiny_patch16_224", {"depth": 2})
    assert loaded.image_size == 64
    assert loaded.report.matched_share == 1
    assert loaded.report.unexpected == tuple(_head("head."))


def test_what_an_official_dino_file_knows_about_its_training(tmp_path, vit, other_vit):
    facts = load_checkpoint(_saved(tmp_path, _official_dino(vit, other_vit))).training
    assert (facts.out_dim, facts.epoch, facts.non_finite) == (11, 100, ())
    assert torch.equal(facts.center, torch.arange(11.0))
    assert facts.args == {"arch": "vit_tiny", "patch_size": 16, "global_crops_scale": [0.4, 1.0], "out_dim": 11}


def test_official_dino_of_a_resnet(tmp_path):
    state = tiny_state("resnet18")
    loaded = load_checkpoint(_saved(tmp_path, {"teacher": _prefixed(state, "module.backbone.")}))
    model = timm.create_model("resnet18", num_classes=0).eval()
    model.load_state_dict(state)
    torch.testing.assert_close(_embed(loaded), model(IMAGES), **TOLERANCE)
    assert (loaded.kind, loaded.arch, loaded.overrides, loaded.image_size) == ("DINO", "resnet18", {}, 224)


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnet101", "resnet152"])
def test_resnets_are_told_apart(name):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    assert infer_architecture(state, "file").name == name


DINOV2 = {
    "plain": {"init_values": 1e-5},
    "registers": {"init_values": 1e-5, "reg_tokens": 3, "no_embed_class": True},
    "swiglu": {"mlp_ratio": 512 / 192},
}


@pytest.mark.parametrize("variant", DINOV2)
@pytest.mark.parametrize("wrapper", ["backbone file", "chunked", "teacher file", "training state"])
def test_dinov2_embeds_as_its_own_code(tmp_path, variant, wrapper):
    name = "vit_giant_patch14_dinov2" if variant == "swiglu" else "vit_small_patch14_dinov2"
    timms = tiny_state(name, size=56, **({"depth": 2, "embed_dim": 192, "num_heads": 3} | DINOV2[variant]))
    official = _dinov2(timms)
    teacher = _prefixed(official, "backbone.") | _head("dino_head.") | _head("ibot_head.", 7)
    content = {
        "backbone file": official,
        "chunked": _dinov2_chunks(official),
        "teacher file": {"teacher": teacher},
        "training state": {
            "model": _prefixed(teacher, "teacher.")
            | {key.replace("teacher.", "student."): value + 1 for key, value in _prefixed(teacher, "teacher.").items()}
            | {"dino_loss.center": torch.ones(1, 11)},
            "iteration": 5,
        },
    }[wrapper]
    loaded = load_checkpoint(_saved(tmp_path, content))
    images = IMAGES[:, :, :56, :56]
    torch.testing.assert_close(_embed(loaded, images), class_token(official, images, num_heads=3), **TOLERANCE)
    assert loaded.kind == "DINOv2"
    assert loaded.arch.startswith("vit_giant_patch14" if variant == "swiglu" else "vit_small_patch14")
    assert ("reg4" in loaded.arch) == (variant == "registers")
    assert loaded.image_size == 56
    assert loaded.training.out_dim == (11 if wrapper in ("teacher file", "training state") else None)
    assert (loaded.training.center is None) == (wrapper != "training state")


def _retfound(state, fine_tuned):
    state = dict(state)
    if fine_tuned:
        state |= {f"fc_{key}": state.pop(key) for key in ("norm.weight", "norm.bias")}
        return {"model": state | {"head.weight": torch.zeros(5, 192), "head.bias": torch.zeros(5)}, "epoch": 9}
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 192),
               "decoder_pos_embed": torch.zeros(1, 17, 8), "decoder_blocks.0.norm1.weight": torch.zeros(8),
               "decoder_norm.weight": torch.ones(8), "decoder_pred.weight": torch.zeros(768, 8)}  # fmt: skip
    return {"model": state | decoder, "args": argparse.Namespace(model="mae_vit_large_patch16", epochs=800)}


def test_retfound_before_fine_tuning_embeds_its_class_token(tmp_path, vit):
    loaded = load_checkpoint(_saved(tmp_path, _retfound(vit, fine_tuned=False)))
    torch.testing.assert_close(_embed(loaded), class_token(vit, IMAGES, num_heads=3), **TOLERANCE)
    assert (loaded.kind, loaded.overrides) == ("RETFound", {"depth": 2})
    assert loaded.training.args["model"] == "mae_vit_large_patch16"


def test_retfound_after_fine_tuning_embeds_the_mean_of_its_patches(tmp_path, vit):
    content = _retfound(vit, fine_tuned=True)
    loaded = load_checkpoint(_saved(tmp_path, content))
    torch.testing.assert_close(_embed(loaded), patch_mean(content["model"], IMAGES, num_heads=3), **TOLERANCE)
    assert loaded.kind == "RETFound"
    assert loaded.overrides == {"depth": 2, "global_pool": "avg", "fc_norm": True}
    named = load_checkpoint(loaded.path, arch="vit_tiny_patch16_224,depth=2")
    torch.testing.assert_close(_embed(named), _embed(loaded), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_bare_timm_state_dict_in_any_file(tmp_path, vit, suffix):
    file = tmp_path / f"bare{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(vit, file)
    else:
        torch.save(vit, file)
    loaded = load_checkpoint(file)
    torch.testing.assert_close(_embed(loaded), class_token(vit, IMAGES, num_heads=3), **TOLERANCE)
    assert (loaded.kind, loaded.name, loaded.sidecar) == ("timm state dict", "bare", Sidecar())


@pytest.mark.parametrize(
    "overrides",
    [{"qkv_bias": False}, {"proj_bias": False}, {"qk_norm": True}, {"init_values": 0.1}, {"mlp_ratio": 2.6},
     {"patch_size": 8, "embed_dim": 128, "num_heads": 2}, {"reg_tokens": 2}, {"reg_tokens": 2, "no_embed_class": True},
     {"class_token": False, "global_pool": "avg", "fc_norm": False}, {"class_token": False, "global_pool": "avg"},
     {"qk_norm": True, "embed_dim": 40, "num_heads": 5}],
    ids=str,
)  # fmt: skip
def test_variants_of_timms_vit_are_read_off_the_tensors(tmp_path, overrides):
    state = tiny_state(depth=2, **overrides)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, depth=2, **overrides).eval()
    model.load_state_dict(state)
    loaded = load_checkpoint(_saved(tmp_path, state))
    assert loaded.report.matched_share == 1
    with torch.inference_mode():
        torch.testing.assert_close(_embed(loaded), model(IMAGES), **TOLERANCE)


@pytest.mark.parametrize("wrapper", ["lightning", "lightly", "lightly-train", "compiled", "sharded"])
def test_wrappers_of_other_programs(tmp_path, vit, other_vit, wrapper):
    content = {
        "lightning": {"state_dict": _prefixed(vit, "model.backbone.") | _head("model.head."), "epoch": 2},
        "lightly": {
            "state_dict": _prefixed(other_vit, "student_backbone.") | _prefixed(vit, "teacher_backbone.")
            | _head("teacher_head.") | {"criterion.center": torch.ones(1, 1, 11)}
        },
        "lightly-train": {
            "state_dict": _prefixed(vit, "teacher_embedding_model.wrapped_model._model.")
            | _prefixed(other_vit, "student_embedding_model.wrapped_model._model.")
            | _head("teacher_projection_head.")
        },
        "compiled": _prefixed(vit, "module._orig_mod."),
        "sharded": {
            key.replace("s.0.", "s.0._fsdp_wrapped_module.").replace("mlp.", "_checkpoint_wrapped_module.mlp."): value
            for key, value in vit.items()
        },
    }[wrapper]  # fmt: skip
    loaded = load_checkpoint(_saved(tmp_path, content))
    torch.testing.assert_close(_embed(loaded), class_token(vit, IMAGES, num_heads=3), **TOLERANCE)
    assert loaded.training.out_dim == (None if wrapper in ("compiled", "sharded") else 11)
    assert (loaded.training.center is None) == (wrapper != "lightly")


def test_half_precision_weights_embed_in_single(tmp_path, vit):
    halved = {key: value.half() for key, value in vit.items()}
    loaded = load_checkpoint(_saved(tmp_path, halved))
    expected = class_token({key: value.float() for key, value in halved.items()}, IMAGES, num_heads=3)
    torch.testing.assert_close(_embed(loaded), expected, **TOLERANCE)


# Our own


@pytest.fixture
def trial(tmp_path):
    """The folder of a finished trial, and its encoder, too narrow for its heads to be guessed."""
    config = BackboneConfig(name="vit_tiny_patch16_224", overrides=TINY_VIT, init="imagenet", drop_path=0.1)
    backbone = build_backbone(config.model_copy(update={"init": "none"}), 48, seed=3).eval()
    folder = tmp_path / "trials" / "0002"
    folder.mkdir(parents=True)
    save_weights(
        folder / "teacher.safetensors", backbone, {"backbone": config.model_dump(), "image_size": 48, "seed": 5}
    )
    return folder, backbone


@pytest.mark.parametrize("as_folder", [True, False])
def test_our_own_weights_take_everything_from_the_sidecar(trial, as_folder):
    folder, backbone = trial
    loaded = load_checkpoint(folder if as_folder else folder / "teacher.safetensors")
    assert torch.equal(_embed(loaded, IMAGES[:, :, :48, :48]), backbone(IMAGES[:, :, :48, :48]))
    assert (loaded.kind, loaded.name, loaded.arch) == ("augscale", "0002", "vit_tiny_patch16_224")
    assert (loaded.overrides, loaded.image_size, loaded.sidecar.seed) == (TINY_VIT, 48, 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": {"name": 3}}, "teacher.json: backbone.name: "),
        ({"backbone": {"name": "vit_tiny_patch16_224", "overrides": {"depth": 10**9}}}, "has depth 2; .* 1000000000"),
        ({"backbone": {"name": "vit_tiny_patch16_224", "overrides": {"embed_dim": 10**9}}}, "has embed_dim 32"),
        ({"backbone": {"name": "vit_7b_patch16_dinov3"}}, "patches have 8 pixels, those of the named model 16"),
        ({"backbone": {"name": "vit_7b_patch16_dinov3", "overrides": {"patch_size": 8}}}, "0.0% .*missing"),
        ({"image_size": 10**9}, "teacher.json: image_size = 1000000000; expected 1 to 4096"),
        ({"image_size": "big"}, "teacher.json: image_size = 'big'"),
    ],
)
def test_a_sidecar_that_lies_is_refused(trial, change, words):
    sidecar = trial[0] / "teacher.json"
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | change))
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(trial[0])


def test_a_json_file_of_another_program_is_no_sidecar(tmp_path, vit):
    safetensors.torch.save_file(vit, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text('{"architecture": "vit"}')
    assert load_checkpoint(tmp_path / "model.safetensors").kind == "timm state dict"


def test_a_folder_without_weights_says_what_was_expected(tmp_path):
    with pytest.raises(CheckpointError, match=r"folder without teacher.safetensors; expected a weights file or"):
        load_checkpoint(tmp_path)


# Sizes


def test_position_embedding_is_resampled_for_another_size(tmp_path, vit):
    loaded = load_checkpoint(_saved(tmp_path, vit), image_size=96)
    images = torch.randn(2, 3, 96, 96)
    grid = vit["pos_embed"][:, 1:].reshape(1, 4, 4, 192).permute(0, 3, 1, 2)
    resampled = F.interpolate(grid, size=(6, 6), mode="bicubic", antialias=True, align_corners=False)
    position = torch.cat([vit["pos_embed"][:, :1], resampled.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(_embed(loaded, images), class_token(vit, images, 3, position), **TOLERANCE)
    assert loaded.image_size == 96


@pytest.mark.parametrize(("size", "deviation"), [(96, 0.02), (32, 0.06)], ids=["finer grid", "coarser grid"])
def test_how_far_official_dinos_resampling_is_from_timms(tmp_path, size, deviation):
    """Official DINO: bicubic without antialiasing (another kernel, a = -0.75 not -0.5), grid points a tenth off.

    On a smooth position embedding, as trained ones are, the embeddings are 0.9 % (finer) and 3 % (coarser) of their
    length apart; the bounds are there to notice a change of either side.
    """
    state = tiny_state(depth=2)
    coarse = torch.randn(1, 192, 2, 2, generator=torch.Generator().manual_seed(5))
    smooth = F.interpolate(coarse, size=(4, 4), mode="bilinear", align_corners=True)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], smooth.flatten(2).transpose(1, 2)], dim=1)
    grid = size // 16
    official = F.interpolate(smooth, scale_factor=((grid + 0.1) / 4,) * 2, mode="bicubic")
    assert official.shape[-1] == grid
    position = torch.cat([state["pos_embed"][:, :1], official.flatten(2).transpose(1, 2)], dim=1)
    loaded = load_checkpoint(_saved(tmp_path, state), image_size=size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(6))
    expected = class_token(state, images, 3, position)
    distance = (_embed(loaded, images) - expected).norm() / expected.norm()
    assert 1e-3 < distance < deviation


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (50, "image_size = 50: expected a multiple of .* 16"),
        (-16, "image_size = -16"),
        (0, "image_size = 0; expected 1 to"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(tmp_path, vit, size, words):
    with pytest.raises(ConfigError, match=words):
        load_checkpoint(_saved(tmp_path, vit), image_size=size)


# Architectures


@pytest.mark.parametrize("name", VITS)
def test_every_known_vit_is_recognised_by_its_shapes(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    found = infer_architecture(model.state_dict(), "file")
    assert (found.name, found.overrides) == (name, {})
    assert VITS[name].num_heads == model.blocks[0].attn.num_heads


def test_heads_that_cannot_be_known_ask_for_the_architecture_and_take_it(tmp_path):
    state = tiny_state(depth=2, embed_dim=48, num_heads=4)
    file = _saved(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"48 wide, of no known family.*--arch vit_base_.*,num_heads=H"):
        load_checkpoint(file)
    loaded = load_checkpoint(file, arch="vit_base_patch16_224,embed_dim=48,depth=2,num_heads=4,mlp_ratio=4")
    torch.testing.assert_close(_embed(loaded), class_token(state, IMAGES, num_heads=4), **TOLERANCE)


@pytest.mark.parametrize(
    ("arch", "error", "words"),
    [
        ("vit_small_patch16_224,depth=2", CheckpointError, "0.0% of the parameters matched.*mismatched"),
        ("vit_tiny_patch16_224", CheckpointError, "missing"),
        ("resnet18", CheckpointError, "matched"),
        ("vit_tiny_patch16_224,depth=2,patch_size=8", CheckpointError, "patches have 16 pixels, .* 8"),
        ("vit_tiny_patch16_224,depth=1", CheckpointError, "has depth 2; .* 1"),
        ("vit_tinny_patch16_224", ConfigError, "did you mean vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.nonesuch", ConfigError, "no weights 'nonesuch'"),
        ("vit_tiny_patch16_224,depth", ConfigError, "'depth' is not key=value"),
        ("vit_tiny_patch16_224,depth=2,deph=3", ConfigError, "deph"),
    ],
)
def test_a_named_architecture_must_fit(tmp_path, vit, arch, error, words):
    with pytest.raises(error, match=words) as caught:
        load_checkpoint(_saved(tmp_path, vit), arch=arch)
    assert "\n" not in str(caught.value)


def test_blocks_that_the_named_model_lacks_are_not_left_out_in_silence(tmp_path):
    file = _saved(tmp_path, tiny_state("resnet34"))
    with pytest.raises(CheckpointError, match=r"no place in resnet18 \(layer1\.2\.conv1"):
        load_checkpoint(file, arch="resnet18")


@pytest.mark.parametrize(
    "extra",
    ["blocks.0.attn.rel_pos_bias", "norm_pre.weight", "dist_token", "prompt_embeddings", "adapters.0.down", "lora_A.0"],
)
def test_a_vit_with_parts_that_timms_plain_one_lacks_is_refused(tmp_path, vit, extra):
    with pytest.raises(CheckpointError, match=f"{extra}.*another network.*--arch"):
        load_checkpoint(_saved(tmp_path, vit | {extra: torch.zeros(192)}))


@pytest.mark.parametrize("extra", ["lora_A.0.weight", "w_As.0.weight", "deep_prompt_embeddings"])
def test_what_takes_part_beside_the_encoder_is_not_left_out_in_silence(tmp_path, vit, extra):
    file = _saved(tmp_path, _prefixed(vit, "backbone.") | _head("head.") | {extra: torch.zeros(4, 192)})
    with pytest.raises(CheckpointError, match=f"{extra}.*another network"):
        load_checkpoint(file)
    backbone = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", overrides={"depth": 2}), 64)
    with pytest.raises(CheckpointError, match=f"{extra}.*another network"):
        load_weights_into(backbone, file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, "conv1.weight is 64x3x3x3, in ResNet 64x3x7x7, so it is another"),
        (
            {"bn1.running_mean": None, "bn1.running_var": None},
            "no running statistics of its batch norms .2 are missing",
        ),
    ],
)
def test_a_resnet_of_which_a_part_would_stay_untrained_is_refused(tmp_path, change, words):
    state = timm.create_model("resnet18", num_classes=0).state_dict() | change
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(_saved(tmp_path, {key: value for key, value in state.items() if value is not None}))


@pytest.mark.parametrize(("arch", "heads"), [("vit_small", 12), ("vit_small_patch16_224", 6), (None, None)])
def test_the_small_vit_of_moco_v3_has_12_heads(tmp_path, arch, heads):
    state = timm.create_model("vit_small_patch16_224", num_classes=0, img_size=32, depth=1).state_dict()
    content = _prefixed(state, "module.base_encoder.")
    content |= _prefixed(state, "module.momentum_encoder.") if arch == "vit_small" else {}
    file = _saved(tmp_path, {"state_dict": content} | ({"arch": arch} if arch else {}))
    if heads is None:
        with pytest.raises(CheckpointError, match=r"MoCo v3.*num_heads=12 or num_heads=6"):
            load_checkpoint(file)
        return
    loaded = load_checkpoint(file)
    assert loaded.backbone.model.blocks[0].attn.num_heads == heads
    images = IMAGES[..., :32, :32]
    torch.testing.assert_close(_embed(loaded, images), class_token(state, images, num_heads=heads), **TOLERANCE)


@pytest.mark.parametrize("change", [{"arch": "vit_base"}, {"patch_size": 8}])
def test_args_that_contradict_the_tensors_are_refused_unless_the_architecture_is_named(tmp_path, vit, change):
    file = _saved(tmp_path, _official_dino(vit, vit, **change))
    with pytest.raises(CheckpointError, match=r"its args say .*, its tensors a ViT 192 wide with patches of 16"):
        load_checkpoint(file)
    load_checkpoint(file, arch="vit_tiny_patch16_224,depth=2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pos_embed": torch.zeros(1, 13, 192)}, "13 entries, no square grid"),
        ({"pos_embed": None}, "pos_embed is missing.*DINOv3.*timm:NAME"),
        ({"blocks.1.attn.qkv.weight": torch.zeros(3, 192)}, "1 mismatched .blocks.1.attn.qkv.weight.*95%"),
        ({"patch_embed.proj.weight": torch.zeros(192, 1, 16, 16)}, "expected square patches of 3 channels"),
        ({"patch_embed.proj.weight": None}, "neither a ViT nor a ResNet"),
        ({"blocks.1000000000.norm1.weight": torch.zeros(192)}, "not numbered 0, 1, 2"),
    ],
)
def test_networks_of_another_kind_are_named(tmp_path, vit, change, words):
    state = {key: value for key, value in (vit | change).items() if value is not None}
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(_saved(tmp_path, state))


def test_a_key_that_the_file_lacks_names_those_it_has(tmp_path, vit, other_vit):
    file = _saved(tmp_path, _official_dino(vit, other_vit))
    with pytest.raises(CheckpointError, match="holds no network 'techer'; expected one of teacher, student"):
        load_checkpoint(file, key="techer")
    with pytest.raises(CheckpointError, match="expected no key"):
        load_checkpoint(_saved(tmp_path, vit, "bare.pth"), key="student")


def test_nan_is_reported_and_not_refused(tmp_path, vit, other_vit):
    content = _official_dino(dict(vit), other_vit)
    content["teacher"]["backbone.norm.bias"] = torch.full((192,), float("nan"))
    content["teacher"]["head.last_layer.weight_v"][0, 0] = float("inf")
    content["dino_loss"]["center"][0, 3] = float("-inf")
    loaded = load_checkpoint(_saved(tmp_path, content))
    assert loaded.training.non_finite == ("norm.bias", "head.last_layer.weight_v", "center")


# timm's own, and the untrained


def _with_weights(monkeypatch, tmp_path, name, **overrides):
    state = tiny_state(name, size=224, **overrides)
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
    return state


def test_timms_weights_see_the_normalisation_that_they_were_trained_with(monkeypatch, tmp_path):
    name = "vit_tiny_patch16_224.augreg_in21k"
    state = _with_weights(monkeypatch, tmp_path, name)
    loaded = load_checkpoint(f"timm:{name}")
    pixels = torch.rand(1, 3, 224, 224)
    ours = (pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    expected = class_token(state, (pixels - 0.5) / 0.5, num_heads=3)
    torch.testing.assert_close(_embed(loaded, ours), expected, rtol=1e-4, atol=1e-4)
    assert (loaded.kind, loaded.arch, loaded.name, loaded.image_size) == ("timm model", name, name, 224)
    from_file = load_checkpoint(tmp_path / "model.safetensors", arch=name)
    torch.testing.assert_close(_embed(from_file, ours), _embed(loaded, ours), rtol=0, atol=0)
    assert torch.equal(untrained_like(loaded).backbone.input_scale, loaded.backbone.input_scale)
    unnamed = load_checkpoint(tmp_path / "model.safetensors")
    assert unnamed.backbone.input_scale is None


def test_networks_trained_with_imagenets_normalisation_see_the_views_as_they_are(monkeypatch, tmp_path):
    _with_weights(monkeypatch, tmp_path, "resnet18")
    assert load_checkpoint("timm:resnet18").backbone.input_scale is None


def test_timm_without_a_hub_names_the_cause_and_the_way_on(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("timm:vit_small_patch16_224.dino")
    assert str(caught.value) == (
        "timm:vit_small_patch16_224.dino: no weights for vit_small_patch16_224.dino "
        "(HF_HUB_OFFLINE is set and they are not in the local cache); give a weights file instead"
    )


@pytest.mark.parametrize("spec", ["timm:nonesuch", "timm:vit_small_patch16_224.nonesuch", "random:nonesuch", "random:"])
def test_unknown_models_are_named(spec):
    with pytest.raises(ConfigError, match=f"^{spec}: backbone.name"):
        load_checkpoint(spec)


@pytest.mark.parametrize("option", ["arch", "key"])
def test_options_that_mean_nothing_are_refused(option):
    with pytest.raises(ConfigError, match=f"takes no --{option}"):
        load_checkpoint("random:vit_tiny_patch16_224", **{option: "x"})


def test_the_untrained_network_is_a_function_of_seed_0(tmp_path, vit):
    loaded = load_checkpoint("random:vit_tiny_patch16_224,depth=2", image_size=64)
    expected = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", overrides={"depth": 2}), 64, seed=0)
    torch.testing.assert_close(_embed(loaded), expected.eval()(IMAGES), rtol=0, atol=0)
    assert (loaded.kind, loaded.name) == ("untrained", "untrained vit_tiny_patch16_224,depth=2")
    file = _saved(tmp_path, vit)
    for other in (load_checkpoint(f"random:{file}"), untrained_like(load_checkpoint(file))):
        assert (other.kind, other.image_size, other.report) == ("untrained", 64, None)
        assert torch.equal(_embed(other), _embed(loaded))


# Names


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (["a/x.pth", "a/y.pt"], ["x", "y"]),
        (["a/x.pth", "b/x.pth"], ["a/x", "b/x"]),
        (["a/x.pth", "a/x.pt"], ["x.pth", "x.pt"]),
        (["run1/trials/0002/teacher.safetensors", "run1/trials/0003/teacher.safetensors"], ["0002", "0003"]),
        (["r1/trials/0002/teacher.safetensors", "r2/trials/0002/teacher.safetensors", "z.pt"],
         ["r1/trials/0002", "r2/trials/0002", "z"]),
        (["x.pth", "x.pth", "./y/../x.pth"], ["x", "x (2)", "x (3)"]),
        (["timm:resnet18.tv_in1k", "random:resnet18"], ["resnet18.tv_in1k", "untrained resnet18"]),
        (["v1.5/epoch10.ckpt", "v1.6/epoch10.ckpt"], ["v1.5/epoch10", "v1.6/epoch10"]),
    ],
)  # fmt: skip
def test_shortest_names_that_differ(specs, names):
    assert unique_names(specs) == names
