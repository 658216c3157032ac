"""The record of diagnosis.json: what is written is read back; arrays stay in memory; odd file names survive."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from augscale.diagnosis.measure import measure_images, measure_views
from augscale.diagnosis.result import CheckpointDiagnosis, Diagnosis
from augscale.errors import DataError
from augscale.records.diagnosis import DiagnosisRecord, PanelImage
from augscale.statistics.panel_bootstrap import measured


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    views = np.random.default_rng(0).standard_normal((12, 2, 5))
    images = measure_images(views[:, 0], bootstrap=10)
    checkpoint = CheckpointDiagnosis(
        name="a",
        levels={"strong": measure_views(views, bootstrap=10)},
        ladder={"dprime": measured(1.5, np.array([1.0, 2.0]))},
        overall=images.metrics,
        images=images,
        distances={"strong/positive": np.zeros(3, dtype=np.float32)},
    )
    return Diagnosis(checkpoints=(checkpoint,), images=(PanelImage(image_id="a\udcff.png", patient=0),))


def test_a_written_file_reads_back_as_the_same_values(found: Diagnosis, tmp_path: Path) -> None:
    path = tmp_path / "diagnosis.json"
    path.write_text(json.dumps(found.to_dict()), encoding="utf-8")
    assert DiagnosisRecord.read(path).to_dict() == found.to_dict()
    assert json.loads(path.read_text())["checkpoints"][0]["ladder"]["metrics"]["dprime"]["value"] == 1.5


def test_arrays_are_kept_in_memory_and_left_out_of_the_file(found: Diagnosis) -> None:
    assert found["a"].ladder["dprime"].replicates.tolist() == [1.0, 2.0]
    assert len(found["a"].levels["strong"].metrics["dprime"].replicates) == 10
    text = json.dumps(found.to_dict())
    assert "replicates" not in text
    assert "distances" not in json.loads(text)["checkpoints"][0]


def test_an_unknown_checkpoint_names_the_known_ones(found: Diagnosis) -> None:
    with pytest.raises(KeyError, match="expected one of a"):
        found["b"]


def test_a_field_of_the_wrong_type_is_named() -> None:
    with pytest.raises(DataError, match=r"file: checkpoints\.0\.embed_dim"):
        DiagnosisRecord.parse({"checkpoints": [{"name": "a", "embed_dim": "wide"}]}, "file")
