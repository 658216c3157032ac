"""Tables: what is in them, and that every format holds the same and stays well-formed whatever names are."""

import csv
import io
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_predictions import made_run
from rich.console import Console

from augscale.evaluation.summary import summarize
from augscale.records.metrics import EVALUATION_METRICS
from augscale.reporting.evaluation import terminal
from augscale.reporting.evaluation.table_formats import latex, to_csv, to_html, to_latex, write_tables
from augscale.reporting.evaluation.tables import (
    Entry,
    Row,
    Table,
    all_tables,
    external_matrix,
    external_table,
    internal_table,
    per_class_table,
    protocols_table,
)
from augscale.reporting.evaluation.terminal import print_evaluation

NASTY = r"50%_of {A}&B~C^D#$\x<script>alert(1)</script>|\"q\" – ±"


@pytest.fixture(scope="module")
def nasty_tables():
    runs = [
        made_run(checkpoint=c, protocol=f"p {NASTY}", trained_on=t, tested_on=d, seed=s, classes=("ok", NASTY), skill=g)
        for c, g in ((NASTY, 1.0), ("weak", 0.9))
        for t in (NASTY, "idrid")
        for d in (NASTY, "idrid")
        for s in range(2)
    ]
    return all_tables(summarize(runs, resamples=20))


def cells_of(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


def check_latex(text):
    """A small structural parser: environments nest, braces balance, nothing special is bare, rows have all columns."""
    text = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"(?<!\\)[%#~]", text)
    plain = re.sub(r"\$(-|\\pm|\^\\dagger|\\rightarrow)\$", "", text)
    assert not re.search(r"(?<!\\)[$_^]", plain.replace(r"\label{", "\\label{")), plain
    assert not re.search(r"[<>|\"]", text)
    columns = len(re.search(r"\\begin\{tabular\}\{([lc]+)\}", text).group(1))
    body = re.search(r"\\toprule(.*)\\bottomrule", text, flags=re.DOTALL).group(1)
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    for row in rows:
        spans = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", row))
        assert len(cells_of(row)) + spans == columns
    assert body.count(r"\midrule") == 1
    return rows


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.stack, self.text, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.stack.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse_html(text):
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert not parser.stack
    return parser


def test_the_internal_table_has_the_layout_of_the_paper(evaluated):
    table = internal_table(evaluated, "linear")
    labels = [EVALUATION_METRICS[m].label for m in ("auroc", "aupr", "paper_sensitivity")]
    assert [row.heads for row in table.rows] == [(d, m) for d in ("aptos2019", "messidor_2") for m in labels]
    assert table.columns == ("strong", "weak", "best")
    assert table.paper_columns == ("strong", "weak", "weak+med")
    paper = [e.mean for e in table.rows[0].entries[3:]]
    assert paper == [0.933, 0.933, 0.924]
    assert [e.best for e in table.rows[0].entries[3:]] == [True, True, False]
    for row in table.rows:
        means = [e.mean for e in row.entries[:3]]
        assert [e.best for e in row.entries[:3]] == [m == max(means) for m in means]
    assert any("compare orders and differences" in note for note in table.notes)


def test_the_papers_columns_are_dropped_where_it_has_nothing():
    runs = [made_run(checkpoint=c, trained_on="mine", tested_on="mine") for c in ("weak", "strong")]
    table = internal_table(summarize(runs, resamples=20), "linear")
    assert table.paper_columns == ()
    assert {len(row.entries) for row in table.rows} == {2}
    assert "Cheng" not in to_latex(table)


def test_values_that_print_the_same_are_both_best_and_near_ones_are_tied():
    best, poor = made_run(checkpoint="a", images=60, skill=1.5), made_run(checkpoint="poor", images=60, skill=0.0)
    twin = type(best)(**{**vars(best), "checkpoint": "twin"})
    near = made_run(checkpoint="b", images=60, skill=1.4)
    row = internal_table(summarize([best, twin, near, poor], resamples=100), "linear").rows[0]
    assert [e.best for e in row.entries[:4]] == [True, True, False, False]
    assert [e.tied for e in row.entries[:4]] == [False, False, True, False]


def test_one_checkpoint_alone_is_not_the_best():
    table = internal_table(summarize([made_run()], resamples=20), "linear")
    assert not any(e.best for row in table.rows for e in row.entries[:1])


def test_the_external_tables(evaluated):
    table = external_table(evaluated, "linear")
    assert [row.heads[:2] for row in table.rows[::3]] == list(evaluated.pairs)
    auroc = table.rows[0]
    assert [e.mean for e in auroc.entries[3:]] == [0.767, 0.761, 0.692]
    assert [e.plus_minus for e in auroc.entries[3:]] == [0.001, 0.002, 0.003]
    assert table.rows[1].entries[3:] == (None, None, None)
    assert any("does not say what its +/- means" in note for note in table.notes)
    matrix = external_matrix(evaluated, "linear")
    assert matrix.columns == ("aptos2019", "messidor_2")
    assert [row.heads for row in matrix.rows[:3]] == [("aptos2019", c) for c in evaluated.checkpoints]
    assert matrix.rows[2].entries[1] == auroc.entries[2]
    internal = internal_table(evaluated, "linear")
    assert matrix.rows[2].entries[0] == internal.rows[0].entries[2]


def test_the_protocols_table_averages_over_datasets(evaluated):
    table = protocols_table(evaluated)
    assert [row.heads[0] for row in table.rows[::3]] == ["linear", "knn", "released"]
    cells = [evaluated.cell("linear", "weak", d, d).metrics["auroc"].mean for d in evaluated.datasets]
    assert table.rows[0].entries[1].mean == pytest.approx(sum(cells) / 2)
    assert [e.best for e in table.rows[0].entries] == [False, False, True]
    assert [e.best for e in table.rows[6].entries] == [True, False, False]


def test_a_table_of_each_class(evaluated):
    table = per_class_table(evaluated, "linear")
    assert len(table.rows) == 10
    assert sum(int(row.heads[2]) for row in table.rows[:5]) == 120
    assert len(table.columns) == 9


def test_csv_has_the_numbers_in_full(evaluated):
    table = internal_table(evaluated, "linear")
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    entry = table.rows[1].entries[2]
    row = rows[1]
    assert (row["dataset"], row["metric"]) == table.rows[1].heads
    assert float(row["best"]) == entry.mean
    assert row["best mark"] == "best"
    assert (float(row["best seeds t low"]), float(row["best seeds t high"])) == entry.seeds_t
    assert (float(row["best test images low"]), float(row["best test images high"])) == entry.test_images
    assert float(row["paper weak"]) == 0.665
    assert rows[3]["paper weak seeds normal low"] == "0.846"


def test_latex_is_well_formed_and_holds_the_numbers(evaluated):
    for table in all_tables(evaluated):
        rows = check_latex(to_latex(table))
        assert len(rows) == len(table.rows) + 1 + bool(table.paper_columns)
    table = internal_table(evaluated, "linear")
    row = check_latex(to_latex(table))[2]
    entry = table.rows[0].entries[2]
    low, high = (f"{x:.3f}".removeprefix("0") for x in entry.seeds_t)
    assert cells_of(row)[:2] == ["aptos2019", "AUROC"]
    assert cells_of(row)[4] == rf"\textbf{{{entry.mean:.3f}}}".replace("{0.", "{.") + f" ({low}, {high})"
    assert cells_of(row)[5:7] == [r"\textbf{.933} (.932, .933)", r"\textbf{.933} (.933, .934)"]


def test_nasty_names_stay_text_in_every_format(nasty_tables):
    assert len(nasty_tables) == 6
    for table in nasty_tables:
        check_latex(to_latex(table))
        page = parse_html(to_html(table))
        assert "script" not in page.tags
        rows = list(csv.reader(io.StringIO(to_csv(table))))
        assert {len(row) for row in rows} == {len(rows[0])}
    assert NASTY in "".join(parse_html(to_html(nasty_tables[0])).text)
    assert re.fullmatch(r"[a-z0-9-]+", nasty_tables[0].name)


def test_latex_escapes_every_special_character():
    assert latex("a_b & 5% of $x$ #1 {y} ~ ^ \\") == (
        r"a\_b \& 5\% of \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert latex("two\n lines") == "two lines"


def test_a_missing_value_is_a_dash_with_its_reason():
    entry = Entry(mean=None, reason='every test image is of class "a"')
    table = Table(
        name="t", title="", caption="", heads=("Dataset",), columns=("x", "y"), paper_columns=(),
        rows=(Row(heads=("d",), entries=(entry, None)),),
    )  # fmt: skip
    assert 'title="every test image is of class "a""' in unescape(to_html(table))
    assert '"a"' not in to_html(table)
    assert cells_of(check_latex(to_latex(table))[1]) == ["d", "--", "--"]
    assert to_csv(table).splitlines()[1] == "d,,,,"


def test_tables_are_written_as_csv_and_latex(tmp_path, evaluated):
    tables = all_tables(evaluated)
    paths = write_tables(tables, tmp_path / "tables")
    assert len(paths) == 2 * len(tables) == 2 * (5 * 3 + 1)
    assert len({path.name for path in paths}) == len(paths)
    assert (tmp_path / "tables" / "internal-linear.csv").read_text() == to_csv(tables[0])


def test_an_empty_evaluation_has_no_tables(evaluated):
    nothing = dict.fromkeys(("checkpoints", "protocols", "cells", "comparisons", "disagreements"), ())
    empty = evaluated.model_copy(update=nothing)
    assert all_tables(empty) == ()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_the_verdict_then_a_row_per_test_set_and_checkpoint(evaluated, columns):
    console = Console(force_terminal=True, width=columns, color_system=None, file=io.StringIO())
    print_evaluation(evaluated, Path("out"), console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    assert "…" not in text
    order = (
        "Better by AUROC, of 36 comparisons: best in 16",
        "linear, 3 seeds",
        "knn, 3 seeds",
        " - Pre-training",
        "out",
    )
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    cell = evaluated.cell("linear", "best", "aptos2019", "aptos2019").metrics["auroc"]
    low, high = cell.test_images
    (row,) = [line for line in text.splitlines() if f"{cell.mean:.3f} ({low:.3f} to {high:.3f})" in line]
    assert row.split()[-1] == "highest"


def test_a_pipe_gets_the_same_as_ascii_lines(evaluated):
    console = Console(width=40, file=io.StringIO())
    print_evaluation(evaluated, Path("out"), console)
    text = console.file.getvalue()
    assert text.isascii()
    assert "aptos2019 to messidor_2 (120)" in text
    assert text.splitlines()[-1] == "Tables: out/tables"


def test_protocols_beyond_a_screen_are_left_to_the_page(evaluated, monkeypatch):
    monkeypatch.setattr(terminal, "MOST_ROWS", 13)
    screen = terminal.evaluation_screen(evaluated, Path("out"))
    assert [table.title for table in screen.tables] == ["linear, 3 seeds"]
    assert screen.files[0][0] == "Page, with 2 more protocols"


def test_equal_checkpoints_are_not_called_better():
    best = made_run(checkpoint="a", images=60, skill=1.0)
    twin = type(best)(**{**vars(best), "checkpoint": "twin"})
    screen = terminal.evaluation_screen(summarize([best, twin], resamples=50), Path("out"))
    assert screen.headline == "No two checkpoints are distinguishable by AUROC (1 comparison, Holm-adjusted)."
    assert [row.cells[-1] for row in screen.tables[0].rows] == ["highest", "not distinguishable"]


def test_a_single_checkpoint_has_nothing_to_be_compared_with():
    screen = terminal.evaluation_screen(summarize([made_run()], resamples=20), Path("out"))
    assert screen.headline.endswith("there is nothing to compare them with.")
    assert screen.tables[0].rows[0].cells[-1] == "–"
