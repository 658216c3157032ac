import io
import json
import shlex
from pathlib import Path

import pytest
from rich.console import Console
from run_folder import UNTRAINED_SCORE, versus_untrained

from augscale.records.answer import AnswerRecord
from augscale.reporting.search import next_steps
from augscale.reporting.search.terminal import answer_screen, print_answer
from augscale.reporting.shared.screen import Screen, plain_screen, print_screen

RUN = Path("runs/default")


@pytest.fixture(autouse=True)
def no_library(monkeypatch):
    monkeypatch.setattr(next_steps, "find_spec", lambda module: None)


@pytest.fixture
def answer(finished_folder):
    return json.loads((finished_folder / "answer.json").read_text(encoding="utf-8"))


def parsed(answer):
    return AnswerRecord.parse(answer, "answer.json")


def printed(answer, width, run=RUN, **console):
    target = Console(file=io.StringIO(), width=width, color_system=None, **console)
    print_answer(parsed(answer), run, target)
    return target.file.getvalue()


def on_terminal(answer, width, run=RUN):
    return printed(answer, width, run, force_terminal=True)


def plain(answer, run=RUN):
    return plain_screen(answer_screen(parsed(answer), run))


def row(text, name):
    (found,) = [line.strip() for line in text.splitlines() if line.strip().startswith(f"{name} ")]
    return found


def null_of(score, untrained):
    runs = [{"name": "none", "state": "COMPLETE", "score": score}]
    return {"runs": runs, "untrained": untrained, "shift": score - untrained, "still": score == untrained}


@pytest.mark.parametrize(("columns", "widest"), [(80, 80), (120, 100)])
def test_a_terminal_shows_every_contender_unbroken_in_at_most_100_columns(answer, columns, widest):
    text = on_terminal(answer, columns)
    assert max(map(len, text.splitlines())) <= widest
    assert "…" not in text
    for contender in (one for one in answer["contenders"] if one["confirm_scores"]):
        low, high = contender["confirm_interval"]
        score = f"{contender['confirm_mean']:.3f} ({low:.3f} to {high:.3f})".replace("-", "−")
        assert score in row(text, contender["name"])
    assert answer["headline"].split()[0] in text.splitlines()[2]
    assert "runs/default/report.html" in text


def test_scores_below_zero_fit_80_columns_too(answer):
    answer["score_name"] = "alpha_req"
    for contender in answer["contenders"]:
        contender |= {"confirm_mean": -1.191, "confirm_interval": [-1.332, -1.051]}
    text = on_terminal(answer, 80)
    assert "−1.191 (−1.332 to −1.051)" in row(text, "weak")
    assert "0 is best" in text
    assert "…" not in text


def test_the_answer_comes_first_the_table_second_and_the_next_commands_last(answer):
    text = plain(answer)
    places = [text.index(words) for words in ("The scales of", "\nweak ", "- Label-free", "Next:", "Report")]
    assert places == sorted(places)


def test_the_best_is_the_first_row(answer):
    answer["contenders"].reverse()
    best = answer["best"]
    table = answer_screen(parsed(answer)).tables[0]
    assert table.rows[0].cells[0] == best
    assert table.rows[0].cells[-1] == "best"


def test_verdicts_state_the_paired_difference(answer):
    weak = next(contender for contender in answer["contenders"] if contender["name"] == "weak")
    assert row(plain(answer), "weak").endswith(f"worse by {-weak['versus_best']['difference']:.3f}")
    weak["versus_best"] |= {"distinguishable": False}
    assert row(plain(answer), "weak").endswith("not distinguishable")


def test_the_untrained_network_and_the_null_have_rows(answer):
    answer["null"] = null_of(UNTRAINED_SCORE, UNTRAINED_SCORE)
    text = plain(answer)
    difference = answer["untrained"]["difference"]
    assert row(text, "untrained").split() == ["untrained", f"{UNTRAINED_SCORE:.3f}", "worse", "by", f"{difference:.3f}"]
    assert row(text, "null").split("(search only)")[1].strip() == f"equals its start, {UNTRAINED_SCORE:.3f}"


def test_untrained_on_the_seed_of_the_search_is_told_from_untrained_on_fresh_seeds(answer):
    assert "seed of the search" not in plain(answer)
    answer["null"] = null_of(UNTRAINED_SCORE + 0.321, UNTRAINED_SCORE + 0.321)
    text = plain(answer)
    assert row(text, "untrained").split()[1] == f"{UNTRAINED_SCORE:.3f}"
    words = f"Untrained on the seed of the search, with which null began: {UNTRAINED_SCORE + 0.321:.3f}."
    assert words in " ".join(text.split())


def test_a_null_that_moves_is_the_first_caveat(answer):
    answer["null"] = null_of(UNTRAINED_SCORE + 0.1, UNTRAINED_SCORE)
    text = plain(answer)
    assert row(text, "null").endswith("moves by +0.100")
    assert "- The score moves without learning" in text.split("\n\n")[2].splitlines()[0]


def test_it_is_said_that_no_searched_scales_were_compared(answer):
    words = "- No searched trial reached its end, so none was compared; --set search.prune=false lets them"

    def said() -> bool:
        return words in " ".join(plain(answer).split())

    controls = [one for one in answer["contenders"] if not one["name"].startswith("trial ")]
    ended = sum(one.get("state", "COMPLETE") == "COMPLETE" for one in controls)
    answer["counts"] = {"COMPLETE": ended + 1, "PRUNED": 3}
    assert not said()
    answer["contenders"], answer["best"] = controls, controls[0]["name"]
    assert not said(), "a searched trial ended and was no contender"
    answer["counts"] = {"COMPLETE": ended, "PRUNED": 3}
    assert said()
    answer["counts"] = {"COMPLETE": ended}
    assert not said(), "nothing was pruned"


def test_scales_of_local_crops_that_were_not_drawn_are_not_shown(answer):
    assert "no local crops" not in plain(answer)
    answer["local_crops"] = False
    text = plain(answer)
    assert "Trials drew no local crops." in " ".join(text.split())
    heads = next(line for line in text.splitlines() if "jitter" in line)
    assert heads.split()[:2] == ["global", "jitter"]
    assert row(text, "weak").split()[1:3] == ["50-100", "0.2"]


def test_a_pre_trained_start_has_its_own_caveat(answer):
    words = "Label-free: a score above the pre-trained start does not show better features (docs: evidence)"
    assert words not in plain(answer)
    answer["backbone"]["init"] = "imagenet"
    (note,) = [line for line in on_terminal(answer, 100).splitlines() if "Label-free" in line]
    assert note.strip() == f"- {words}"


@pytest.mark.parametrize("columns", [80, 120])
def test_at_most_three_caveats_each_with_its_page(answer, columns):
    answer["contenders"][0]["confirm_missing"] = 2
    notes = [line for line in on_terminal(answer, columns).splitlines() if line.startswith(" - ")]
    assert len(notes) == 3
    assert "2 confirmation runs failed or collapsed (docs: score, Intervals)" in notes[0]
    assert " ".join(plain(answer).split()).count("(docs: ") == 3


def test_at_100_columns_a_caveat_is_one_line(answer):
    text = on_terminal(answer, 100)
    notes = [line for line in text.splitlines() if line.startswith(" - ")]
    assert all(line.rstrip().endswith(")") for line in notes), notes


def test_next_commands_hold_the_real_paths_and_can_be_copied(answer):
    text = plain(answer)
    assert "\n  augscale export runs/default/best.toml --to dino\n" in text
    assert "\n  augscale validate runs/default --datasets DIR --remake\n" in text
    assert "\n  augscale promote runs/default --epochs 100\n" in text


def test_export_is_proposed_to_the_library_at_hand(answer, monkeypatch):
    monkeypatch.setattr(next_steps, "find_spec", lambda module: module == "lightly")
    assert "best.toml --to lightly\n" in plain(answer)


def test_a_search_that_kept_the_weights_of_its_rungs_can_be_validated_at_once(answer, tmp_path):
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    (tmp_path / "trials" / "0000" / "rung-000060.safetensors").touch()
    assert "--remake" not in plain(answer, tmp_path)


@pytest.mark.parametrize("columns", [80, 120])
def test_a_long_command_is_continued_as_a_shell_reads_it(answer, columns):
    run = Path("/data/" + "experiments/of-the-eye-clinic/" * 5, "a run")
    text = on_terminal(answer, columns, run)
    lines = [line.rstrip() for line in text.split("Next:")[1].split("Report")[0].splitlines() if line.strip()]
    commands = "\n".join(line.removeprefix(" ") for line in lines).replace("\\\n", "").splitlines()
    assert shlex.split(commands[1]) == ["augscale", "validate", str(run), "--datasets", "DIR", "--remake"]


def test_a_longer_search_is_the_only_next_step_when_training_did_not_pay(answer):
    answer["untrained"] = versus_untrained(UNTRAINED_SCORE)
    text = plain(answer)
    command = text.split("Next:")[1].split("\n\n")[0].replace("\\\n", "")
    assert shlex.split(command) == [
        "augscale", "search", "--study", "runs/default/study.toml", "--set", "pretrain.steps=1200",
        "--out", "runs/default-longer",
    ]  # fmt: skip
    assert "not worse" in row(text, "untrained")
    assert row(text, answer["best"]).endswith("highest")


LEFT = {"trials": 0, "wanted": 5, "confirmations": 1, "planned": 6, "budget": "13m"}
GOES_ON = "augscale search --study runs/default/study.toml --out runs/default"


@pytest.mark.parametrize(
    ("left", "words", "command"),
    [
        (LEFT, "1 confirmation run left", f"{GOES_ON} --budget 13m"),
        (LEFT | {"budget": None}, "1 confirmation run left", GOES_ON),
        (LEFT | {"trials": 3, "confirmations": 0}, "3 trials left", f"{GOES_ON} --budget 13m"),
        (LEFT | {"confirmations": 2, "nulls": 1}, "2 confirmation runs and 1 run with learning rate 0 left", GOES_ON),
    ],
)
def test_an_unfinished_search_goes_on_first_with_its_budget(answer, left, words, command):
    answer["unfinished"] = left
    for text in (plain(answer), on_terminal(answer, 100)):
        following = text.split("Next:")[1]
        same = "the same budget again; " if left.get("budget") else ""
        assert following.split("\n")[0].strip() == f"{words}; {same}without --budget the search runs to its end"
        assert " ".join(following.replace("\\\n", "").split("\n")[1].split()).startswith(command)
        assert "augscale export" in following


@pytest.mark.parametrize("seeds", [1, 2])
def test_an_unfinished_search_is_longer_only_if_two_seeds_say_that_training_did_not_pay(answer, seeds):
    answer["unfinished"] = LEFT
    answer["untrained"] = versus_untrained(UNTRAINED_SCORE) | {"seeds": seeds}
    following = plain(answer).split("Next:")[1]
    assert f"{GOES_ON} --budget 13m" in following.replace("\\\n", "").replace("    ", "")
    assert ("-longer" in following) == (seeds == 2)
    assert "augscale export" not in following


def test_without_confirmation_scores_of_the_search_are_shown_with_a_caveat(answer):
    for contender in answer["contenders"]:
        contender |= {"confirm_scores": [], "confirm_mean": None, "confirm_interval": None, "versus_best": None}
    answer["untrained"] |= {"seeds": 1}
    text = plain(answer)
    best = next(contender for contender in answer["contenders"] if contender["name"] == answer["best"])
    assert "worse" not in text
    assert f"{best['search_score']:.3f} (" in row(text, best["name"])
    assert "score in the search" in text
    assert "- Not repeated on fresh seeds" in text


@pytest.mark.parametrize("seeds", [1, None])
def test_one_fresh_seed_gives_no_verdict_on_anything(answer, seeds):
    """Also for files of earlier versions, which do not say how many seeds the network before training has."""
    for contender in answer["contenders"]:
        kept = contender["confirm_scores"][:1]
        contender |= {"confirm_scores": kept, "confirm_mean": sum(kept), "confirm_interval": None, "versus_best": None}
        contender["confirm_mean"] = kept[0] if kept else None
    answer["untrained"] |= {"seeds": seeds}
    text = plain(answer)
    assert row(text, answer["best"]).endswith("highest")
    repeated = [contender["name"] for contender in answer["contenders"] if contender["confirm_scores"]]
    for name in {*repeated, "untrained"} - {answer["best"]}:
        assert row(text, name).endswith("no verdict"), name
    assert "worse" not in text
    assert "distinguishable" not in text.split("\n\n")[1]
    assert "One seed allows no verdict" in " ".join(text.split())


def test_a_pipe_gets_the_same_content_without_boxes_or_typographic_signs(answer):
    text = printed(answer, 40)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    words = "".join(text.split())
    screen = answer_screen(parsed(answer), RUN)
    for note in screen.notes[:3]:
        assert "".join(str(note).split()) in words
    for cells in (row.cells for row in screen.tables[0].rows):
        assert cells[0] in text


def test_names_are_not_read_as_rich_markup(answer):
    answer["headline"] = "[bold]not markup[/bold] [/]"
    for text in (on_terminal(answer, 80), printed(answer, 80)):
        assert "[bold]not markup[/bold] [/]" in text


def test_without_a_best_there_is_no_table_and_no_next_command(answer):
    answer |= {"best": None, "headline": "No trial completed."}
    for text in (on_terminal(answer, 80), printed(answer, 80)):
        assert "No trial completed." in text
        assert "augscale export" not in text
        assert "weak" not in text


def test_a_run_folder_with_a_space_is_quoted(answer):
    assert "augscale export 'my run/best.toml'" in plain(answer, Path("my run"))


def test_a_path_keeps_its_signs_where_text_loses_them(answer):
    answer["headline"] = "d’ – …"
    text = plain(answer, Path("l’œil"))
    assert text.startswith("d' - ...")
    assert "l’œil/report.html" in text


def test_a_narrow_terminal_wraps_text_and_keeps_paths_whole():
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    print_screen(Screen(headline="word " * 30, files=(("Report", Path("x" * 60)),)), console)
    *lines, report, _ = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert report == f" Report: {'x' * 60}"
