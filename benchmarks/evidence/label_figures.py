"""The figure of few labels: how many labelled images rank scales as well as a score without labels."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.evidence.correlations import DEFAULT, Spread
from benchmarks.evidence.label_tables import ranked

_LINES = {"labels": ("#d62728", "labels"), DEFAULT.label: ("#1f77b4", "pair AUROC, no labels")}


def draw_labels(spread: Spread, axes: list[Any], datasets: list[str]) -> None:
    """Mean rank correlation with the accuracy of the other seed, by number of labelled images.

    Bands hold 95 % of the draws of labelled images.
    """
    for axis, dataset in zip(axes, datasets, strict=True):
        sizes = sorted({size for _, name, size, _ in spread.evidence.labels if name == dataset})
        axis.axhline(0, color="black", linewidth=0.6)
        for name, (colour, _) in _LINES.items():
            found = {size: ranked(spread, name, dataset, size, other_seed=True) for size in sizes}
            known = {size: one for size, one in found.items() if one is not None}
            axis.plot(list(known), [one.correlation for one in known.values()], "o-", color=colour, markersize=3)
            low, high = ([one.between[edge] for one in known.values()] for edge in (0, 1))
            axis.fill_between(list(known), low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_xscale("log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.set_ylim(-1, 1)
        axis.set_title(dataset)
        axis.set_xlabel("labelled images")


def label_legend(figure: Figure) -> None:
    handles = [Line2D([], [], marker="o", markersize=3, color=colour, label=label) for colour, label in _LINES.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
