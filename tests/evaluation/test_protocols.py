"""All protocols behind one face, on datasets that are hardly datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from toy_protocols import ToyDataset, toy_config, toy_dataset, toy_encoder

from augscale.errors import ConfigError, DataError
from augscale.evaluation.interface import Protocol, dataset_digest
from augscale.evaluation.protocol_config import KnnConfig, ProtocolConfig
from augscale.evaluation.protocols import PROTOCOLS, make_protocols

CONFIG = toy_config(finetune={"epochs": 2, "batch_size": 8, "precision": "fp32"}, released={"epochs": 3, "draws": 2})


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest, tmp_path: Path) -> Protocol:
    (made,) = make_protocols([request.param], CONFIG, tmp_path, device="cpu")
    assert made.name == request.param
    return made


def _check(protocol: Protocol, dataset: ToyDataset, splits: tuple[str, ...] = ("val", "test")) -> dict:
    fitted = protocol.fit(toy_encoder(), dataset, seed=0)
    for split in splits:
        scores = fitted.predict(dataset, split)
        assert scores.shape == (len(dataset.part(split)), len(dataset.classes))
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        assert (scores >= 0).all()
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-9)
    return fitted.selection


def test_two_classes(protocol: Protocol) -> None:
    _check(protocol, toy_dataset(classes=2))


def test_one_image_of_each_class(protocol: Protocol) -> None:
    _check(protocol, toy_dataset(3, 3, 3))


def test_a_class_that_is_absent_from_validation_and_test(protocol: Protocol) -> None:
    dataset = toy_dataset()
    keep = [i for i in range(60) if dataset.split[i] == "train" or dataset.labels[i] != 2]
    _check(protocol, dataset.only(keep))


def test_a_class_that_is_absent_from_training(protocol: Protocol) -> None:
    dataset = toy_dataset()
    keep = [i for i in range(60) if dataset.split[i] != "train" or dataset.labels[i] != 2]
    _check(protocol, dataset.only(keep))


def test_validation_of_one_class_and_validation_of_nothing(protocol: Protocol) -> None:
    dataset = toy_dataset()
    one_class = [i for i in range(60) if dataset.split[i] != "val" or dataset.labels[i] == 1]
    nothing = [i for i in range(60) if dataset.split[i] != "val"]
    for keep in (one_class, nothing):
        selection = _check(protocol, dataset.only(keep))
        if protocol.name != "finetune" or keep is nothing:
            assert selection.get("validation_auroc", selection.get("validation_score")) is None


def test_a_test_split_without_images(protocol: Protocol) -> None:
    _check(protocol, toy_dataset().only(range(45)))


def test_training_images_of_one_class_and_none_at_all_are_refused(protocol: Protocol) -> None:
    dataset = toy_dataset()
    one_class = dataset.only([i for i in range(60) if dataset.split[i] != "train" or dataset.labels[i] == 1])
    with pytest.raises(DataError, match=f"toy: all training images are of class grade1; {protocol.name} needs"):
        protocol.fit(toy_encoder(), one_class, seed=0)
    with pytest.raises(DataError, match="toy: no image in the split train"):
        protocol.fit(toy_encoder(), dataset.only(range(30, 60)), seed=0)


def test_another_dataset_is_scored_with_the_classes_trained_on(protocol: Protocol) -> None:
    fitted = protocol.fit(toy_encoder(), toy_dataset(classes=3), seed=0)
    assert fitted.predict(toy_dataset(20, 5, 10, classes=2, side=48), "test").shape == (10, 3)


def test_an_unknown_protocol_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown protocol 'fine-tune' \(did you mean finetune\?\); expected"):
        make_protocols(["fine-tune"], CONFIG, tmp_path)


def test_numbers_to_choose_from_must_rise() -> None:
    with pytest.raises(ValidationError, match="expected rising numbers"):
        KnnConfig(neighbours=(5, 5))
    assert ProtocolConfig().linear.inverse_penalties[0] == 1e-5
    assert ProtocolConfig().linear.inverse_penalties[-1] == 100


def test_a_datasets_digest_changes_with_labels_and_split_but_not_with_the_test_split() -> None:
    dataset = toy_dataset()
    digests = {dataset_digest(dataset), dataset_digest(dataset.only(range(1, 60))), dataset_digest(toy_dataset(31, 14))}
    assert len(digests) == 3
    assert dataset_digest(dataset.only(range(50))) == dataset_digest(dataset)
