import io
from pathlib import Path

import pytest
from diagnosis_folder import QUALITY, diagnosis
from rich.console import Console

from augscale.records.diagnosis import DiagnosisRecord
from augscale.reporting.diagnosis.terminal import plain_diagnosis, print_diagnosis


def record(data):
    return DiagnosisRecord.parse(data, "diagnosis.json")


def printed(data, width, out_dir=Path("runs/d"), **console):
    target = Console(file=io.StringIO(), width=width, color_system=None, **console)
    print_diagnosis(record(data), out_dir, target)
    return target.file.getvalue()


def test_80_columns_show_every_checkpoint_with_values_over_intervals():
    text = printed(diagnosis(), 80, force_terminal=True)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    rows = {line.split()[0]: index for index, line in enumerate(lines[:16]) if line and line.split()[0] in QUALITY}
    row, bounds = lines[rows["dinov2"]], lines[rows["dinov2"] + 1]
    assert row.split()[:4] == ["dinov2", "healthy", "0.88", "1.81"]
    assert bounds.split()[0] == "0.82–0.93"
    assert lines[rows["broken"]].split() == ["broken", "collapsed", *"–––––"]
    assert "runs/d/diagnosis.html" in text


@pytest.mark.parametrize("hostile", [False, True])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width, hostile):
    text = printed(diagnosis(hostile=hostile), width, force_terminal=True)
    assert max(map(len, text.splitlines())) <= width


def test_advice_and_evidence_follow_their_checkpoint():
    text = printed(diagnosis(), 100, force_terminal=True)
    assert text.index("broken has collapsed") < text.index("RankMe 1.0 is below 4") < text.index("> Raise the teacher")


def test_a_pipe_gets_plain_ascii_lines_that_do_not_wrap():
    text = printed(diagnosis(), 40)
    assert text.isascii()
    lines = text.splitlines()
    assert lines[0] == "run-b has the highest pair AUROC on the ladder, but is not distinguishable from dinov2"
    (row,) = [line for line in lines if line.startswith("run-b: ")]
    assert row.startswith("run-b: healthy, pair AUROC 0.893 (0.839 to 0.946), d' 1.963 (")
    assert "comparison: run-b better than untrained: pair AUROC +0.200 (+0.160 to +0.240)" in lines
    assert "comparison: run-b not distinguishable from dinov2: pair AUROC +0.016 (-0.024 to +0.056)" in lines
    assert "advice: broken: Raise the teacher's temperature or lower the rate" in lines
    assert lines[-1] == "all numbers: runs/d/diagnosis.json"


def test_without_a_folder_no_file_is_named():
    assert "diagnosis.html" not in printed(diagnosis(), 80, None, force_terminal=True)
    assert "diagnosis.html" not in plain_diagnosis(record(diagnosis()))


def test_names_cannot_steer_the_terminal_or_forge_lines():
    data = diagnosis(names=("run-b",))
    data["checkpoints"][0]["name"] = "a\x1b[2J\nadvice: b: [red]do this"
    for text in (printed(data, 80, force_terminal=True), printed(data, 80)):
        assert "\x1b" not in text
        assert "[red]" in text
    assert not [line for line in plain_diagnosis(record(data)).splitlines() if line.startswith("advice: b")]
