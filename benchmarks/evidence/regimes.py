"""Studies of different starts and methods side by side: regimes.md and regimes.svg, from their CSVs alone.

Each regime is read from its own folder of CSVs: the study from random weights, its folder `methods`, and every other
folder beside these, e.g. `imagenet`. Scales, networks and image sizes differ between folders, so figures of two regimes
say whether the same holds in both, not which is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from augscale.config import load_study
from augscale.errors import DataError
from augscale.pretrain_config import METHOD_NAMES
from augscale.runs.files import write_text_atomic
from augscale.statistics.ranking import Correlation
from benchmarks.evidence import markdown as md
from benchmarks.evidence.correlations import DEFAULT, MAIN_PROTOCOL, Spread, seed_noise
from benchmarks.evidence.figures import RC, grid, svg
from benchmarks.evidence.label_tables import ranked
from benchmarks.evidence.methods import FOLDER
from benchmarks.evidence.question import Mean, student
from benchmarks.evidence.records import MEAN, SCALES_LEVEL, Score, read_evidence
from benchmarks.evidence.trust import LABELS

CROPS = Score(metric="crop_area", level=SCALES_LEVEL)
JITTER = Score(metric="jitter", level=SCALES_LEVEL)
_STARTS = {"none": "random weights", "imagenet": "ImageNet weights"}
GREY, BLUE, ORANGE = "#7f7f7f", "#1f77b4", "#d95f02"
_FEWEST_SCALES = 8
"""A folder with fewer scales in two seeds is no study of rankings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Regime:
    """name: method and start. network, images: of a run. spread: the runs of two seeds that rankings are over."""

    name: str
    network: str
    images: int
    spread: Spread

    def gain(self, dataset: str) -> Mean | None:
        """AUROC over the start of the same seed, mean over the scales with its interval over scales."""
        evidence, runs = self.spread.evidence, self.spread.runs
        starts = evidence.baselines("untrained")
        before = dict(zip((run.seed for run in starts), evidence.auroc(starts, dataset, MAIN_PROTOCOL), strict=True))
        gains = evidence.auroc(runs, dataset, MAIN_PROTOCOL) - np.array([before.get(run.seed, np.nan) for run in runs])
        names = np.array(self.spread.names)
        return student([float(np.mean(gains[names == name])) for name in np.unique(names)])

    def agreement(self, dataset: str) -> Correlation | None:
        """Rank correlation of the two seeds over the scales: about the most that a score could reach."""
        values = self.spread.evidence.auroc(self.spread.runs, dataset, MAIN_PROTOCOL)
        seeds = np.array([run.seed for run in self.spread.runs])
        found = seed_noise(values, self.spread.groups, seeds, self.spread.bootstrap)
        return None if found is None else found.agreement

    def score(self, score: Score, dataset: str) -> Correlation:
        """Rank correlation of a score with accuracy within a seed."""
        return self.spread.within().of_score(score, dataset, MAIN_PROTOCOL)


def read_regimes(folder: Path, bootstrap: int) -> list[Regime]:
    """All regimes below a folder, that of the folder itself first.

    Raises:
        DataError: a CSV is missing or lacks a column; fewer than two regimes.
    """
    found = []
    for file in (
        folder / "runs.csv",
        *sorted(folder.glob("*/runs.csv")),
        *sorted((folder / FOLDER).glob("*/runs.csv")),
    ):
        study, evidence = load_study(str(file.parent / "study.toml")), read_evidence(file.parent)
        part = "methods" if file.parent.parent.name == FOLDER else "spread"
        spread = _two_seeds(Spread.of(evidence, bootstrap, part))
        if len(set(spread.names)) < _FEWEST_SCALES:
            continue
        start = _STARTS.get(study.backbone.init, "weights of a file")
        network = f"{'narrow ' if study.backbone.overrides else ''}{study.backbone.name}"
        found.append(
            Regime(
                name=f"{METHOD_NAMES[study.pretrain.method]}, {start}",
                network=f"{network}, {study.crops.global_size} px",
                images=study.pretrain.steps * study.pretrain.batch_size,
                spread=spread,
            )
        )
    if len(found) < 2:
        raise DataError(
            f"{folder}: number of regimes with {_FEWEST_SCALES} scales or more: {len(found)}; expected two or more"
        )
    return found


def write_regimes(folder: Path, bootstrap: int) -> list[Path]:
    """Writes regimes.md and regimes.svg; the same CSVs give the same bytes."""
    regimes = read_regimes(folder, bootstrap)
    table, figure = folder / "regimes.md", folder / "regimes.svg"
    write_text_atomic(table, document(regimes))
    with mpl.rc_context(RC):
        write_text_atomic(figure, svg(draw(regimes)))
    return [table, figure]


def datasets_of(regimes: list[Regime]) -> list[str]:
    """Real datasets that all regimes have, and the mean of each regime's own."""
    first = regimes[0].spread.evidence.real_datasets
    return [*(name for name in first if all(name in one.spread.evidence.real_datasets for one in regimes)), MEAN]


def document(regimes: list[Regime]) -> str:
    """One table for each dataset."""
    parts = [
        "# Regimes side by side\n\nWritten by `python -m benchmarks.evidence tables --regimes`; do not edit.\n\n"
        f"Outcome: `{MAIN_PROTOCOL}` AUROC. `gain`: over the network before training, mean over scales [95 % interval "
        "over scales]. Rank correlations over scales, in brackets 95 % intervals over scales (of scores: and labelled "
        "images). `two seeds`: one seed's accuracy with the other's. Scores: less their seed's mean. "
        "`larger crops alone`, `jitter alone`: the middle of the range of a global crop's area, and jitter's strength "
        "times its probability. "
        f"`{LABELS} labels`: a score from so many labelled images with accuracy on the others, of the other seed [95 % "
        "of 50 draws]. Networks and images differ between rows, so a row is to be read by itself.\n"
    ]
    heads = ["regime", "network", "images seen", "scales", "gain", "two seeds", DEFAULT.label]
    heads += ["larger crops alone", "jitter alone", f"{LABELS} labels"]
    for dataset in datasets_of(regimes):
        parts.append(f"\n## {dataset}\n" + md.table(heads, [_row(regime, dataset) for regime in regimes]))
    return "".join(parts)


def _row(regime: Regime, dataset: str) -> list[str]:
    agreement, gain = regime.agreement(dataset), regime.gain(dataset)
    labels = ranked(regime.spread, "labels", dataset, LABELS, other_seed=True)
    return [
        regime.name,
        regime.network,
        f"{regime.images:,}",
        str(len(set(regime.spread.names))),
        md.MISSING if gain is None else md.signed(gain.mean) + md.between(gain.interval),
        md.MISSING if agreement is None else md.correlation(agreement),
        *(md.correlation(regime.score(score, dataset)) for score in (DEFAULT, CROPS, JITTER)),
        md.MISSING if labels is None else md.signed(labels.correlation, 2) + md.between(labels.between, 2),
    ]


def draw(regimes: list[Regime]) -> Figure:
    """Pair AUROC's rank correlation in every regime, beside what two seeds agree on and what crop size alone says."""
    datasets = datasets_of(regimes)
    figure, axes = grid(len(datasets), len(datasets), 1.8, 0.5 + 0.45 * len(regimes))
    for column, (axis, dataset) in enumerate(zip(axes, datasets, strict=True)):
        axis.axvline(0, color="black", linewidth=0.6)
        for place, regime in enumerate(regimes):
            for found, marker, shift, colour in (
                (regime.agreement(dataset), "D", -0.2, GREY),
                (regime.score(DEFAULT, dataset), "o", 0.0, BLUE),
                (regime.score(CROPS, dataset), "s", 0.2, ORANGE),
            ):
                if found is None or found.value is None:
                    continue
                axis.plot(found.value, place + shift, marker, markersize=4, color=colour)
                if found.interval is not None:
                    axis.plot(found.interval, [place + shift] * 2, linewidth=1, color=colour)
        axis.set_xlim(-1, 1)
        axis.set_ylim(len(regimes) - 0.5, -0.5)
        axis.set_yticks(range(len(regimes)), [one.name for one in regimes] if column == 0 else [""] * len(regimes))
        axis.set_title(dataset)
    handles = [
        Line2D([], [], marker=marker, linestyle="", markersize=4, color=colour, label=label)
        for marker, colour, label in (
            ("D", GREY, "two seeds with each other"),
            ("o", BLUE, "pair AUROC with accuracy"),
            ("s", ORANGE, "larger crops alone with accuracy"),
        )
    ]
    title = f"rank correlation over scales, {MAIN_PROTOCOL} AUROC"
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, title=title)
    return figure


def _two_seeds(spread: Spread) -> Spread:
    """The runs of seeds 0 and 1 whose scales have both."""
    runs = [run for run in spread.runs if run.seed in (0, 1)]
    both = {run.name for run in runs if run.seed == 0} & {run.name for run in runs if run.seed == 1}
    return Spread(evidence=spread.evidence, runs=[run for run in runs if run.name in both], bootstrap=spread.bootstrap)
