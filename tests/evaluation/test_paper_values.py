"""The paper's values as carried in the package."""

import pytest

from augscale.errors import ConfigError
from augscale.evaluation.paper import METRICS, PRESETS, paper_value

SIX = ("MESSIDOR-2", "APTOS2019", "IDRiD", "PAPILA", "JSIEC", "Retina")


def paper_internal(dataset, metric, preset, version="midl2025"):
    return paper_value(dataset, dataset, preset, version, metric)


def test_all_six_datasets_three_metrics_and_presets_are_there():
    values = [paper_internal(d, m, p) for d in SIX for m in METRICS for p in PRESETS]
    assert None not in values
    assert {v.table for v in values} == {"Table 3"}
    assert all(v.interval[0] <= v.mean <= v.interval[1] for v in values)
    assert all(v.plus_minus is None for v in values)


def test_the_headline_of_the_paper():
    strong, weak = (paper_internal("messidor2", "aupr", p) for p in ("strong", "weak"))
    assert (strong.mean, weak.mean) == (0.523, 0.582)
    assert weak.best
    assert weak.p_weak_vs_strong == "<.001"
    assert paper_internal("messidor2", "aupr", "weak", "arxiv_v1").mean == 0.597


def test_mean_gain_of_weak_over_the_six_datasets():
    gains = {
        m: sum(paper_internal(d, m, "weak").mean - paper_internal(d, m, "strong").mean for d in SIX) / 6
        for m in METRICS
    }
    assert gains == pytest.approx({"auroc": 0.020, "aupr": 0.046, "paper_sensitivity": 0.093}, abs=5e-4)


def test_external_values_have_no_interval():
    dr = SIX[:3]
    values = [paper_value(a, b, p) for a in dr for b in dr if a != b for p in PRESETS]
    assert None not in values
    assert {v.table for v in values} == {"Table 4"}
    assert all(v.interval is None and v.plus_minus > 0 for v in values)
    assert paper_value("IDRiD", "MESSIDOR-2", "weak").mean == 0.761


def test_tables_are_numbered_the_other_way_round_on_arxiv():
    assert paper_internal("APTOS2019", "auroc", "weak", "arxiv_v1").table == "Table 4"
    assert paper_value("APTOS2019", "IDRiD", "weak", "arxiv_v1").table == "Table 3"


@pytest.mark.parametrize("name", ["MESSIDOR-2", "messidor2", "Messidor_2", "messidor 2"])
def test_any_spelling_of_a_dataset(name):
    assert paper_internal(name, "auroc", "strong").mean == 0.838


def test_what_the_paper_has_not():
    assert paper_internal("my_data", "auroc", "weak") is None
    assert paper_internal("IDRiD", "kappa", "weak") is None
    assert paper_internal("IDRiD", "auroc", "none") is None
    assert paper_value("IDRiD", "PAPILA", "weak") is None
    with pytest.raises(ConfigError, match="midl2025, arxiv_v1"):
        paper_internal("IDRiD", "auroc", "weak", "v3")
