"""Tables as CSV, LaTeX (booktabs) and HTML fragments. Names chosen by users are escaped."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from augscale.reporting.evaluation.tables import DIGITS, Entry, Table
from augscale.reporting.shared.templates import render
from augscale.reporting.shared.wording import NOTHING
from augscale.runs.files import write_text_atomic

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "→": r"$\rightarrow$",
}


def write_tables(tables: Sequence[Table], folder: Path) -> tuple[Path, ...]:
    """Writes `NAME.csv` and `NAME.tex` of every table.

    Args:
        folder: made where missing.
    Returns:
        The files, in order.
    Raises:
        StudyError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables:
        for suffix, text in (("csv", to_csv(table)), ("tex", to_latex(table))):
            path = folder / f"{table.name}.{suffix}"
            write_text_atomic(path, text)
            written.append(path)
    return tuple(written)


def to_csv(table: Table) -> str:
    """Numbers in full precision: per column the mean and, where any row has one, both ends of each interval."""
    count = len(table.columns)
    titles = [*table.columns, *(f"paper {name}" for name in table.paper_columns)]
    fields = [
        [kind for kind in _FIELDS if any(e is not None and _FIELDS[kind](e) is not None for e in _column(table, i))]
        for i in range(len(titles))
    ]
    header = [head.lower().replace(" ", "_") for head in table.heads]
    for index, title in enumerate(titles):
        header += [title if kind == "mean" else f"{title} {kind}" for kind in ("mean", *fields[index])]
        header += [f"{title} mark"] if index < count else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        line: list[str] = list(row.heads)
        for index, entry in enumerate(row.entries):
            values = [entry.mean if entry else None]
            values += [_FIELDS[kind](entry) if entry else None for kind in fields[index]]
            line += ["" if value is None else repr(value) for value in values]
            if index < count:
                line.append("" if entry is None else "best" if entry.best else "tied" if entry.tied else "")
        writer.writerow(line)
    return buffer.getvalue()


def to_latex(table: Table) -> str:
    """A `table` environment; needs `booktabs` only."""
    heads, columns, paper = len(table.heads), len(table.columns), len(table.paper_columns)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{latex(f'{table.caption} {_latex_legend(table)}'.strip())}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{'l' * heads}{'c' * (columns + paper)}}}",
        r"\toprule",
    ]
    if paper:
        first = heads + columns + 1
        lines.append(
            " & ".join([""] * (heads + columns) + [rf"\multicolumn{{{paper}}}{{c}}{{Cheng et al. (2025)}}"]) + r" \\"
        )
        lines.append(rf"\cmidrule(lr){{{first}-{first + paper - 1}}}")
    titles = [*table.heads, *table.columns, *table.paper_columns]
    lines += [" & ".join(latex(title) for title in titles) + r" \\", r"\midrule"]
    before: tuple[str, ...] = ()
    for row in table.rows:
        if before and row.heads[0] != before[0]:
            lines.append(r"\addlinespace")
        shown = [latex(text) for text in _without_repeats(row.heads, before)]
        cells = [_latex_entry(e, ours=i < columns) for i, e in enumerate(row.entries)]
        lines.append(" & ".join([*shown, *cells]) + r" \\")
        before = row.heads
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def to_html(table: Table, *, caption: bool = True) -> Markup:
    """A fragment for the report: the table, its notes and, unless it repeats the page, its caption."""
    befores: list[tuple[str, ...]] = [(), *(row.heads for row in table.rows)]
    rows = [
        (_without_repeats(row.heads, before), row.entries) for row, before in zip(table.rows, befores, strict=False)
    ]
    said = [f"{table.caption} {_html_legend(table)}".strip()] if caption else []
    return render(
        "evaluation/table.html", table=table, rows=rows, notes=[*said, *table.notes], digits=DIGITS, nothing=NOTHING
    )


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped and line breaks made spaces."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def _latex_legend(table: Table) -> str:
    if not table.seeds:
        return ""
    paper = "; the paper's are normal" if table.paper_columns else ""
    return f"Mean over {table.seeds} head seeds, in parentheses its 95 % interval over seeds (Student t{paper})."


def _html_legend(table: Table) -> str:
    if not table.seeds:
        return ""
    paper = "; the paper's are normal" if table.paper_columns else ""
    return (
        f"Mean over {table.seeds} head seeds; small: its 95 % interval over seeds (Student t{paper}), and over "
        f"test images (bootstrap, {table.resamples} resamples)."
    )


def _latex_entry(entry: Entry | None, *, ours: bool) -> str:
    if entry is None or entry.mean is None:
        return "--"
    mean = _short(entry.mean)
    text = rf"\textbf{{{mean}}}" if entry.best else mean
    text += r"$^\dagger$" if entry.tied else ""
    bounds = entry.seeds_t if ours else entry.seeds_normal
    if bounds:
        text += f" ({_short(bounds[0])}, {_short(bounds[1])})"
    if entry.plus_minus is not None:
        text += rf" $\pm$ {_short(entry.plus_minus)}"
    return text


_FIELDS = {
    "seeds t low": lambda e: e.seeds_t and e.seeds_t[0],
    "seeds t high": lambda e: e.seeds_t and e.seeds_t[1],
    "seeds normal low": lambda e: e.seeds_normal and e.seeds_normal[0],
    "seeds normal high": lambda e: e.seeds_normal and e.seeds_normal[1],
    "test images low": lambda e: e.test_images and e.test_images[0],
    "test images high": lambda e: e.test_images and e.test_images[1],
    "plus minus": lambda e: e.plus_minus,
}


def _column(table: Table, index: int) -> list[Entry | None]:
    return [row.entries[index] for row in table.rows]


def _without_repeats(heads: Sequence[str], before: Sequence[str]) -> list[str]:
    """The heads of a row, with leading ones that repeat the row above left blank."""
    shown = list(heads)
    for index in range(len(heads) - 1):
        if index >= len(before) or heads[index] != before[index]:
            break
        shown[index] = ""
    return shown


def _short(value: float) -> str:
    """A number as the paper prints it: three decimals without the zero before the point."""
    text = f"{value:.{DIGITS}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
