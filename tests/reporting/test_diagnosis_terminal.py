import io
from pathlib import Path

import pytest
from diagnosis_folder import QUALITY, diagnosis
from rich.console import Console

from augscale.records.diagnosis import DiagnosisRecord
from augscale.reporting.diagnosis.terminal import diagnosis_screen, print_diagnosis
from augscale.reporting.shared.screen import plain_screen


def record(data):
    return DiagnosisRecord.parse(data, "diagnosis.json")


def printed(data, width, out_dir=Path("runs/d"), **console):
    target = Console(file=io.StringIO(), width=width, color_system=None, **console)
    print_diagnosis(record(data), out_dir, target)
    return target.file.getvalue()


def plain(data, out_dir=Path("runs/d")):
    return plain_screen(diagnosis_screen(record(data), out_dir))


def row(text, name):
    (found,) = [line.split() for line in text.splitlines() if line.split()[1:2] == [name]]
    return found[2:]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_a_row_per_checkpoint_with_marks_against_the_others(columns):
    text = printed(diagnosis(), columns, force_terminal=True)
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    assert "…" not in text
    assert row(text, "run-b") == ["healthy", "0.893", "(0.839", "to", "0.946)", "1.963", "50.7", "=", "▲", "–"]
    assert row(text, "untrained")[-3:] == ["▼", "▼", "–"]
    assert row(text, "broken") == ["collapsed", *"–––", *"–––"], "none is marked against a collapsed one"
    assert "runs/d/diagnosis.html" in text


@pytest.mark.parametrize("hostile", [False, True])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width, hostile):
    text = printed(diagnosis(hostile=hostile), width, force_terminal=True)
    assert max(map(len, text.splitlines())) <= width


def test_answer_table_notes_files_in_this_order():
    text = plain(diagnosis())
    places = [text.index(words) for words in ("run-b has the highest", "\n1 run-b", "- broken: RankMe", "\nPage: ")]
    assert places == sorted(places)


def test_only_what_is_not_healthy_is_explained_with_its_first_advice():
    text = " ".join(plain(diagnosis()).split())
    assert "- broken: RankMe 1.0 is below 4; Check that the keys fit: 12 % matched" in text
    assert "(docs: diagnosis, Health)" in text
    assert "- run-b" not in text
    assert "- untrained" not in text


def test_three_notes_are_shown_and_the_rest_counted():
    data = diagnosis() | {"notes": [f"note {index}" for index in range(9)]}
    text = plain(data)
    assert "note 1" in text
    assert "note 2" not in text
    assert "Page, with 7 more notes: runs/d/diagnosis.html" in text


def test_a_pipe_gets_plain_ascii_lines_of_at_most_80_columns():
    text = printed(diagnosis(), 40)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("run-b has the highest pair AUROC on the ladder, but is not distinguishable from")
    assert row(text, "run-b")[-3:] == ["=", ">", "-"]
    assert text.splitlines()[-1] == "Data: runs/d/diagnosis.json"


def test_sizes_are_a_column_only_where_they_differ():
    data = diagnosis()
    assert " px" not in plain(data)
    for checkpoint, size in zip(data["checkpoints"], (64, 224, 64, 224), strict=True):
        checkpoint["view_size"] = size
    assert row(plain(data), "dinov2")[:3] == ["224", "px", "healthy"]


def test_a_single_checkpoint_has_no_marks():
    data = diagnosis(names=("run-b",))
    text = plain(data)
    assert "of that number" not in text
    assert "\nrun-b  healthy" in text


def test_without_a_folder_no_file_is_named():
    assert "diagnosis.html" not in printed(diagnosis(), 80, None, force_terminal=True)
    assert "diagnosis.html" not in plain(diagnosis(), None)


def test_names_cannot_steer_the_terminal_or_forge_lines():
    data = diagnosis(names=("run-b",))
    data["checkpoints"][0]["name"] = "a\x1b[2J\nPage: b: [red]do this"
    for text in (printed(data, 80, force_terminal=True), printed(data, 80)):
        assert "\x1b" not in text
        assert "[red]" in text
    assert not [line for line in plain(data).splitlines() if line.startswith("Page: b")]


def test_every_checkpoint_is_named_once_in_the_table():
    text = plain(diagnosis())
    for name in QUALITY:
        assert row(text, name)
