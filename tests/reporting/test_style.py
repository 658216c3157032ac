import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize

from augscale.reporting.search import contender_figures, figures, space_figures
from augscale.reporting.shared import style
from augscale.reporting.shared.style import Colors, robust_range, spread

positions = st.lists(st.floats(0, 100), min_size=1, max_size=8)


@given(positions, st.floats(0.1, 12))
def test_labels_keep_their_order_stay_apart_and_stay_inside(values, gap):
    moved = spread(values, gap, 0, 100)
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(moved)[order]) >= gap - 1e-6).all()
    assert min(moved) >= -1e-6
    assert max(moved) <= 100 + 1e-6


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True))
def test_labels_that_are_apart_stay_where_they_are(values):
    assert spread([10.0 * v for v in values], 10, 0, 100) == pytest.approx([10.0 * v for v in values])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(40, 60), min_size=2, max_size=5))
def test_labels_move_as_little_as_possible(values):
    values = sorted(values)
    # An independent solver of the same problem: least squares under "neighbours at least 8 apart".
    differences = np.diff(np.eye(len(values)), axis=0)
    start = np.linspace(0, 100, len(values))
    solved = minimize(
        lambda x: np.sum((x - values) ** 2), start, constraints=LinearConstraint(differences, 8, np.inf), tol=1e-10
    )
    mine = np.array(spread(values, 8, -1e3, 1e3))
    assert np.sum((mine - values) ** 2) <= solved.fun + 1e-3


def test_one_far_outlier_does_not_set_the_range():
    values = [1.0, 1.1, 1.2, 1.15, 1.05, 1.3, 1.25, -40.0]
    low, high = robust_range(values)
    assert 0.8 < low < 1.0 < 1.3 < high < 1.5


def test_what_must_be_shown_is_inside_even_when_far():
    assert robust_range([1.0, 1.1, 1.2, 1.15, 1.05, 1.3], keep=[0.2])[0] < 0.2


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [2.0] * 9])
def test_a_range_is_never_empty(values):
    low, high = robust_range(values)
    assert low < high
    assert all(low < v < high for v in values)


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DEFICIENCIES = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(color):
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_the_best_and_the_controls_differ_for_colour_blind_readers(deficiency, dark):
    colors = [style.BEST, *style.CONTROLS.values()]
    seen = [lab(DEFICIENCIES[deficiency] @ linear(style.DARK[c] if dark else c)) for c in colors]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 10


@pytest.mark.parametrize("dark", [False, True])
def test_names_on_the_plots_are_readable_on_their_background(dark):
    def luminance(color):
        return linear(style.DARK[color] if dark else color) @ [0.2126, 0.7152, 0.0722]

    for color in (style.INK, style.MUTED, style.BEST, style.FAILED, *style.CONTROLS.values()):
        low, high = sorted([luminance(color), luminance(style.SURFACE)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, color


def test_figures_use_no_colour_without_a_dark_partner(finished):
    colors = Colors(finished.best_trial.name, [c.name for c in finished.answer.contenders])
    functions = [
        figures.history, figures.rung_curves, figures.importance, space_figures.slices, space_figures.crop_jitter_map,
        contender_figures.confirmation, contender_figures.densities, contender_figures.training,
    ]  # fmt: skip
    cividis = {"#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55"}
    for function in functions:
        for panel in function(finished, colors).panels:
            used = set(re.findall(r"#[0-9a-fA-F]{6}", panel.figure.to_json()))
            assert used - set(style.DARK) <= cividis | {"#fee838"}, function.__name__


def test_a_name_has_one_colour_and_the_best_has_the_highlight():
    colors = Colors("strong", ["strong", "weak", "trial 3", "trial 4"])
    assert colors["strong"] == style.BEST
    assert len({colors[name] for name in ("strong", "weak", "trial 3", "trial 4")}) == 4
    assert colors.symbol("strong") == "star"


def test_labels_are_short_and_name_a_card_by_its_stem():
    assert style.text("trial 12345") == "trial 12345"
    assert style.text("cards/mild.toml") == "mild"
    assert style.text("official-dino") == "official-d…"
    assert style.text("scales/a_very_long_name_of_a_card.toml") == "a_very_lon…"
    assert style.text("a<b") == "a&lt;b"
