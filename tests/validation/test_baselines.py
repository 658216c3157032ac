"""Features without a network: what they are, and that they go the way of every encoder."""

import numpy as np
import pytest
import torch

from augscale.augmentation.views import normalize
from augscale.scoring.embeddings import embed
from augscale.validation.baselines import baseline_encoders

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def encoders():
    return {encoder.name: encoder for encoder in baseline_encoders(32)}


@pytest.fixture(scope="module")
def views():
    return normalize(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255)


def test_raw_pixels_are_block_means_of_the_normalised_view(encoders, views):
    found = embed(encoders["raw pixels 16x16"].backbone, views)
    blocks = views.numpy().reshape(3, 3, 16, 2, 16, 2).mean(axis=(3, 5))
    assert found == pytest.approx(blocks.reshape(3, -1), abs=1e-5)


def test_colour_statistics_are_histograms_means_and_deviations(encoders, views):
    found = embed(encoders["colour statistics"].backbone, views).reshape(3, 3, 18)
    for image in range(3):
        for channel in range(3):
            values = IMAGES[image, :, :, channel].ravel()
            # 256 grey levels in 16 bins of 16.
            counts = np.bincount(values // 16, minlength=16) / values.size
            assert found[image, channel, :16] == pytest.approx(counts, abs=3e-3)
            scaled = values / 255
            assert found[image, channel, 16:] == pytest.approx([scaled.mean(), scaled.std(ddof=1)], abs=1e-5)


def test_colour_statistics_know_no_places(encoders, views):
    backbone = encoders["colour statistics"].backbone
    shuffled = views.flatten(2)[:, :, torch.randperm(32 * 32)].reshape(views.shape)
    assert embed(backbone, shuffled) == pytest.approx(embed(backbone, views), abs=1e-5)


def test_each_has_a_fingerprint_of_its_own(encoders):
    assert len({encoder.fingerprint for encoder in encoders.values()}) == 2
    again = {encoder.name: encoder.fingerprint for encoder in baseline_encoders(32)}
    assert again == {name: encoder.fingerprint for name, encoder in encoders.items()}
