"""Scores from labels (`search --labels`), from train and val images only."""

from __future__ import annotations

import csv
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny_runs import searched

from augscale.config import load_study
from augscale.demo import render
from augscale.demo.patients import synthetic_records
from augscale.errors import ConfigError, DataError
from augscale.evaluation.datasets import open_dataset
from augscale.evaluation.ridge import ridge_scores
from augscale.evaluation.transforms import evaluation_views
from augscale.networks.checkpoints import load_checkpoint
from augscale.runs.files import read_json
from augscale.searching import labelled_score
from augscale.searching.labelled_score import NEIGHBOURS, TEMPERATURE, open_labelled, score_labelled

ARGUMENTS = (
    "--trials",
    "5",
    "--set",
    "search.keep_weights=rungs",
    "--set",
    "search.null_trials=0",
    "--set",
    "confirm.seeds=1",
)


def _folder(path: Path, splits: tuple[str, ...]) -> Path:
    path.mkdir()
    by_class = [[r for r in synthetic_records(100, 0) if r.label == label] for label in ("0", "4")]
    chosen = [r for rows in zip(*by_class, strict=False) for r in rows][:40]
    with (path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "split"])
        for index, record in enumerate(chosen):
            Image.fromarray(render(record.image_id, 0, 40)).save(path / f"{index:02d}.png")
            table.writerow([f"{index:02d}.png", record.label, splits[index // 2 % len(splits)]])
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    return _folder(tmp_path_factory.mktemp("data") / "labelled", ("train", "val", "train", "test"))


@pytest.fixture(scope="module")
def finished(labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "labelled"
    return out, searched(out, *ARGUMENTS, "--labels", str(labelled))


def plain_knn_auroc(features, labels, gallery, queries):
    """DINO's weighted k-NN, image by image."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    scores = []
    for query in queries:
        similarity = unit[gallery] @ unit[query]
        nearest = np.argsort(-similarity)[:NEIGHBOURS]
        weights = np.exp(similarity[nearest] / TEMPERATURE)
        scores.append(weights[labels[gallery][nearest] == 1].sum() / weights.sum())
    return roc_auc_score(labels[queries] == 1, scores)


def plain_cv_auroc(features, labels, groups):
    """Scikit-learn's ridge, fold by fold."""
    areas = []
    for repeat in range(3):
        scores = np.empty(len(labels))
        for train, held_out in StratifiedGroupKFold(5, shuffle=True, random_state=repeat).split(
            features, labels, groups
        ):
            _, penalty = ridge_scores(
                features[train].astype(np.float64), np.eye(2)[labels[train]], features[held_out].astype(np.float64)
            )
            model = make_pipeline(StandardScaler(), Ridge(alpha=penalty)).fit(
                features[train].astype(np.float64), labels[train]
            )
            scores[held_out] = model.predict(features[held_out].astype(np.float64))
        areas.append(roc_auc_score(labels, scores))
    return np.mean(areas)


def test_the_recorded_score_is_the_plain_loops_on_the_kept_weights(finished, labelled):
    out, process = finished
    assert process.exit_code == 0, process.exception
    dataset = open_dataset(labelled, size=40)
    views = evaluation_views(torch.from_numpy(np.array(dataset.images[dataset.rows])), 32)
    used = np.concatenate([dataset.part("train"), dataset.part("val")])
    for number, step in ((1, 2), (2, 8), (4, 2)):
        directory = out / "trials" / f"{number:04d}"
        backbone = load_checkpoint(directory / f"rung-{step:06d}.safetensors").backbone
        with torch.inference_mode():
            features = backbone(views).numpy()
        expected = plain_cv_auroc(features[used], dataset.labels[used], dataset.groups[used])
        rungs = read_json(directory / "trial.json")["rungs"]
        assert next(r["score"] for r in rungs if r["step"] == step) == pytest.approx(expected, abs=1e-6)


def test_nearest_neighbours_are_those_of_the_plain_loop(labelled):
    dataset = open_dataset(labelled, size=40)
    views = evaluation_views(torch.from_numpy(np.array(dataset.images[dataset.rows])), 32)
    expected = plain_knn_auroc(_Mean()(views).numpy(), dataset.labels, dataset.part("train"), dataset.part("val"))
    found = score_labelled(_Mean(), [dataset], name="knn-auroc", view_size=32)
    assert found.score == pytest.approx(expected, abs=1e-6)


def test_the_answer_the_card_and_the_report_say_that_labels_were_used(finished):
    out, process = finished
    answer = read_json(out / "answer.json")
    assert answer["score_name"] == "cv-auroc"
    assert [dataset["name"] for dataset in answer["labels_used"]] == ["labelled"]
    assert any(caveat.startswith("The score used labels") for caveat in answer["caveats"])
    assert not any("label-free" in caveat for caveat in answer["caveats"])
    card = tomllib.loads((out / "best.toml").read_text(encoding="utf-8"))["card"]
    assert card["score_name"] == "cv-auroc"
    assert len(card["labels_used"]) == 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Label AUROC comes from labels" in page
    assert "The score used labels" in process.stdout
    said = process.stdout.index("labelled: 40 images (20 train, 10 val, 10 test), 2 classes: 0 (20), 4 (20)")
    assert said < process.stdout.index("COMPLETE")


def test_confirmation_and_the_untrained_network_have_the_same_kind_of_score(finished):
    out, _ = finished
    records = [read_json(path) for path in (out / "confirm").glob("*/trial.json")]
    assert len(records) >= 4
    for final in [read_json(out / "untrained.json"), *(record["final"] for record in records)]:
        assert final["score_name"] == "cv-auroc"
        assert 0 <= final["score"] <= 1
        assert len(final["bootstrap_scores"]) == 50
        assert set(final["levels"]), "the panel's findings stand beside it"


def test_weights_at_every_rung_are_kept_also_of_confirmation_runs_and_loads(finished):
    out, _ = finished
    for record_file in (*out.glob("trials/*/trial.json"), *out.glob("confirm/*/trial.json")):
        for rung in read_json(record_file)["rungs"]:
            weights = record_file.parent / f"rung-{rung['step']:06d}.safetensors"
            sidecar = read_json(weights.with_suffix(".json"))
            assert weights.is_file()
            assert (sidecar["trained_steps"], sidecar["metrics"]["score"]) == (rung["step"], rung["score"])


def test_other_labels_are_refused_on_resuming(finished, labelled):
    out, _ = finished
    table = labelled / "labels.csv"
    before = table.read_text()
    try:
        table.write_text(before.replace(",val", ",train", 1).replace(",train", ",val", 1))
        done = searched(out, *ARGUMENTS, "--labels", str(labelled))
    finally:
        table.write_text(before)
    assert isinstance(done.exception, ConfigError)
    assert "are not those this run began with" in str(done.exception)


class _Mean(torch.nn.Module):
    """Sums over the pixels of each channel, so that a changed image changes its embedding."""

    def forward(self, x):
        return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1)


@pytest.mark.parametrize("name", ["cv-auroc", "knn-auroc"])
def test_test_images_are_never_looked_at(labelled, name):
    dataset = open_dataset(labelled, size=40)
    images = np.array(dataset.images)
    images[dataset.rows[dataset.part("test")]] = 255 - images[dataset.rows[dataset.part("test")]]
    changed = replace(dataset, images=images)
    options = {"name": name, "view_size": 32, "bootstrap": 20, "seed": 1}
    plain, other = (score_labelled(_Mean(), [d], **options) for d in (dataset, changed))
    assert plain.score == other.score
    assert (plain.bootstrap_scores == other.bootstrap_scores).all()
    images[dataset.rows[dataset.part("val")][:4]] = 255 - images[dataset.rows[dataset.part("val")][:4]]
    assert score_labelled(_Mean(), [changed], **options).score != plain.score


@pytest.mark.parametrize("name", ["cv-auroc", "knn-auroc"])
def test_several_datasets_count_alike_and_resamples_are_shared(labelled, name):
    dataset = open_dataset(labelled, size=40)
    other = replace(dataset, name="other", labels=1 - dataset.labels)
    found = score_labelled(_Mean(), [dataset, other], name=name, view_size=32, bootstrap=50)
    assert found.score == pytest.approx(np.mean(list(found.by_dataset.values())))
    assert list(found.by_dataset) == ["labelled", "other"]
    assert found.interval[0] <= found.score <= found.interval[1]
    again = score_labelled(_Mean(), [dataset, other], name=name, view_size=32, bootstrap=50)
    assert (again.bootstrap_scores == found.bootstrap_scores).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"probe.score": "knn-auroc"}, 'score = "knn-auroc" needs labels: expected probe.labelled'),
        ({"probe.score": "cv-auroc"}, 'score = "cv-auroc" needs labels: expected probe.labelled (--labels)'),
        ({"probe.labelled": ["x"]}, 'only used by score = "cv-auroc" or "knn-auroc"; found score = "dprime"'),
        ({"probe.score": "knn_auroc"}, "probe.score = 'knn_auroc' is not accepted"),
    ],
)
def test_a_score_without_labels_and_labels_without_the_score_are_refused(overrides, message):
    with pytest.raises(ConfigError) as error:
        load_study("smoke", overrides)
    assert message in str(error.value)


def test_datasets_that_cannot_give_an_auroc_are_refused(tmp_path):
    def opened(source, score="knn-auroc"):
        return open_labelled(load_study("smoke", {"probe.score": score, "probe.labelled": [str(source)]}))

    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "nowhere")
    folder = _folder(tmp_path / "one-class", ("train", "val", "train", "test"))
    rows = (folder / "labels.csv").read_text().splitlines()
    kept = [row for row in rows if not row.endswith("4,val")]
    (folder / "labels.csv").write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match=r"one-class has 5 val images of 1 class; .* at least 2 classes"):
        opened(folder)

    kept = [row for row in rows if not row.endswith(("4,val", "4,train"))]
    kept += [row for row in rows if row.endswith("4,train")][:1]
    (folder / "labels.csv").write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match=r"one-class has too few patients in train and val \(0: \d+, 4: 1\)"):
        opened(folder, "cv-auroc")


def test_a_class_of_one_patient_does_not_count(labelled):
    dataset = open_dataset(labelled, size=40)
    labels = dataset.labels.copy()
    labels[dataset.part("train")[0]] = 2
    other = replace(dataset, labels=labels, classes=(*dataset.classes, "rare"))
    found = score_labelled(_Mean(), [other], name="cv-auroc", view_size=32, bootstrap=20)
    assert np.isfinite(found.bootstrap_scores).all()
    judged = labelled_score._by_regression(other, np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))
    assert judged.classes.tolist() == [0, 1]


def test_the_panel_is_still_scored_for_checkpoints_of_such_a_study():
    probe = load_study("smoke", {"probe.score": "knn-auroc", "probe.labelled": ["x"]}).probe
    assert probe.separation == "dprime"
    assert load_study("smoke", {"probe.score": "pair_auroc"}).probe.separation == "pair_auroc"


def test_two_datasets_of_one_name_are_refused(labelled, tmp_path):
    twin = _folder(tmp_path / "labelled", ("train", "val", "train", "test"))
    study = load_study("smoke", {"probe.score": "cv-auroc", "probe.labelled": [str(labelled), str(twin)]})
    with pytest.raises(DataError, match="two datasets are called labelled; expected different names"):
        open_labelled(study)
