"""What cells of labels and patients mean; pandas says which are empty and which numbers are equal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augscale.data.image_tables import read_table
from augscale.data.labels import classes_line, clean_labels, is_no_value
from augscale.data.sources import scan_sources
from augscale.data.splits import patient_groups
from augscale.errors import DataError

NUMBERS = ["0", "1", "1.0", "1.00", "1.", "01", "2", "2.0", "1.0e+00", "1.000000000000000000e+00", "10", "10.0"]
GAPS = ["", "nan", "NaN", "NA", "N/A", "n/a", "None", "null", "NULL", "<NA>", "#N/A", "-nan"]
WORDS = ["normal", "Normal", " NORMAL ", "No  DR", "no dr", "glaucoma", "n", "Nancy", "0.5", "1.5", "naan", "1 0"]
MIXED = st.one_of(
    st.integers(0, 12).map(str),
    st.integers(0, 12).map(lambda number: f"{number}.0"),
    *map(st.sampled_from, (NUMBERS, GAPS, WORDS)),
)


def _table(path: Path, labels: list[str], column: str = "label") -> Path:
    rows = "".join(f'{number}.jpg,"{label}"\n' for number, label in enumerate(labels))
    path.write_text(f"file,{column}\n{rows}", encoding="utf-8")
    return path


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(MIXED, min_size=1, max_size=25))
def test_a_column_of_mixed_kinds_has_the_gaps_and_the_classes_that_pandas_finds(
    tmp_path: Path, labels: list[str]
) -> None:
    path = _table(tmp_path / "list.csv", labels)
    ours = clean_labels("list", [row.label for row in read_table(path).rows.values()]).labels
    column = pd.read_csv(path, dtype={"label": object}, skipinitialspace=True)["label"]
    numbers = pd.to_numeric(column, errors="coerce")
    keys = [
        None if gap else number if number == number else " ".join(str(text).split()).casefold()
        for gap, number, text in zip(column.isna(), numbers, column, strict=True)
    ]
    assert [label is None for label in ours] == [key is None for key in keys]
    known = [(label, key) for label, key in zip(ours, keys, strict=True) if label is not None]
    for label, key in known:
        for other, other_key in known:
            assert (label == other) == (key == other_key), (label, other)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patients=st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=1, max_size=12), whole=st.booleans())
def test_patients_are_those_that_pandas_wrote(tmp_path: Path, patients: list[int | None], whole: bool) -> None:
    """A column of whole numbers becomes one of floats where a value is missing; images without patient are alone."""
    for number in range(len(patients)):
        (tmp_path / f"{number}.jpg").write_bytes(b"%d" % number)
    written = pd.Series(patients, dtype="Int64" if whole else "float64")
    files = [f"{number}.jpg" for number in range(len(patients))]
    pd.DataFrame({"file": files, "patient": written}).to_csv(tmp_path / "list.csv", index=False)
    records = {r.image_id.rpartition("/")[2]: r for r in scan_sources([str(tmp_path / "list.csv")]).records}
    groups = patient_groups([records[file] for file in files]).tolist()
    for first, group in zip(patients, groups, strict=True):
        for second, other in zip(patients, groups, strict=True):
            if first != second or first is None:
                assert group != other or first is second
            else:
                assert group == other


def test_no_patient_is_shared_by_images_whose_patient_is_not_known(tmp_path: Path) -> None:
    for word in ("nan", "NA", "None", "?", "null"):
        rows = read_table(_table(tmp_path / "list.csv", [word] * 3, "patient_id")).rows.values()
        assert {row.patient_id for row in rows} == {None}


def test_words_for_no_value() -> None:
    assert all(map(is_no_value, [*GAPS, "?", "??", " nan ", "Null"]))
    assert not any(map(is_no_value, ["none", "NONE", "no", "0", "-1", "unknown", "-", "n"]))


@pytest.mark.parametrize("label", ["-1", "-1.0", "-9"])
def test_a_negative_label_is_refused_unless_told(label: str) -> None:
    labels = [label, "0", "1", "0"]
    number = label.removesuffix(".0")
    with pytest.raises(DataError, match=f"mine: 1 images have the label '{number}'.*--unlabelled {number} ") as caught:
        clean_labels("mine", labels)
    assert "\n" not in str(caught.value)
    told = clean_labels("mine", labels, unlabelled=[number])
    assert told.labels == (None, "0", "1", "0")
    assert told.notes == (f"1 images labelled '{number}': no label, as declared",)
    assert clean_labels("mine", labels, unlabelled=["-1", "-9"]).labels == told.labels
    assert clean_labels("mine", ["-1", "1"], classes=["-1", "1"]).labels == ("-1", "1")


def test_errors_of_a_spreadsheet_are_no_class() -> None:
    with pytest.raises(DataError, match="2 images have the label '#REF!', an error of a spreadsheet"):
        clean_labels("mine", ["#REF!", "a", "#REF!"])


def test_spellings_of_one_class_are_joined_under_the_most_frequent_and_said() -> None:
    found = clean_labels("mine", ["Normal", "normal", "Normal", None, "NORMAL", "sick"])
    assert found.labels == ("Normal", "Normal", "Normal", None, "Normal", "sick")
    assert found.notes == (
        "class 'Normal' is spelled in several ways and joined: 'Normal' (2), 'NORMAL' (1), 'normal' (1)",
    )
    assert clean_labels("mine", ["a", "A"], classes=["A", "b"]).labels == ("A", "A")
    assert clean_labels("mine", ["a", "A"], classes=["A", "a"]).labels == ("a", "A")
    assert clean_labels("mine", ["0", "1"], classes=["0.0", "1.0"]).labels == ("0.0", "1.0")
    assert clean_labels("mine", ["01", "02"]).labels == ("01", "02")
    assert clean_labels("mine", ["01", "1", "1"]).labels == ("1", "1", "1")


def test_the_line_of_classes_ends_somewhere() -> None:
    assert classes_line("mine", [("a", 2), ("b", 1)], [("train", 2), ("val", 0), ("test", 1)]) == (
        "mine: 3 images (2 train, 0 val, 1 test), 2 classes: a (2), b (1)"
    )
    line = classes_line("mine", [(str(number), 1) for number in range(1000)], [("train", 1000)])
    assert line.endswith("59 (1) and 940 more")


def test_what_cannot_be_seen_or_is_written_by_a_spreadsheet_makes_no_class_of_its_own() -> None:
    labels = clean_labels("x", ["1", "1\u200b", "\ufeff1", "1E+00", "1.00E+00", "1e5", "2"]).labels
    assert labels == ("1", "1", "1", "1", "1", "1e5", "2")


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_patients_whose_numbers_a_spreadsheet_has_rounded_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        path.write_text("file,patient_id\na.png,1.23457E+10\n", encoding="utf-8")
    else:
        pd.DataFrame({"file": ["a.png"], "patient_id": [1234567890123456700]}).to_excel(path, index=False)
    with pytest.raises(DataError, match="last digits a spreadsheet has cut off"):
        read_table(path)
    written = pd.DataFrame({"file": ["a.png"], "patient_id": ["1234567890123456789"]})
    written.to_csv(path, index=False) if suffix == ".csv" else written.to_excel(path, index=False)
    assert read_table(path).rows["a.png"].patient_id == "1234567890123456789"
