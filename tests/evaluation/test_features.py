"""Frozen features: what they are of, how images are seen, and that they are computed once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import functional as F
from toy_protocols import RESNET, VIEW_SIZE, VIT, toy_dataset, toy_encoder

from augscale.augmentation.draw import draw_view_parameters
from augscale.augmentation.resample import crop_resize
from augscale.augmentation.scales import NONE
from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD, normalize
from augscale.errors import CheckpointError, ConfigError, DivergedError, Paused
from augscale.evaluation import features as features_module
from augscale.evaluation.class_tokens import embedding_and_blocks
from augscale.evaluation.features import FeatureStore
from augscale.evaluation.transforms import (
    _CROP_SEED,
    RANDOM_CROP,
    evaluation_views,
    random_crops,
    resized_side,
)

# PIL cuts overshoots off after each pass and we at the end: these have none.
IMAGES = np.random.default_rng(0).integers(70, 180, (3, 50, 50, 3), dtype=np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path, device="cpu", batch_size=8)


@pytest.mark.parametrize("view_size", [32, 64])
def test_the_evaluation_view_is_torchvisions_resize_and_center_crop(view_size: int) -> None:
    resize = T.Resize(resized_side(view_size), interpolation=T.InterpolationMode.BICUBIC)
    normalize = T.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    theirs = T.Compose([resize, T.CenterCrop(view_size), T.ToTensor(), normalize])
    expected = torch.stack([theirs(Image.fromarray(image)) for image in IMAGES])
    found = evaluation_views(torch.from_numpy(IMAGES), view_size)
    # PIL also rounds to whole grey levels after each pass.
    assert float((found - expected).abs().max()) < 1.6 / 255 / min(IMAGENET_STD)


@pytest.mark.parametrize("view_size", [32, 56, 96, 224])
def test_an_image_of_the_decoded_size_is_cut_to_the_bit_as_after_resizing(view_size: int) -> None:
    side = resized_side(view_size)
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, side, side, 3), dtype=np.uint8))
    whole = draw_view_parameters(
        NONE, "global1", np.zeros(2, dtype=np.int64), 0, image_size=side, view_size=side, reference_size=side
    )
    start = round((side - view_size) / 2)
    center = slice(start, start + view_size)
    resized = crop_resize(images, whole, side, "bicubic")
    assert torch.equal(evaluation_views(images, view_size), normalize(resized[:, :, center, center]))


def test_views_of_224_come_from_256() -> None:
    assert resized_side(224) == 256


def test_a_crop_is_what_torchvision_cuts_bilinearly_with_the_same_box() -> None:
    boxes = draw_view_parameters(
        RANDOM_CROP, "global1", 2**32 + np.arange(3), _CROP_SEED, image_size=50, view_size=32, reference_size=32
    )
    found = random_crops(torch.from_numpy(IMAGES), np.arange(3), 1, 32)
    for i in range(3):
        box = [int(side[i]) for side in (boxes.top, boxes.left, boxes.height, boxes.width)]
        image = torch.from_numpy(IMAGES[i]).permute(2, 0, 1) / 255
        expected = F.resized_crop(image, *box, [32, 32], T.InterpolationMode.BILINEAR, antialias=True)
        torch.testing.assert_close(found[i], F.normalize(expected, IMAGENET_MEAN, IMAGENET_STD), atol=1e-4, rtol=0)


def test_crops_have_the_areas_of_random_resized_crop_and_are_not_flipped() -> None:
    rows = np.arange(200)
    # Values that rise to the right: a flip would make them fall.
    ramp = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None] * 5, (200, 50, 50, 3)).copy()
    crops = random_crops(torch.from_numpy(ramp), rows, 0, 16)
    assert (crops[..., -1] > crops[..., 0]).all()
    red = crops[:, 0, 8] * IMAGENET_STD[0] + IMAGENET_MEAN[0]
    width = (red[:, 15] - red[:, 0]) * 255 / 5 / 15 * 16  # pixels of the image across the crop
    assert 10 < float(width.min()) < 18, "an area of 0.08 is 14 pixels wide, give or take the aspect ratio"
    assert 45 < float(width.max()) < 51
    again = random_crops(torch.from_numpy(ramp[50:60]), rows[50:60], 0, 16)
    torch.testing.assert_close(again, crops[50:60])
    other = random_crops(torch.from_numpy(ramp), rows, 1, 16)
    assert float((other - crops).abs().mean()) > 0.05


def test_blocks_are_the_class_tokens_of_the_last_four_blocks_after_the_norm() -> None:
    backbone = toy_encoder().backbone
    x = torch.randn(5, 3, 32, 32)
    with torch.inference_mode():
        embedding, blocks = embedding_and_blocks(backbone, x)
        layers = backbone.model.get_intermediate_layers(x, 4, return_prefix_tokens=True, norm=True)
        expected = torch.cat([prefix[:, 0] for _, prefix in layers], dim=-1)
        torch.testing.assert_close(blocks, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(embedding, backbone(x), atol=0, rtol=0)
    assert blocks.shape == (5, 4 * 24)
    assert not any(module._forward_hooks for module in backbone.modules()), "a hook was left behind"


def test_blocks_of_a_network_with_registers_are_its_class_tokens_too() -> None:
    overrides = VIT | {"reg_tokens": 4, "init_values": 1e-1, "no_embed_class": True}
    backbone = toy_encoder("vit_small_patch14_reg4_dinov2", overrides).backbone
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        _, blocks = embedding_and_blocks(backbone, x)
        layers = backbone.model.get_intermediate_layers(x, 4, return_prefix_tokens=True, norm=True)
    torch.testing.assert_close(blocks, torch.cat([prefix[:, 0] for _, prefix in layers], dim=-1))


def test_a_shallow_transformer_gives_all_its_blocks() -> None:
    backbone = toy_encoder(overrides=VIT | {"depth": 2}).backbone
    with torch.inference_mode():
        assert embedding_and_blocks(backbone, torch.randn(2, 3, 32, 32))[1].shape == (2, 2 * 24)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("resnet10t", RESNET), ("vit_tiny_patch16_224", VIT | {"class_token": False, "global_pool": "avg"})],
)
def test_networks_without_a_class_token_give_their_embedding(name: str, overrides: dict[str, Any]) -> None:
    backbone = toy_encoder(name, overrides).backbone
    with torch.inference_mode():
        embedding, blocks = embedding_and_blocks(backbone, torch.randn(2, 3, 32, 32))
    assert torch.equal(embedding, blocks)
    assert embedding.shape == (2, backbone.embed_dim)


def test_features_are_in_the_order_of_the_split_and_copies_share_theirs(store: FeatureStore) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    shuffled = dataset.only(np.random.default_rng(1).permutation(60))
    found = store.evaluation(encoder, shuffled, "test", VIEW_SIZE)
    images = torch.from_numpy(dataset.images[shuffled.rows[shuffled.part("test")]])
    with torch.inference_mode():
        expected = encoder.backbone(evaluation_views(images, VIEW_SIZE))
    np.testing.assert_allclose(found.embedding, expected, atol=1e-5)
    crops = store.crops(encoder, shuffled, "test", VIEW_SIZE, 2)
    assert crops.shape == (2, 15, 96)
    assert np.abs(crops[0] - crops[1]).max() > 0.01
    with torch.inference_mode():
        views = random_crops(images, shuffled.rows[shuffled.part("test")], 1, VIEW_SIZE)
        np.testing.assert_allclose(crops[1], embedding_and_blocks(encoder.backbone, views)[1], atol=1e-5)
    copies = dataset.only([0, 59, 0, 1])
    found = store.evaluation(encoder, dataset.only([0, 1]), "train", VIEW_SIZE)
    again = store.evaluation(encoder, copies, "train", VIEW_SIZE)
    assert np.array_equal(again.embedding, found.embedding[[0, 0, 1]])


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that networks have seen."""
    seen: list[int] = []

    def counted(backbone: Any, x: torch.Tensor) -> Any:
        seen.append(len(x))
        return embedding_and_blocks(backbone, x)

    monkeypatch.setattr(features_module, "embedding_and_blocks", counted)
    return seen


def test_nothing_is_computed_twice_and_nothing_stale_is_found(
    store: FeatureStore, passes: list[int], tmp_path: Path
) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    first = store.evaluation(encoder, dataset, "train", VIEW_SIZE)
    assert sum(passes) == 30
    again = FeatureStore(tmp_path, device="cpu").evaluation(toy_encoder(), dataset, "train", VIEW_SIZE)
    assert sum(passes) == 30, "the same weights in another object"
    assert np.array_equal(first.blocks, again.blocks)
    store.crops(encoder, dataset, "train", VIEW_SIZE, 2)
    assert sum(passes) == 90
    store.crops(encoder, dataset, "train", VIEW_SIZE, 3)
    assert sum(passes) == 120, "only the third draw is new"
    changed = toy_encoder()
    with torch.no_grad():
        changed.backbone.model.blocks[0].mlp.fc1.bias[0] += 1e-3
    for other, data, size in (
        (changed, dataset, 32),
        (encoder, dataset.only(range(1, 60)), 32),
        (encoder, dataset, 24),
    ):
        before = sum(passes)
        store.evaluation(other, data, "train", size)
        assert sum(passes) > before


def test_on_a_cpu_at_most_16_images_pass_at_a_time(tmp_path: Path, passes: list[int]) -> None:
    FeatureStore(tmp_path, device="cpu", batch_size=64).evaluation(toy_encoder(), toy_dataset(), "train", VIEW_SIZE)
    assert passes == [16, 14]


def test_a_stopped_computation_goes_on_with_the_next_part(
    store: FeatureStore, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "PART_ROWS", 10)
    dataset, encoder = toy_dataset(), toy_encoder()
    told: list[tuple[int, int]] = []
    store.on_progress = lambda what, done, count: told.append((done, count))
    store.should_stop = lambda: sum(passes) >= 18
    with pytest.raises(Paused):
        store.evaluation(encoder, dataset, "train", VIEW_SIZE)
    assert passes == [8, 2, 8]
    store.should_stop = None
    resumed = store.evaluation(encoder, dataset, "train", VIEW_SIZE)
    assert passes == [8, 2, 8, 8, 2, 8, 2]
    assert told == [(10, 30), (20, 30), (30, 30)]
    images = torch.from_numpy(dataset.images[:30])
    with torch.inference_mode():
        expected = embedding_and_blocks(encoder.backbone, evaluation_views(images, VIEW_SIZE))[1]
    np.testing.assert_allclose(resumed.blocks, expected, atol=1e-5)


def test_a_damaged_part_is_computed_again(store: FeatureStore, passes: list[int], tmp_path: Path) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    first = store.evaluation(encoder, dataset, "train", VIEW_SIZE)
    (part,) = tmp_path.rglob("part-*.npz")
    part.write_bytes(part.read_bytes()[:100])
    again = store.evaluation(encoder, dataset, "train", VIEW_SIZE)
    assert sum(passes) == 60
    assert np.array_equal(first.embedding, again.embedding)


def test_a_full_disk_is_one_line_and_leaves_no_part(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(CheckpointError, match=r"part-00000\.npz: cannot be written \(No space left on device\)"):
        store.evaluation(toy_encoder(), toy_dataset(), "train", VIEW_SIZE)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["about.json"]


def test_features_that_are_not_finite_are_refused(store: FeatureStore) -> None:
    encoder = toy_encoder()
    with torch.no_grad():
        encoder.backbone.model.patch_embed.proj.bias.fill_(math.nan)
    with pytest.raises(DivergedError, match="toy0: 30 of 30 features on toy are not finite"):
        store.evaluation(encoder, toy_dataset(), "train", VIEW_SIZE)


def test_a_view_size_that_does_not_fit_is_refused(store: FeatureStore) -> None:
    with pytest.raises(ConfigError, match="view_size = 30: expected a multiple of the backbone's patch size 8"):
        store.evaluation(toy_encoder(), toy_dataset(), "train", 30)


def test_a_split_without_images_has_features_of_the_right_width(store: FeatureStore) -> None:
    found = store.evaluation(toy_encoder(), toy_dataset().only(range(30)), "val", VIEW_SIZE)
    assert found.embedding.shape == (0, 24)
    assert found.blocks.shape == (0, 96)


def test_bf16_features_are_kept_apart_from_fp32_ones(store: FeatureStore, tmp_path: Path) -> None:
    exact = store.evaluation(toy_encoder(), toy_dataset(), "val", VIEW_SIZE).embedding
    half = FeatureStore(tmp_path, device="cpu", precision="bf16")
    rounded = half.evaluation(toy_encoder(), toy_dataset(), "val", VIEW_SIZE).embedding
    assert 0 < np.abs(exact - rounded).max() < 0.1
    assert rounded.dtype == np.float32
