import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from run_folder import UNTRAINED_SCORE, versus_untrained

from augscale.records.answer import AnswerRecord
from augscale.reporting.search.terminal import answer_lines, plain_answer, print_answer


@pytest.fixture
def answer(finished_folder):
    return json.loads((finished_folder / "answer.json").read_text(encoding="utf-8"))


def parsed(answer):
    return AnswerRecord.parse(answer, "answer.json")


def printed(answer, width, **console):
    target = Console(file=io.StringIO(), width=width, color_system=None, **console)
    print_answer(parsed(answer), Path("runs/default"), target)
    return target.file.getvalue()


def test_a_terminal_of_80_columns_shows_every_contender_unbroken(answer):
    text = printed(answer, 80, force_terminal=True)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    for contender in answer["contenders"]:
        (row,) = [line for line in lines if line.startswith(contender["name"] + " ")]
        assert f"{contender['search_score']:.2f}" in row
    assert answer["headline"].split()[0] in lines[1]
    assert "augscale export runs/default/best.toml --to dino" in text


def test_the_best_comes_first(answer):
    answer["contenders"].reverse()
    lines = plain_answer(parsed(answer)).splitlines()
    assert lines[0] == answer["headline"]
    assert lines[1].startswith(f"{answer['best']}: ")


def test_plain_text_keeps_one_line_per_contender_and_plain_signs(answer):
    text = printed(answer, 40)
    assert text.isascii()
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("note: ")]) == len(answer["caveats"])
    weak = next(c for c in answer["contenders"] if c["name"] == "weak")
    (row,) = [line for line in lines if line.startswith("weak: ")]
    assert f"worse than the best {weak['versus_best']['difference']:+.3f}" in row
    assert lines[-1] == "report: runs/default/report.html"


def test_the_untrained_network_stands_beside_with_the_sign_turned(answer):
    difference = answer["untrained"]["difference"]
    assert f"untrained: d' {UNTRAINED_SCORE:.3f}, worse than the best {-difference:+.3f}" in plain_answer(
        parsed(answer)
    )
    assert f"{-difference:+.2f}".replace("-", "−") in printed(answer, 80, force_terminal=True)


def test_a_longer_search_is_the_next_step_when_training_did_not_pay(answer):
    answer["untrained"] = versus_untrained(UNTRAINED_SCORE)
    text = plain_answer(parsed(answer), Path("runs/default"))
    assert "next: augscale search --study runs/default/study.toml --set pretrain.steps=1200" in text
    assert "not worse than the best" in text


def test_names_are_not_read_as_rich_markup(answer):
    answer["headline"] = "[bold]not markup[/bold] [/]"
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    console.print(answer_lines(parsed(answer)))
    assert "[bold]not markup[/bold] [/]" in console.file.getvalue()


def test_without_a_best_there_is_no_table_and_no_next_command(answer):
    answer |= {"best": None, "headline": "No trial completed."}
    for text in (printed(answer, 80, force_terminal=True), printed(answer, 80)):
        assert "No trial completed." in text
        assert "augscale export" not in text
        assert "weak" not in text


def test_a_run_folder_with_a_space_is_quoted(answer):
    assert "augscale export 'my run/best.toml'" in plain_answer(parsed(answer), Path("my run"))
