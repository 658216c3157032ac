"""From predictions to finished results."""

import json

import numpy as np
import pytest
from made_predictions import made_evaluation, made_run

from augscale.errors import DataError
from augscale.evaluation.metrics import evaluate_scores
from augscale.evaluation.predictions import Predictions
from augscale.evaluation.summary import COMPARED, summarize
from augscale.records.evaluation import EvaluationSummary
from augscale.records.metrics import EVALUATION_METRICS
from augscale.statistics.intervals import holm, seed_interval_normal, seed_interval_t


def changed(run, **changes):
    return Predictions(**{**vars(run), **changes})


def test_every_cell_is_there_once(evaluated):
    keys = [(c.protocol, c.checkpoint, c.trained_on, c.tested_on) for c in evaluated.cells]
    assert len(set(keys)) == len(keys) == 3 * 3 * 4
    assert evaluated.checkpoints == ("strong", "weak", "best")
    assert evaluated.datasets == ("aptos2019", "messidor_2")
    assert evaluated.pairs == (("aptos2019", "messidor_2"), ("messidor_2", "aptos2019"))
    assert evaluated.notes == ("idrid is missing",)


def test_a_cell_holds_the_mean_over_seeds_and_its_intervals(evaluated):
    runs = [r for r in made_evaluation() if (r.protocol, r.checkpoint, r.internal) == ("linear", "weak", True)]
    runs = [r for r in runs if r.tested_on == "aptos2019"]
    values = [evaluate_scores(r.labels, r.scores, r.classes, ordered=True).values for r in runs]
    cell = evaluated.cell("linear", "weak", "aptos2019", "aptos2019")
    for name in EVALUATION_METRICS:
        per_seed = [v[name] for v in values]
        found = cell.metrics[name]
        assert found.per_seed == pytest.approx(per_seed)
        assert found.mean == pytest.approx(np.mean(per_seed))
        assert found.seeds_t == pytest.approx(seed_interval_t(per_seed))
        assert found.seeds_normal == pytest.approx(seed_interval_normal(per_seed))
        if name != "ece":
            assert found.test_images[0] < found.mean < found.test_images[1]
    assert cell.seconds == 6
    assert cell.seeds == (0, 1, 2)
    assert sum(c.support for c in cell.per_class) == cell.images == 120
    assert sum(b.count for b in cell.reliability) == 3 * 120


def test_the_curves_have_the_areas_of_the_metrics(evaluated):
    grid = np.array(evaluated.grid)
    for shown in evaluated.cell("linear", "best", "aptos2019", "aptos2019").per_class:
        area = np.sum(np.diff(grid) * (np.array(shown.true_positive_rate)[1:] + shown.true_positive_rate[:-1])) / 2
        assert area == pytest.approx(shown.auroc, abs=0.02)
        assert np.mean(shown.precision[1:]) == pytest.approx(shown.aupr, abs=0.03)
    external = evaluated.cell("linear", "best", "messidor_2", "aptos2019")
    assert external.per_class[0].true_positive_rate == ()


def test_kappa_only_for_ordered_labels(evaluated):
    assert evaluated.cell("linear", "best", "aptos2019", "aptos2019").metrics["kappa"].mean is not None
    other = evaluated.cell("linear", "best", "messidor_2", "messidor_2").metrics["kappa"]
    assert other.mean is None
    assert "order" in other.reason


def test_comparisons_say_what_they_cover_and_are_adjusted_in_families(evaluated):
    family = [
        c for c in evaluated.comparisons
        if (c.protocol, c.metric) == ("linear", "auroc") and c.trained_on == c.tested_on
    ]  # fmt: skip
    assert len(family) == 3 * 2
    assert [c.adjusted_p for c in family] == pytest.approx(holm([c.p_value for c in family]))
    for c in family:
        cells = [evaluated.cell("linear", name, c.trained_on, c.tested_on) for name in (c.first, c.second)]
        assert c.difference == pytest.approx(cells[0].metrics["auroc"].mean - cells[1].metrics["auroc"].mean)
        assert c.interval[0] < c.difference < c.interval[1]
        assert c.covers == ("test images", "head seeds")
        assert [t.name for t in c.tests] == ["combined", "paired_bootstrap", "delong", "paired_t"]
        assert [t.covers for t in c.tests[1:]] == [("test images",), ("test images",), ("head seeds",)]
        assert all(t.covers for t in c.tests)
    assert "pre-training seeds are not covered" in evaluated.covered


def test_bootstrap_and_delong_agree(evaluated):
    for c in evaluated.comparisons:
        if c.metric == "auroc":
            _, bootstrap, delong, _ = c.tests
            width = delong.interval[1] - delong.interval[0]
            assert bootstrap.interval == pytest.approx(delong.interval, abs=0.3 * width)


def test_seeds_that_change_nothing_leave_the_test_images(evaluated):
    cell = evaluated.cell("knn", "best", "aptos2019", "aptos2019")
    assert "all 3 seeds gave the same scores: there is no spread over seeds" in cell.notes
    found = [c for c in evaluated.comparisons if c.protocol == "knn"]
    assert {c.covers for c in found} == {("test images",)}
    assert all(c.p_value is not None for c in found)


def test_protocols_that_disagree_are_listed_with_how_sure_each_is(evaluated):
    found = [d for d in evaluated.disagreements if (d.metric, d.first, d.second) == ("auroc", "strong", "best")]
    assert {(d.trained_on, d.tested_on) for d in found} == {
        (a, b) for a in evaluated.datasets for b in evaluated.datasets
    }
    for d in found:
        assert [s.protocol for s in d.for_first] == ["released"]
        assert [s.protocol for s in d.for_second] == ["linear", "knn"]
        assert d.clear
    clear = [d.clear for d in evaluated.disagreements]
    assert clear == sorted(clear, reverse=True)


def test_the_same_checkpoint_twice_is_never_better():
    runs = [made_run(checkpoint="a", seed=s) for s in range(3)]
    summary = summarize([*runs, *(changed(r, checkpoint="b") for r in runs)], resamples=50)
    assert {(c.difference, c.p_value, c.verdict) for c in summary.comparisons} == {(0.0, 1.0, "not distinguishable")}
    assert summary.disagreements == ()


def test_json_and_back(evaluated, tmp_path):
    evaluated.write(tmp_path / "evaluation.json")
    assert EvaluationSummary.read(tmp_path / "evaluation.json") == evaluated
    # Files without a schema are older.
    assert EvaluationSummary.parse(json.loads(json.dumps(evaluated.to_dict(), allow_nan=False)), "old") == evaluated


def test_another_format_is_refused(evaluated):
    with pytest.raises(DataError, match=r"evaluation.json: format: .*7 is not known; expected 1"):
        EvaluationSummary.parse({**evaluated.to_dict(), "format": 7}, "evaluation.json")
    with pytest.raises(DataError, match=r"run/evaluation.json: cells"):
        EvaluationSummary.parse({**evaluated.to_dict(), "cells": 3}, "run/evaluation.json")


def test_degenerate_test_sets_are_summarised():
    runs = [made_run(tested_on="only normal", trained_on="only normal", checkpoint=c, labels=[0] * 8) for c in "ab"]
    runs += [made_run(tested_on="empty", trained_on="empty", checkpoint=c, labels=[]) for c in "ab"]
    runs += [made_run(tested_on="one each", trained_on="one each", checkpoint=c, labels=range(5)) for c in "ab"]
    summary = summarize(runs, resamples=20)
    only, empty, one = (summary.cell("linear", "a", d, d) for d in ("only normal", "empty", "one each"))
    assert only.metrics["auroc"].mean is None
    assert "every test image is of class no DR" in only.metrics["auroc"].reason
    assert only.metrics["accuracy"].mean is not None
    assert empty.images == 0
    assert empty.notes == ("there are no test images",)
    assert one.metrics["auroc"].test_images[0] == one.metrics["auroc"].test_images[1]
    assert "fewer than 5 test images" in one.notes[0]
    for c in summary.comparisons:
        if c.tested_on == "one each" and c.difference:
            assert c.p_value is None
            assert c.verdict == "not distinguishable"
    json.dumps(summary.to_dict(), allow_nan=False)


def test_no_predictions_at_all():
    summary = summarize([], notes=("nothing is prepared",))
    assert summary.cells == ()
    assert EvaluationSummary.parse(summary.to_dict(), "evaluation.json") == summary


def test_seeds_tested_on_different_images_are_refused():
    run = made_run(seed=1)
    other = changed(run, image_ids=(*run.image_ids[:-1], "another.png"))
    with pytest.raises(DataError, match="seed 1: tested on other images than seed 0"):
        summarize([made_run(seed=0), other], resamples=10)


def test_a_run_given_twice_is_refused():
    with pytest.raises(DataError, match="weak, linear, aptos2019, seed 0: two runs"):
        summarize([made_run(), made_run()], resamples=10)


def test_checkpoints_tested_on_different_images_are_not_compared():
    run = made_run(checkpoint="strong")
    other = changed(run, image_ids=(*run.image_ids[:-1], "another.png"))
    summary = summarize([made_run(), other], resamples=10)
    assert summary.comparisons == ()
    assert any("tested on different images, so they are not compared" in note for note in summary.notes)


def test_comparisons_use_the_seeds_that_both_have():
    runs = [made_run(checkpoint="a", seed=s) for s in (0, 1, 2)] + [made_run(checkpoint="b", seed=s) for s in (1, 2, 5)]
    assert {c.seeds for c in summarize(runs, resamples=10).comparisons} == {(1, 2)}
    alone = [made_run(checkpoint="a", seed=0), made_run(checkpoint="b", seed=1)]
    assert "share no seed" in summarize(alone, resamples=10).notes[0]


def test_results_do_not_depend_on_the_order_of_runs(evaluated):
    again = summarize(
        made_evaluation()[::-1], resamples=100, ordered={"aptos2019"}, notes=evaluated.notes,
        checkpoints=evaluated.checkpoints, protocols=evaluated.protocols,
    )  # fmt: skip
    for cell in again.cells:
        assert cell == evaluated.cell(cell.protocol, cell.checkpoint, cell.trained_on, cell.tested_on)
    assert len(again.comparisons) == len(evaluated.comparisons)
    without = {"cells": (), "comparisons": (), "disagreements": ()}
    assert again.model_copy(update=without) == evaluated.model_copy(update=without)


def test_patients_widen_the_interval_where_their_images_agree():
    run = made_run(images=300, labels=np.arange(300) // 10 % 5)
    scores = np.repeat(run.scores[::10], 10, axis=0)
    alone = summarize([changed(run, scores=scores)], resamples=200).cells[0]
    grouped = summarize([changed(run, scores=scores, groups=np.arange(300) // 10)], resamples=200).cells[0]
    width = [c.metrics["auroc"].test_images[1] - c.metrics["auroc"].test_images[0] for c in (alone, grouped)]
    assert grouped.patients == 30
    assert width[1] > 2 * width[0]
    assert set(COMPARED) <= set(EVALUATION_METRICS)


@pytest.mark.slow
def test_equal_checkpoints_are_told_apart_no_more_often_than_promised():
    """The combined test keeps its level; the paper's paired t-test over seeds, which ignores test images, does not."""
    rejected = {"combined": 0, "delong": 0, "paired_t": 0}
    for index in range(150):
        name = "x" * (index + 1)
        runs = [
            made_run(checkpoint=f"{c}{index}", seed=s, trained_on=name, tested_on=name) for c in "ab" for s in range(3)
        ]
        tests = {t.name: t for c in summarize(runs, resamples=200).comparisons if c.metric == "auroc" for t in c.tests}
        for test in rejected:
            rejected[test] += (tests[test].p_value or 1.0) < 0.05
    # 150 at 5 %: 7.5 expected, SD 2.7.
    assert rejected["combined"] <= 15
    assert rejected["delong"] <= 15
    assert rejected["paired_t"] > 25
