"""Everything that a person reads names a score by its label (d'), not by its key (`dprime`)."""

from __future__ import annotations

import re
import shutil

import pytest
from diagnosis_folder import diagnosis, thumbnails
from page_reader import Page
from validation_values import made_validation

from augscale.augmentation.scales import PRESETS
from augscale.promotion.full_run import FullRun
from augscale.records.diagnosis import DiagnosisRecord
from augscale.records.full_run import PanelEvaluation
from augscale.records.metrics import METRICS
from augscale.reporting.diagnosis.display import displayed
from augscale.reporting.diagnosis.page import render_diagnosis
from augscale.reporting.search.report import write_report
from augscale.reporting.search.results import read_run
from augscale.reporting.search.terminal import answer_screen
from augscale.reporting.shared.screen import plain_screen
from augscale.reporting.validation.page import write_validation_page
from augscale.reporting.validation.terminal import validation_screen

KEY = re.compile(r"\w*dprime\w*")
TYPOGRAPHIC = "\N{PRIME}"


@pytest.fixture(scope="module")
def run(finished_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("names") / "run"
    shutil.copytree(finished_folder, folder)
    return folder


def _without_settings(page: Page) -> str:
    """The visible words of a page, except the tables of settings, in which keys stand."""
    return re.sub(r"\[probe\] score \w+", "", page.words)


def test_the_page_of_a_search(run):
    page = Page(write_report(run))
    assert re.search(r"difference [+−]\d\.\d{3} d', 95 % interval", page.words)
    assert KEY.findall(_without_settings(page)) == []
    assert TYPOGRAPHIC not in page.source


def test_the_page_of_a_diagnosis(tmp_path):
    found = diagnosis()
    found["glossary"] = {key: info.to_dict() for key, info in METRICS.items()}
    path = tmp_path / "diagnosis.html"
    shown = displayed(DiagnosisRecord.parse(found, "diagnosis.json"))
    path.write_text(render_diagnosis(shown, thumbnails(found["num_images"])), encoding="utf-8")
    page = Page(path)
    assert "d'" in page.words
    assert KEY.findall(page.words) == []
    assert TYPOGRAPHIC not in page.source


def test_the_page_and_the_screen_of_a_validation(tmp_path):
    values = made_validation()
    page = Page(write_validation_page(tmp_path / "validation.html", values))
    screen = plain_screen(validation_screen(values, tmp_path))
    assert "raw d'" in page.words
    for text in (page.words, screen):
        assert KEY.findall(text) == []
        assert TYPOGRAPHIC not in text


def test_the_screens_of_a_search_and_of_a_full_run(run):
    screen = plain_screen(answer_screen(read_run(run).answer, run))
    assert "Score: d', higher is better" in screen
    last = PanelEvaluation(step=10, epoch=1.0, score=1.5, score_name="dprime", verdict="healthy", evidence=())
    numbers = {
        "steps": 10,
        "epochs": 1,
        "loss": 3.5,
        "information": 1,
        "images_per_second": 100,
        "seconds": 1,
        "seed": 0,
    }
    result = str(FullRun(scales_name="weak", last=last, best=last, run_dir=run, scales=PRESETS["weak"], **numbers))
    assert "d' 1.500 at the end" in result
    for text in (screen, result):
        assert KEY.findall(text) == []
