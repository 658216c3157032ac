"""The comparison of recipes for a start from weights, in miniature, and its list."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from tiny_data import write_tiny

from augscale.augmentation.scales import STRONG
from augscale.config import BackboneConfig, load_study
from augscale.errors import ConfigError
from augscale.networks.backbones import build_backbone
from benchmarks import recipes
from benchmarks.evidence import runner
from benchmarks.evidence.plan import pretrained_plan
from benchmarks.evidence.settings import load_settings
from benchmarks.recipes import RECIPES, Recipe

RESNET = {"name": "resnet10t", "overrides": {"channels": [8, 8, 16, 16], "stem_width": 8}}


def _rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / recipes.CSV_FILE).open(newline="") as file:
        return {row["recipe"]: row for row in csv.DictReader(file)}


def test_the_chain_from_weights_to_a_table_goes_on_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUGSCALE_CACHE", str(tmp_path / "cache"))
    root, study, _ = write_tiny(tmp_path)
    weights, measure = tmp_path / "start.pth", tmp_path / "measure.toml"
    # An untrained network has no statistics; these have a mean and a variance to keep.
    model = build_backbone(BackboneConfig(**RESNET), 32, seed=1).model
    model(torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    torch.save(model.state_dict(), weights)
    measure.write_text(
        'plan = "pretrained"\nview_size = 32\ndatasets = ["eyes"]\nprotocols = ["cv"]\nnatural_pairs = []\n'
        'released_datasets = []\npretrain_folders = ["eyes"]\ndraws = 0\nfolds = 3\nrepeats = 1\n'
    )
    command = ["--data-root", str(root), "--study", str(study), "--measure", str(measure), "--smoke"]
    command += [
        "--set",
        f"backbone.init={weights}",
        "--set",
        "search.rungs=[1.0]",
        "--set",
        "pretrain.teacher_momentum=0",
        "--out",
        str(tmp_path / "out"),
    ]
    perform, calls = runner.perform, []

    def stopped_at_the_third(run, *arguments):
        calls.append(run.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return perform(run, *arguments)

    monkeypatch.setattr(runner, "perform", stopped_at_the_third)
    assert recipes.main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert list(_rows(tmp_path / "out")) == ["start-frozen", "frozen-1e-4"]
    assert recipes.main(command) == 0
    assert calls == ["start-frozen", "frozen-1e-4", "null-frozen", "null-frozen", "frozen-1e-4-head-layers"]

    rows = _rows(tmp_path / "out")
    assert {row["state"] for row in rows.values()} == {"complete"}
    start, null, trained = (rows[name] for name in ("start-frozen", "null-frozen", "frozen-1e-4"))
    measured = [name for name in start if name.startswith(("cv_", "gain_", "pair_auroc", "dprime", "cka"))]
    assert {"cv_eyes", "cv_mean", "gain_cv_mean", "gain_pair_auroc"} < set(measured)
    assert [null[name] for name in measured] == [start[name] for name in measured], "without learning nothing moves"
    assert float(trained["gain_dprime"]) != 0
    assert trained["seconds"]
    assert (trained["lr"], trained["head_warmup_fraction"], trained["layer_decay"]) == ("0.0001", "0.0", "1.0")


def test_the_list_has_no_recipe_twice_and_begins_with_what_others_are_compared_with() -> None:
    names = [recipe.name for recipe in RECIPES]
    assert len(set(names)) == len(names)
    assert names[:3] == ["start-frozen", "start-train", "frozen-1e-4"]
    assert sum(recipe.kind == "run" for recipe in RECIPES) == 12
    assert set(recipes.SMOKE) <= set(names)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_is_a_study_from_imagenet_weights_that_differs_in_what_it_names(recipe: Recipe) -> None:
    base = load_study(recipes.STUDY)
    study = recipe.study(base)
    assert type(study).model_validate(study.model_dump(mode="json")) == study
    assert (study.backbone.init, study.pretrain.lr_scaling) == ("imagenet", False)
    assert study.pretrain.batch_norm == recipe.batch_norm
    assert study.pretrain.head_warmup_steps == round(recipe.head_warmup_fraction * 60)
    assert load_settings(recipes.MEASURE).protocols == ("cv",)


def test_a_recipe_is_found_by_its_name() -> None:
    assert [Recipe.parse(recipe.name) for recipe in RECIPES] == list(RECIPES)
    assert Recipe.parse("train-1.5e-3-head") == Recipe(lr=1.5e-3, batch_norm="train", head_warmup_fraction=0.2)
    with pytest.raises(ConfigError, match="--recipes frozen-layers: expected a name such as"):
        Recipe.parse("frozen-layers")


def test_scales_and_seeds_are_crossed_with_the_recipes_and_a_start_is_one_for_all_scales() -> None:
    given = "--data-root d --out o --recipes frozen-1e-4,start-frozen --scales weak,strong --seeds 0,1"
    options = recipes._parser().parse_args(given.split())

    chosen = recipes._chosen(options)

    assert [(recipe.name, recipe.seed) for recipe in chosen] == [
        *((name, 0) for name in ("start-frozen", "frozen-1e-4", "frozen-1e-4@strong")),
        *((name, 1) for name in ("start-frozen", "frozen-1e-4", "frozen-1e-4@strong")),
    ]
    assert recipes.planned(chosen[2]).scales == STRONG
    assert recipes.planned(chosen[5]).run_id == "frozen-1e-4@strong-s1"
    sobol = next(run for run in pretrained_plan(load_study("evidence-imagenet-simclr").space) if run.name == "sobol-03")
    assert recipes.named_scales("sobol-03") == sobol.scales
    options.scales = "weak,storng"
    with pytest.raises(ConfigError, match="storng"):
        recipes._chosen(options)
