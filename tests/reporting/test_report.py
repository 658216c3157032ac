import json
import re
import shutil

import pytest
from page_reader import Page
from run_folder import UNTRAINED_SCORE, put, versus_untrained, write_run

from augscale.errors import ConfigError
from augscale.records.answer import AnswerRecord
from augscale.reporting.search import next_steps, report
from augscale.reporting.search.contenders import contender_rows, leader_word
from augscale.reporting.search.report import write_report
from augscale.reporting.search.results import read_run
from augscale.reporting.search.tables import scales_table

HOSTILE = '<img src=x onerror="alert(1)">&\'"</script>'

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def page(finished_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "run"
    shutil.copytree(finished_folder, folder)
    return Page(write_report(folder))


def report_of(folder, **kwargs):
    return Page(write_report(folder, **kwargs))


def change_answer(folder, **changes):
    put(folder / "answer.json", json.loads((folder / "answer.json").read_text(encoding="utf-8")) | changes)


def test_the_page_is_one_file_of_reasonable_size(finished_folder):
    path = write_report(finished_folder)
    assert path == finished_folder / "report.html"
    assert path.stat().st_size < 8e6
    assert [p.name for p in finished_folder.iterdir() if p.name.startswith(".")] == []


def test_nothing_is_fetched_and_the_page_forbids_it(page):
    assert all(link.startswith(("#", "data:")) for link in page.links)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed")]


def test_the_answer_stands_on_top_in_the_answers_own_words(finished, page):
    assert page.words.index(finished.answer.headline) < page.words.index("What this does not show")
    for caveat in finished.answer.caveats:
        assert caveat in page.words
    assert page.words.index("What this does not show") < page.words.index("Confirmation on fresh seeds")


def test_the_table_of_the_terminal_stands_above_the_differences_with_their_intervals(finished, page):
    top = page.words[: page.words.index("What this does not show")]
    for row in contender_rows(finished.answer):
        assert " ".join(cell for cell in row.cells if cell) in top
    assert top.index("95 % intervals. Verdicts are differences to the best") < top.index("95 % interval +")


def test_marks_and_intervals_are_explained_where_they_stand(page, finished):
    best = finished.best_name
    assert f"≠ marks a setting of a control that differs from {best}." in page.words
    certain = any(c.versus_best and c.versus_best.distinguishable for c in finished.answer.contenders)
    assert ("The intervals of two rows may overlap although the verdict is certain" in page.words) == certain


def test_overlap_is_explained_only_beside_a_certain_verdict(tmp_path):
    folder = write_run(tmp_path / "run")
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    for certain in (True, False):
        for contender in answer["contenders"]:
            if contender["versus_best"]:
                contender["versus_best"]["distinguishable"] = certain
        put(folder / "answer.json", answer)
        assert ("may overlap although the verdict is certain" in report_of(folder).words) == certain


def test_the_evidence_of_health_is_folded_away_under_its_verdict(tmp_path):
    folder = write_run(tmp_path / "run")
    evidence = ["effective rank 3.1 of 32", "loss 4.10 below chance"]
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    number = next(c["number"] for c in answer["contenders"] if c["name"] == answer["best"])
    file = folder / "trials" / f"{number:04d}" / "trial.json"
    put(file, json.loads(file.read_text()) | {"health": {"verdict": "suspicious", "evidence": evidence}})
    text = report_of(folder).source
    assert "<details><summary>suspicious</summary><small>effective rank 3.1 of 32; loss 4.10 below chance" in text


@pytest.mark.parametrize(
    ("null", "sentence"),
    [
        ({"runs": [], "untrained": 1.0, "shift": 0.0, "still": True}, "The null stands still"),
        ({"runs": [], "untrained": 1.0, "shift": 0.2, "still": False}, "The null moves"),
        ({"runs": [], "untrained": None, "shift": None, "still": False}, "No null run"),
        (None, "No null run"),
    ],
)
def test_what_happens_without_learning_is_a_verdict_of_its_own(tmp_path, null, sentence):
    folder = write_run(tmp_path / "run")
    change_answer(folder, null=null, null_sentence="What the null found.")
    words = report_of(folder).words
    assert f"{sentence} What the null found." in words[: words.index("What this does not show")]


def test_a_search_whose_budget_ended_among_the_controls_says_how_to_go_on(tmp_path):
    folder = write_run(tmp_path / "run")
    left = {"trials": 3, "wanted": 5, "confirmations": 6, "planned": 6, "nulls": 1, "searched": False}
    change_answer(folder, headline="No answer: the budget ended.", unfinished=left)
    words = report_of(folder).words
    assert "Go on with the search" in words
    assert "3 trials, 6 confirmation runs and 1 run with learning rate 0 left; without --budget" in words
    assert f"augscale search --study {folder}/study.toml --out {folder}" in words
    assert "augscale export" not in words


def test_verdicts_say_best_minus_other_and_how_sure_that_is(tmp_path):
    folder = write_run(tmp_path / "run")
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    values = {"weak": (-0.25, [-0.4, -0.1], True), "strong": (-0.05, [-0.2, 0.1], False)}
    for contender in answer["contenders"]:
        if contender["name"] in values:
            keys = ("difference", "interval", "distinguishable")
            contender["versus_best"] = dict(zip(keys, values[contender["name"]], strict=True))
    put(folder / "answer.json", answer)
    words = report_of(folder).words
    best = answer["best"]
    assert f"{best} is better than weak difference +0.250 d', 95 % interval +0.100 to +0.400" in words
    assert f"{best} is not distinguishable from strong difference +0.050 d', 95 % interval −0.100 to +0.200" in words
    assert "Not compared on fresh seeds: none, weak+med." in words


def test_one_fresh_seed_is_no_verdict_and_no_interval_against_the_start(tmp_path):
    folder = write_run(tmp_path / "run", trials=12)
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    for contender in answer["contenders"]:
        kept = contender["confirm_scores"][:1]
        contender |= {"confirm_scores": kept, "confirm_mean": kept[0] if kept else None}
        contender |= {"confirm_interval": None, "versus_best": None}
    repeated = [c["name"] for c in answer["contenders"] if c["confirm_scores"] and c["name"] != answer["best"]]
    alone = [c["name"] for c in answer["contenders"] if not c["confirm_scores"]]
    answer["untrained"] |= {"difference": 0.078, "interval": [0.053, 0.108], "seeds": 1}
    put(folder / "answer.json", answer)
    words = report_of(folder).words
    assert "on 1 fresh seed " in words
    assert "1 fresh seeds" not in words
    assert "one seed, no verdict difference +0.078 d' " in words
    assert "0.053" not in words
    assert f"No verdict from one fresh seed: {', '.join(repeated)}." in words
    assert f"Not compared on fresh seeds: {', '.join(alone)}." in words


def test_training_that_did_not_pay_is_said_and_a_longer_search_is_proposed(tmp_path):
    folder = write_run(tmp_path / "run", trials=12)
    change_answer(folder, untrained=versus_untrained(UNTRAINED_SCORE - 0.1))
    best = json.loads((folder / "answer.json").read_text(encoding="utf-8"))["best"]
    words = report_of(folder).words
    assert f"{best} does not score higher than the network before training difference −0.100 d'" in words
    assert f"augscale search --study {folder}/study.toml --set pretrain.steps=1200 --out {folder}-longer" in words
    assert "augscale export" not in words


def test_scales_of_local_crops_that_were_not_drawn_are_not_compared(tmp_path):
    folder = write_run(tmp_path / "run", trials=12)
    assert "Local crops area, % of the image" in report_of(folder).words
    change_answer(folder, local_crops=False)
    words = report_of(folder).words
    assert "Local crops area, % of the image" not in words
    assert "Trials drew no local crops." in words


def test_training_that_paid_is_said(finished, page):
    assert f"{finished.best.name} scores higher than the network before training difference +" in page.words


def test_only_what_differs_from_the_best_is_emphasised(finished, page):
    html_text = "".join(f"<{t} {a.get('class', '')}>" for t, a in page.tags)
    differing = [
        name
        for name, value in finished.best_trial.scales.items()
        for control in ("strong", "weak")
        if value != next(t for t in finished.controls if t.control == control).scales[name]
    ]
    assert html_text.count("<td differs>") == len(differing)
    assert "15 further scales are the same in all of them" in page.words


def test_values_from_files_are_shown_as_text(tmp_path):
    folder = write_run(tmp_path / "run", trials=10)
    path = folder / "trials" / "0005" / "trial.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    put(path, record | {"state": "FAIL", "reason": HOSTILE, "control": HOSTILE})
    change_answer(folder, headline=HOSTILE, caveats=[HOSTILE], study=HOSTILE, device=HOSTILE)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["data"]["bad"] = [{"path": HOSTILE, "reason": HOSTILE}]
    put(folder / "manifest.json", manifest)
    page = report_of(folder, contact_sheets={HOSTILE: PNG_SIGNATURE + b"0"})
    assert not [a for tag, a in page.tags if "onerror" in a or a.get("src") == "x"]
    assert page.words.count("<img src=x onerror=") >= 6
    scripts = [a for tag, a in page.tags if tag == "script"]
    assert len(scripts) == len([a for a in scripts if a.get("type") == "application/json"]) + 2


def test_a_running_search_says_so_and_shows_what_is_there(tmp_path):
    folder = write_run(tmp_path / "run", trials=14, answer=False)
    words = report_of(folder).words
    assert "No answer yet: 12 of 40 trials have ended." in words
    assert re.search(r"Best so far: trial \d+, d' \d\.\d{3}, not yet confirmed", words)
    assert "no searched scales" not in words
    assert "best so far" in words
    assert "augscale export" not in words, "there is no card yet"


@pytest.mark.parametrize("taught", [True, False])
def test_every_table_calls_the_leader_the_same_and_not_the_best_without_an_answer(finished_folder, tmp_path, taught):
    folder = tmp_path / "run"
    shutil.copytree(finished_folder, folder)
    if not taught:
        change_answer(folder, untrained=versus_untrained(UNTRAINED_SCORE))
    answer = AnswerRecord.read(folder / "answer.json")
    assert answer.outcome == ("best found" if taught else "training taught nothing")
    word = leader_word(answer)
    assert word == ("best" if taught else "highest")
    table = scales_table(read_run(folder))
    assert [column.role for column in table.columns] == [word, "control", "control"]
    assert f"Minus the {word}" in [label for (label, _), _ in table.scores]
    assert contender_rows(answer)[0].verdict == word
    words = report_of(folder).words
    assert f"Verdicts are differences to the {word}, paired by seed." in words
    assert ("the best, paired by seed" in words) == taught


def test_controls_alone_are_not_called_the_best_scales_without_a_word(tmp_path):
    folder = write_run(tmp_path / "run", trials=6, answer=False)
    words = report_of(folder).words
    assert re.search(r"Best so far: \S+, .* not yet confirmed \(a control: no searched scales have completed\)", words)


def test_no_completed_trial_still_gives_a_page_with_the_reasons(tmp_path):
    folder = write_run(tmp_path / "run", trials=6, answer=False)
    for path in (folder / "trials").glob("*/trial.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        failed = {"state": "FAIL", "final": None, "rungs": [], "health": None, "reason": "out of memory at step 1"}
        put(path, record | failed)
    words = report_of(folder).words
    assert "nothing to compare" in words
    assert words.count("out of memory at step 1") == 6


def test_an_answer_without_a_best_is_said(tmp_path):
    folder = write_run(tmp_path / "run", trials=12)
    change_answer(folder, best=None, headline="No trial completed without collapsing, so there is no answer.")
    words = report_of(folder).words
    assert "No trial completed without collapsing, so there is no answer." in words


def test_an_empty_folder_gives_a_page(tmp_path):
    assert "No answer yet: 0 trials have ended." in report_of(tmp_path).words


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not a folder"):
        write_report(tmp_path / "nowhere")


def test_trials_after_the_answer_are_pointed_out(tmp_path):
    folder = write_run(tmp_path / "run", trials=12)
    change_answer(folder, counts={"COMPLETE": 9})
    assert "The answer was given after 9 trials; 12 have started by now." in report_of(folder).words


def test_a_record_that_could_not_be_read_is_named_in_the_page(tmp_path):
    folder = write_run(tmp_path / "run", trials=12)
    (folder / "trials" / "0006" / "trial.json").write_text("{", encoding="utf-8")
    assert "trials/0006/trial.json could not be read" in report_of(folder).words


def test_the_answer_stands_when_the_record_of_its_best_is_broken(tmp_path):
    folder = write_run(tmp_path / "run")
    best = json.loads((folder / "answer.json").read_text(encoding="utf-8"))["best"]
    (folder / "trials" / f"{int(best.split()[1]):04d}" / "trial.json").write_text("{", encoding="utf-8")
    page = report_of(folder)
    assert "Minus the best" in page.words
    heads = [a for tag, a in page.tags if tag == "th" and a.get("class") == "best"]
    assert len(heads) == 1


def test_contact_sheets_are_embedded_in_order_and_other_bytes_are_left_out(tmp_path):
    folder = write_run(tmp_path / "run", trials=12)
    sheets = {"strong": PNG_SIGNATURE + b"1", "weak": PNG_SIGNATURE + b"2", "best": b"not a picture"}
    page = report_of(folder, contact_sheets=sheets)
    images = [a for tag, a in page.tags if tag == "img"]
    assert [a["alt"] for a in images] == ["Views of some photographs at strong", "Views of some photographs at weak"]
    assert all(a["src"].startswith("data:image/png;base64,") for a in images)


def test_a_failed_write_leaves_the_old_page_whole(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run", trials=6, answer=False)
    before = write_report(folder).read_bytes()
    monkeypatch.setattr(report, "render_page", lambda *_: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(RuntimeError):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before


def test_the_run_folder_is_quoted_in_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(next_steps, "find_spec", lambda module: None)
    folder = write_run(tmp_path / "my run", trials=12)
    assert f"augscale export '{folder}/best.toml' --to dino" in report_of(folder).words


def test_settings_versions_fingerprint_and_bad_files_are_shown(page):
    for part in (
        "9f2c4a7b11d0c3e85a6f",
        "torch 2.15.0",
        "Files set aside",
        "Grey levels",
        "eyes (DICOM CT): -1024 is black and 3071 white",
        "eyes/left <003>.png",
        "out_dim",
        "1.20 M",
    ):
        assert part in page.words


def test_the_method_is_named_and_was_dino_before_there_were_others(tmp_path, page):
    folder = write_run(tmp_path / "run")
    study = folder / "study.toml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace("out_dim = 1024", 'out_dim = 1024\nmethod = "simclr"'), encoding="utf-8")
    assert "SimCLR" in report_of(folder).words
    assert "DINO" in page.words
    assert "SimCLR" not in page.words
