"""Patient ids from file names: one group of a regular expression, and clear words where it does not fit."""

import re
from pathlib import Path

import pytest
from PIL import Image

from augscale.config import load_study
from augscale.data.image_records import ImageRecord
from augscale.data.patient_names import with_patients
from augscale.data.side_names import side_hint
from augscale.data.sources import scan_data
from augscale.data.splits import hold_out, patient_groups
from augscale.errors import ConfigError, DataError

NAMES = [f"P{number}_{side}.png" for number in range(10, 30) for side in "LR"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "eyes"
    source.mkdir()
    for name in NAMES:
        Image.new("RGB", (16, 16)).save(source / name)
    return source


def _scan(folder: Path, pattern: str):
    study = load_study("smoke", {"data.sources": [str(folder)], "data.patient_pattern": pattern})
    return scan_data(study.data).records


def _record(name: str, **fields: str) -> ImageRecord:
    return ImageRecord(image_id=f"eyes/{name}", path=Path(name), source="eyes", origin="eyes", **fields)


def test_both_eyes_of_a_patient_come_to_one_side_of_the_split(folder):
    records = _scan(folder, r"(P\d+)_[LR]")
    assert {record.patient_id for record in records} == {f"P{number}" for number in range(10, 30)}
    train, held = hold_out(records, 10, seed=0)
    groups = patient_groups(records)
    assert len(held) == 10
    assert not set(groups[train]) & set(groups[held])
    without = patient_groups(scan_data(load_study("smoke", {"data.sources": [str(folder)]}).data).records)
    assert len(set(without)) == len(NAMES), "without the pattern every photograph is its own patient"


def test_the_hint_proposes_a_pattern_that_does_what_it_says(folder):
    records = scan_data(load_study("smoke", {"data.sources": [str(folder)]}).data).records
    hint = side_hint([*records, _record("P99.png")])
    assert hint is not None
    (pattern,) = re.findall(r"--patients-from '([^']+)'", hint)
    assert len({record.patient_id for record in _scan(folder, pattern)}) == 20
    assert with_patients([_record("P99.png")], pattern)[0].patient_id == "P99"


def test_the_hint_proposes_no_pattern_that_would_join_different_folders():
    hint = side_hint([_record(f"{site}/{number}_{side}.png") for site in "ab" for number in (1, 2) for side in "LR"])
    assert hint is not None
    assert "--patients-from" not in hint
    assert "table" in hint


def test_a_slash_in_the_pattern_searches_the_path_below_the_source():
    records = [_record("P1/left.png"), _record("P1/right.png"), _record("P2/left.png")]
    assert [found.patient_id for found in with_patients(records, r"^(P\d+)/")] == ["P1", "P1", "P2"]
    with pytest.raises(DataError, match=r"in 3 of 3 names, first eyes/P1/left\.png"):
        with_patients(records, r"^(P\d+)")


def test_an_id_from_a_table_is_kept():
    records = [_record("P1_L.png", patient_id="anna"), _record("P1_R.png")]
    assert [found.patient_id for found in with_patients(records, r"(P\d+)")] == ["anna", "P1"]


def test_names_that_do_not_match_are_counted_and_the_first_is_named():
    records = [_record(name) for name in ("P1_L.png", "scan7.png", "montage.png", "P_L.png")]
    with pytest.raises(DataError) as raised:
        with_patients(records, r"(P\d+)_[LR]")
    message = str(raised.value)
    assert "data.patient_pattern = '(P\\d+)_[LR]' finds no patient id in 3 of 4 names, first eyes/P_L.png;" in message
    assert "\n" not in message
    with pytest.raises(DataError, match="in 1 of 1 names"):
        with_patients([_record("P_L.png")], r"^P(\d*)_")  # an empty group is no id


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("P[", "'P[' is not a regular expression ("),
        (r"P\d+", "has no group in parentheses; expected one, the patient id, such as '(P\\d+)_[LR]'"),
        (r"(P)(\d+)", "has 2 groups in parentheses; expected one, the patient id"),
    ],
)
def test_a_wrong_pattern_is_refused_with_the_setting_and_what_is_expected(pattern, words):
    with pytest.raises(ConfigError) as raised:
        load_study("smoke", {"data.patient_pattern": pattern})
    assert "data.patient_pattern" in str(raised.value)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
