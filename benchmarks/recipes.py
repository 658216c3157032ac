"""Compares recipes for a start from ImageNet weights, in short runs: does training beat its start, on panel and labels?

    python -m benchmarks.recipes --data-root DIR --out OUT [--recipes start-frozen,frozen-1e-3]
        [--scales weak,strong] [--seeds 0,1] [--set KEY=VALUE] [--device cuda] [--smoke]

Every recipe trains from the same weights, with the scales `weak` and seed 0 if no others are named, and its teacher is
measured. Two networks are its references: the start, and the start with learning switched off (lr 0). The rows of
OUT/recipes.csv come in the order of `RECIPES`, the most informative first, so an early stop is usable. The same command
goes on after a stop; a second process may work on the same folder. Learning rates are those of the batch as it is, not
scaled. `--recipes` names others; their order does not matter, but without a start of the same statistics a row has no
gains.

With `batch_norm = "frozen"` all networks have the start's statistics. With "train" every network gathers them anew on
the same photographs, the start too, so that a difference from the start is one of weights. Only rows of equal
`statistics` and `seed` may be compared: their gains are taken from the start of the same kind.

With one seed and short runs a gain of the size of the difference between two seeds shows nothing. What looks best is to
be run again, longer and with other seeds, before it is called a recipe.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from augscale.augmentation.scales import AugmentationScales, load_scales
from augscale.cli.options import parse_assignments
from augscale.config import StudyConfig, load_study
from augscale.errors import AugscaleError, ConfigError
from augscale.runs.files import read_json, write_text_atomic
from benchmarks.evidence.data import LADDER, pretraining_study
from benchmarks.evidence.measure import Measurer, limit_threads
from benchmarks.evidence.plan import NO_LEARNING, Kind, PlannedRun, gate_scales, spread_scales
from benchmarks.evidence.runner import prepare_folder, result_file, work
from benchmarks.evidence.settings import load_settings

STUDY = Path(__file__).parent / "evidence" / "study-recipes.toml"
MEASURE = Path(__file__).parent / "evidence" / "measure-recipes.toml"
CSV_FILE = "recipes.csv"
LAYER_DECAY, HEAD_WARMUP = 0.7, 0.2
DEFAULT_SCALES = "weak"
SPREAD_STUDY = "evidence-imagenet-simclr"
"""Whose Sobol scales `--scales` knows."""
SMOKE = ("start-frozen", "frozen-1e-4", "null-frozen", "frozen-1e-4-head-layers")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One row."""

    kind: Kind = "run"
    """"run", "null" or "untrained" (the start)."""
    lr: float = 0.0
    batch_norm: Literal["train", "frozen"] = "frozen"
    head_warmup_fraction: float = 0.0
    layer_decay: float = 1.0
    scales: str = DEFAULT_SCALES
    """Name of a preset, or of scales of the evidence study, e.g. "sobol-03" (`named_scales`)."""
    seed: int = 0

    @property
    def name(self) -> str:
        """As in "frozen-1e-4-head-layers", "start-train" or, with other scales, "frozen-1e-4@strong"."""
        if self.kind == "untrained":
            return f"start-{self.batch_norm}"
        scales = "" if self.scales == DEFAULT_SCALES else f"@{self.scales}"
        if self.kind == "null":
            return f"null-{self.batch_norm}{scales}"
        mantissa, exponent = f"{self.lr:e}".split("e")
        parts = [self.batch_norm, f"{float(mantissa):g}e{int(exponent)}"]
        parts += ["head"] if self.head_warmup_fraction else []
        return "-".join(parts + (["layers"] if self.layer_decay < 1 else [])) + scales

    @property
    def statistics(self) -> Literal["own", "common"]:
        return "own" if self.batch_norm == "frozen" else "common"

    @classmethod
    def parse(cls, name: str) -> Recipe:
        """The recipe of a name.

        Raises:
            ConfigError: the name has another form.
        """
        if found := re.fullmatch(r"(start|null)-(train|frozen)", name):
            return cls(kind="untrained" if found[1] == "start" else "null", batch_norm=_statistics_of(found[2]))
        if found := re.fullmatch(r"(train|frozen)-(\d(?:\.\d+)?e-\d+)(-head)?(-layers)?", name):
            return cls(
                lr=float(found[2]),
                batch_norm=_statistics_of(found[1]),
                head_warmup_fraction=HEAD_WARMUP if found[3] else 0.0,
                layer_decay=LAYER_DECAY if found[4] else 1.0,
            )
        raise ConfigError(
            f"--recipes {name}: expected a name such as start-frozen, null-train or frozen-1e-3-head-layers"
        )

    def study(self, base: StudyConfig) -> StudyConfig:
        """The study with this recipe; starts and nulls have the learning rate of the base, which does not matter."""
        recipe: dict[str, Any] = {
            "batch_norm": self.batch_norm,
            "head_warmup_fraction": self.head_warmup_fraction,
            "layer_decay": self.layer_decay,
        }
        recipe |= {"lr": self.lr} if self.kind == "run" else {}
        return base.model_copy(update={"pretrain": base.pretrain.model_copy(update=recipe)})


def _statistics_of(word: str) -> Literal["train", "frozen"]:
    return "frozen" if word == "frozen" else "train"


def _recipes() -> tuple[Recipe, ...]:
    """Starts; learning rates; then one thing at a time; nulls; and combinations."""
    starts = [Recipe(kind="untrained"), Recipe(kind="untrained", batch_norm="train")]
    rates = [Recipe(lr=lr) for lr in (1e-4, 3e-4, 3e-5)]
    middle = rates[0]
    single = [
        replace(middle, batch_norm="train"),
        replace(middle, head_warmup_fraction=HEAD_WARMUP),
        replace(middle, layer_decay=LAYER_DECAY),
    ]
    nulls = [Recipe(kind="null", batch_norm="train"), Recipe(kind="null")]
    careful = [replace(rate, head_warmup_fraction=HEAD_WARMUP, layer_decay=LAYER_DECAY) for rate in rates]
    fast = [
        replace(rates[1], head_warmup_fraction=HEAD_WARMUP),
        replace(rates[1], layer_decay=LAYER_DECAY),
        replace(careful[0], batch_norm="train"),
    ]
    return (*starts, *rates, *single, *nulls, *careful, *fast)


RECIPES = _recipes()


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except AugscaleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _run(options: argparse.Namespace) -> None:
    limit_threads()
    base, settings = load_study(options.study, parse_assignments(options.set)), load_settings(options.measure)
    prepare_folder(options.out, base, settings)
    base = pretraining_study(base, settings, options.data_root)
    recipes = _chosen(options)
    shared: Measurer | None = None
    for recipe in recipes:
        if result_file(options.out, planned(recipe)).exists():
            continue
        if shared is None:
            shared = Measurer.build(base, settings, options.data_root, options.out / "work", options.device)
        measurer = replace(
            shared,
            study=recipe.study(base),
            settings=settings.model_copy(update={"statistics": recipe.statistics}),
            starts={},
        )
        work(options.out, [planned(recipe)], measurer)
        write_text_atomic(options.out / CSV_FILE, table(options.out, recipes))
    write_text_atomic(options.out / CSV_FILE, table(options.out, recipes))
    print(options.out / CSV_FILE)


def _chosen(options: argparse.Namespace) -> list[Recipe]:
    """Starts first, so that every later row has its gains; all recipes with one seed before the next."""
    named = [Recipe.parse(name) for name in options.recipes.split(",")] if options.recipes else list(RECIPES)
    if options.smoke:
        named = [recipe for recipe in named if recipe.name in SMOKE]
    scales, seeds = options.scales.split(","), [int(seed) for seed in options.seeds.split(",")]
    for name in scales:
        named_scales(name)
    # A start trains nothing, so it is one for all scales.
    crossed = [
        replace(recipe, scales=DEFAULT_SCALES if recipe.kind == "untrained" else name, seed=seed)
        for seed in seeds
        for recipe in named
        for name in scales
    ]
    return sorted(dict.fromkeys(crossed), key=lambda recipe: (recipe.seed, recipe.kind != "untrained"))


def named_scales(name: str) -> AugmentationScales:
    """A preset, or scales of the evidence study from ImageNet weights, by their names there.

    Raises:
        ConfigError: no such scales.
    """
    known = gate_scales() | spread_scales(load_study(SPREAD_STUDY).space)
    return known[name] if name in known else load_scales(name)


def planned(recipe: Recipe) -> PlannedRun:
    """The recipe as a run of the evidence study, whose chain trains, measures and resumes it."""
    scales = None if recipe.kind == "untrained" else named_scales(recipe.scales)
    without = NO_LEARNING if recipe.kind == "null" else ()
    return PlannedRun(name=recipe.name, seed=recipe.seed, kind=recipe.kind, scales=scales, recipe=without)


def table(out: Path, recipes: Sequence[Recipe]) -> str:
    """The finished recipes as CSV.

    Columns: recipe, kind, seed, its settings, statistics, state; loss and information at the end; pair_auroc and
    dprime, means over the panel's levels; cka_to_start; AUROC by protocol and dataset and its mean over datasets;
    gain_NAME, the difference from the start of equal statistics and seed; seconds of one core.
    """
    rows: list[dict[str, Any]] = []
    starts: dict[tuple[str, int], dict[str, float]] = {}
    for recipe in recipes:
        result = read_json(result_file(out, planned(recipe)))
        if result is None:
            continue
        row: dict[str, Any] = {"recipe": recipe.name, "kind": recipe.kind, "seed": recipe.seed}
        row |= {"state": result["state"], "statistics": recipe.statistics}
        if recipe.kind == "run":
            row |= {name: getattr(recipe, name) for name in ("lr", "batch_norm", "head_warmup_fraction", "layer_decay")}
        values = _values(result["rungs"][-1]) if result["state"] == "complete" else {}
        if recipe.kind == "untrained" and values:
            starts[recipe.statistics, recipe.seed] = values
        begin = starts.get((recipe.statistics, recipe.seed), {})
        gains = {f"gain_{name}": values[name] - begin[name] for name in values if name in begin}
        facts = {name: result["rungs"][-1][name] for name in ("step", "loss", "information")} if values else {}
        shown = {name: f"{value:.5f}" for name, value in (values | gains).items()}
        rows.append(row | facts | shown | {"seconds": result["seconds"]})
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _values(rung: dict[str, Any]) -> dict[str, float]:
    scores = rung["scores"]["embedding"]
    found = {
        metric: sum(scores[level][metric] for level in LADDER) / len(LADDER) for metric in ("pair_auroc", "dprime")
    }
    found["cka_to_start"] = scores["clean"]["cka_to_start"]
    for protocol in next(iter(rung["outcomes"].values())):
        areas = {name: protocols[protocol]["auroc"] for name, protocols in rung["outcomes"].items()}
        areas["mean"] = sum(areas.values()) / len(areas)
        found |= {f"{protocol}_{name}": area for name, area in areas.items()}
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--study", default=str(STUDY), help="built-in study or TOML file")
    parser.add_argument("--measure", type=Path, default=MEASURE, help="TOML file of what is measured")
    parser.add_argument("--set", action="append", help="a setting of the study, e.g. pretrain.steps=100")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recipes", help="names of recipes, with commas between; not set: those of this file")
    parser.add_argument(
        "--scales",
        default=DEFAULT_SCALES,
        help="presets or scales of the evidence study, e.g. sobol-03, with commas between",
    )
    parser.add_argument("--seeds", default="0", help="with commas between")
    parser.add_argument("--smoke", action="store_true", help="four recipes only, to try the chain")
    return parser


if __name__ == "__main__":
    sys.exit(main())
