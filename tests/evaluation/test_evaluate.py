"""`augscale.evaluate` from checkpoints and labelled folders to its files; what is finished is not done again."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import augscale
from augscale.cli.app import app
from augscale.config import BackboneConfig
from augscale.demo import render
from augscale.demo.patients import synthetic_records
from augscale.errors import ConfigError, DataError
from augscale.evaluation import features
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.networks.backbones import build_backbone
from augscale.networks.weights import save_weights

SIZE = 32
TINY = {"patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 1}
QUICK = ProtocolConfig.model_validate({"seeds": 2, "released": {"epochs": 3, "draws": 2}, "finetune": {"epochs": 1}})


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUGSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("AUGSCALE_DATA", str(tmp_path_factory.mktemp("nothing-prepared")))
        yield


def _folder(path: Path, first: int, classes: dict[str, str]) -> Path:
    path.mkdir()
    with (path / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "split"])
        by_class = [[r for r in synthetic_records(120, 0) if r.label == label] for label in classes]
        chosen = [r for rows in zip(*by_class, strict=False) for r in rows][first : first + 36]
        for index, record in enumerate(chosen):
            Image.fromarray(render(record.image_id, 0, 40)).save(path / f"{index:02d}.png")
            table.writerow(
                [f"{index:02d}.png", classes[record.label], ("train", "val", "train", "test", "train")[index % 5]]
            )
    return path


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    return _folder(tmp_path_factory.mktemp("data") / "here", 0, {"0": "normal", "3": "severe", "4": "proliferative"})


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    return _folder(tmp_path_factory.mktemp("data") / "there", 12, {"3": "severe", "4": "proliferative"})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("weights")
    paths = []
    for seed, name in enumerate(("strong", "weak")):
        backbone = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", overrides=TINY), SIZE, seed=seed)
        sidecar = {"name": name, "backbone": {"name": "vit_tiny_patch16_224", "overrides": TINY}, "image_size": SIZE}
        save_weights(folder / f"{name}.safetensors", backbone, sidecar)
        paths.append(folder / f"{name}.safetensors")
    return paths


@pytest.fixture(scope="module")
def done(checkpoints, here, there, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "evaluation"
    result = augscale.evaluate(checkpoints, datasets=[here, there], external=True, config=QUICK, out=out)
    return result, out


def test_every_combination_is_there_once(done):
    result, _ = done
    cells = {(c.protocol, c.checkpoint, c.trained_on, c.tested_on): len(c.seeds) for c in result.summary.cells}
    seeds = {"linear": 1, "knn": 1, "released": 2}
    pairs = [("here", "here"), ("there", "there"), ("here", "there"), ("there", "here")]
    assert cells == {
        (protocol, checkpoint, *pair): count
        for protocol, count in seeds.items()
        for checkpoint in ("strong", "weak", "untrained vit_tiny_patch16_224")
        for pair in pairs
    }


def test_external_sets_are_restricted_to_the_shared_classes_and_this_is_said(done):
    result, _ = done
    external = next(c for c in result.summary.cells if (c.trained_on, c.tested_on) == ("here", "there"))
    assert set(external.classes) == {"proliferative", "severe"}
    assert any(note.startswith("external: here") and "normal left out" in note for note in result.summary.notes)


def test_files_are_written_and_hold_what_the_object_holds(done):
    result, out = done
    values = json.loads((out / "evaluation.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert len(values["cells"]) == len(result.summary.cells)
    assert "<html" in (out / "evaluation.html").read_text()[:500].lower()
    tables = {path.name for path in (out / "tables").iterdir()}
    assert {"internal-linear.csv", "internal-linear.tex", "external-knn.csv"} <= tables


def test_predictions_score_as_the_summary_says(done):
    from sklearn.metrics import roc_auc_score

    result, _ = done
    one = next(p for p in result.predictions if (p.protocol, p.checkpoint, p.tested_on) == ("knn", "weak", "here"))
    cell = next(
        c
        for c in result.summary.cells
        if (c.protocol, c.checkpoint, c.trained_on, c.tested_on) == ("knn", "weak", one.trained_on, "here")
    )
    binary = len(one.classes) == 2
    scores = one.scores[:, 1] if binary else one.scores
    expected = roc_auc_score(one.labels, scores, multi_class="ovr", average="macro")
    assert cell.metrics["auroc"].mean == pytest.approx(expected)


def test_the_same_call_repeats_nothing_and_more_seeds_add_only_themselves(done, checkpoints, here, there):
    _, out = done
    before = {path: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()}
    again = augscale.evaluate(checkpoints, datasets=[here, there], external=True, config=QUICK, out=out)
    assert {path: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()} == before
    assert len(again.predictions) == len(before) / 2
    more = QUICK.model_copy(update={"seeds": 3})
    augscale.evaluate(checkpoints, datasets=[here, there], external=True, config=more, out=out)
    after = {path: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()}
    assert {path: after[path] for path in before} == before
    assert {path.name[:8] for path in set(after) - set(before)} == {"released"}


def test_another_folder_runs_no_network_and_gives_the_same_numbers(checkpoints, here, tmp_path, monkeypatch):
    passes = []
    monkeypatch.setattr(features, "MOST_ON_CPU", 64)  # one pass for every split
    real = features.embedding_and_blocks
    monkeypatch.setattr(features, "embedding_and_blocks", lambda *args: passes.append(1) or real(*args))

    def scores(out: str, cache: str) -> list:
        found = augscale.evaluate(
            checkpoints[1],
            datasets=here,
            protocols=["linear", "knn"],
            config=QUICK,
            out=tmp_path / out,
            cache_root=tmp_path / cache,
        )
        return [p.scores.tolist() for p in found.predictions]

    first = scores("one", "cache")
    assert len(passes) == 2 * 3, "train, val and test of the checkpoint and of the untrained network"
    assert scores("two", "cache") == first
    assert len(passes) == 6
    assert scores("three", "empty") == first
    assert len(passes) == 12


def test_a_damaged_or_outdated_run_is_made_again(done, checkpoints, here, there):
    _, out = done
    path = next((out / "predictions").glob("knn_weak_here_*.csv"))
    content = path.read_text()
    path.write_text(content[: len(content) // 2])
    result = augscale.evaluate(checkpoints, datasets=[here, there], external=True, config=QUICK, out=out)
    assert path.read_text() == content
    assert any("this run is made again" in note for note in result.summary.notes)


def test_fine_tuning_trains_the_checkpoints_but_not_the_untrained_reference(checkpoints, here, tmp_path):
    result = augscale.evaluate(
        checkpoints[:1], datasets=here, protocols=["finetune"], config=QUICK, out=tmp_path / "out"
    )
    assert [(c.checkpoint, len(c.seeds)) for c in result.summary.cells] == [("strong", 2)]
    assert not list((tmp_path / "out" / "finetune").rglob("*.pt")), "a copy of the network per seed is not kept"


def test_all_without_anything_prepared_takes_the_built_in_photographs_and_says_what_is_missing(
    checkpoints, tmp_path, monkeypatch
):
    from augscale.evaluation import evaluate as api

    monkeypatch.setattr(api, "open_dataset", partial(api.open_dataset, synthetic_patients=40))
    result = augscale.evaluate(checkpoints[:1], protocols=["knn"], untrained=False, out=tmp_path / "out")
    assert [c.tested_on for c in result.summary.cells] == ["synthetic"]
    notes = " ".join(result.summary.notes)
    for name in ("MESSIDOR-2", "IDRiD", "APTOS2019", "PAPILA", "JSIEC", "Retina"):
        assert name in notes


def test_without_a_checkpoint_something_useful_is_evaluated_and_named(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = CliRunner().invoke(
        app, ["evaluate", "--datasets", str(here), "--protocol", "knn", "--out", "out", "--no-untrained", "--json"]
    )
    assert done.exit_code == 0, done.exception
    values = json.loads(done.stdout)
    assert [cell["checkpoint"] for cell in values["cells"]] == ["random ViT-tiny"]
    assert any("RANDOM weights" in note for note in values["notes"])


def test_wrong_input_is_refused_with_one_clear_line(checkpoints, here, tmp_path):
    with pytest.raises(ConfigError, match="did you mean linear"):
        augscale.evaluate(checkpoints, datasets=here, protocols=["linea"], out=tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        augscale.evaluate(checkpoints, datasets=tmp_path / "nowhere", out=tmp_path)
    with pytest.raises(ConfigError, match="names for 2 checkpoints"):
        augscale.evaluate(checkpoints, datasets=here, names=["a"], out=tmp_path)
    with pytest.raises(ConfigError, match="cannot be written"):
        augscale.evaluate(checkpoints, datasets=here, out="/proc/nowhere")


def test_a_killed_fine_tuning_goes_on_and_nothing_finished_is_repeated(checkpoints, here, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "augscale", "evaluate", str(checkpoints[0]), "--datasets", str(here)]
    command += ["--protocol", "knn,finetune", "--seeds", "1", "--no-untrained", "--out", str(out)]
    command += ["--set", "finetune.epochs=20"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list(out.rglob("*.pt")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in (out / "predictions").glob("*.csv")}
    assert [path.name[:3] for path in finished] == ["knn"], "killed in the middle of fine-tuning"
    again = CliRunner().invoke(app, command[3:])
    assert again.exit_code == 0, again.exception
    after = {path: path.stat().st_mtime_ns for path in (out / "predictions").glob("*.csv")}
    assert len(after) == 2
    assert {path: after[path] for path in finished} == finished
