"""Label-free metrics of a network: values of the diagnosis, turned so that higher is better."""

import numpy as np
import pytest
import torch

from augscale.diagnosis.measure import measure_images, measure_views
from augscale.networks.backbones import Backbone
from augscale.scoring.panel import ProbePanel
from augscale.validation.score_metrics import LEVEL_METRICS, measure_network, raw_dprime, score_metrics


def test_raw_dprime_by_plain_loops():
    rng = np.random.default_rng(0)
    points, groups = rng.normal(size=(5, 3, 4)) * 7, np.array([0, 1, 1, 2, 3])
    near, far = [], []
    rows = [(image, view) for image in range(5) for view in range(3)]
    for index, (a, i) in enumerate(rows):
        for b, j in rows[index + 1 :]:
            distance = np.sqrt(((points[a, i] - points[b, j]) ** 2).sum())
            if a == b:
                near.append(distance)
            elif groups[a] != groups[b]:
                far.append(distance)
    expected = (np.mean(far) - np.mean(near)) / np.sqrt((np.var(far) + np.var(near)) / 2)
    assert raw_dprime(points, groups) == pytest.approx(expected)


def test_raw_dprime_sees_the_norm_that_dprime_does_not():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(8, 1, 4)) + 0.1 * rng.normal(size=(8, 2, 4))
    stretched = points * rng.uniform(1, 20, size=(8, 1, 1))
    plain, other = (measure_views(p).metrics["dprime"].value for p in (points, stretched))
    assert plain == pytest.approx(other)
    assert raw_dprime(points, np.arange(8)) != pytest.approx(raw_dprime(stretched, np.arange(8)), rel=0.05)


class Flatten(torch.nn.Module):
    num_features = 3 * 8 * 8

    def forward(self, x):
        return x.flatten(1)


@pytest.fixture(scope="module")
def panel():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(12, 1, 3, 8, 8, generator=generator)
    noise = torch.randn(2, 12, 2, 3, 8, 8, generator=generator)
    views = images + noise * torch.tensor([1.0, 5.0]).view(2, 1, 1, 1, 1, 1)
    return ProbePanel(
        view_size=8,
        level_names=("mild", "strong"),
        views=views,
        clean=images[:, 0],
        image_rows=np.arange(12),
        groups=np.arange(12) // 2,
        fingerprint="made",
    )


@pytest.fixture(scope="module")
def measured(panel):
    return measure_network(Backbone(Flatten()), panel, device="cpu", score=0.7, information=1.5, loss=4.0)


def test_every_metric_has_a_value(measured):
    assert set(measured) == {metric.key for metric in score_metrics(("mild", "strong"))}
    assert all(value is not None and np.isfinite(value) for value in measured.values())


def test_levels_are_those_of_the_diagnosis_turned_where_lower_is_better(measured, panel):
    for index, level in enumerate(panel.level_names):
        found = measure_views(panel.views[index].flatten(2).numpy(), panel.groups).metrics
        for metric in LEVEL_METRICS:
            if metric == "raw_dprime":
                continue
            sign = -1 if metric in ("retrieval_error", "alignment", "uniformity") else 1
            assert measured[f"{level}/{metric}"] == pytest.approx(sign * found[metric].value), metric


def test_the_ladder_is_the_mean_of_the_levels(measured):
    for metric in LEVEL_METRICS:
        levels = [measured[f"{level}/{metric}"] for level in ("mild", "strong")]
        assert measured[f"ladder/{metric}"] == pytest.approx(np.mean(levels))


def test_clean_and_training_metrics_are_turned_too(measured, panel):
    images = measure_images(panel.clean.flatten(1).numpy(), panel.groups).metrics
    assert measured["clean/rankme"] == pytest.approx(images["rankme"].value)
    assert measured["clean/alpha_req"] == pytest.approx(-abs(images["alpha_req"].value - 1))
    assert (measured["training/information"], measured["training/loss"]) == (1.5, -4.0)
    assert measured["study/score"] == 0.7


def test_milder_views_are_better_apart_so_signs_agree(measured):
    for metric in LEVEL_METRICS[:6]:
        assert measured[f"mild/{metric}"] > measured[f"strong/{metric}"], metric


def test_labels_say_what_was_turned():
    turned = {metric.metric for metric in score_metrics(("mild",)) if metric.turned}
    assert turned == {"retrieval_error", "alignment", "uniformity", "alpha_req", "loss"}
