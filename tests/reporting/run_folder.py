"""A plausible run folder: forty trials of a search that found something, with pruned, failed and running ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from augscale.augmentation.scales import PRESETS, AugmentationScales, describe

LEVELS = {"strong@0.25": 1.45, "strong@0.5": 1.0, "strong": 0.6}
"""By level: d' as a multiple of the trial's quality."""
STEPS = (75, 150, 300)
UNTRAINED_SCORE = 0.5
EDGES = np.linspace(0, 2, 65)


def write_run(folder: Path, *, trials: int = 40, answer: bool = True, seed: int = 0) -> Path:
    """Writes study.toml, manifest.json, the trials, and, where there is an answer, its confirmation and best.toml."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    put(folder / "manifest.json", manifest())
    healthy = {"verdict": "healthy", "evidence": []}
    put(folder / "untrained.json", panel(np.random.default_rng(1), UNTRAINED_SCORE, healthy))
    records = [trial(rng, number) for number in range(trials)]
    if not answer:
        for record in records[-2:]:
            record |= {"state": "RUNNING", "final": None, "reason": None, "finished": None}
            record["rungs"] = record["rungs"][:1]
    for record in records:
        put(folder / "trials" / f"{record['number']:04d}" / "trial.json", record)
    if answer:
        contenders = confirm(rng, folder, records)
        put(folder / "answer.json", answer_of(records, contenders))
        (folder / "best.toml").write_text("[scales]\n", encoding="utf-8")
    return folder


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")


def trial(rng: np.random.Generator, number: int) -> dict[str, Any]:
    """The record of one trial; trials 0 to 3 are the controls."""
    controls = ("none", "weak", "strong", "weak+med")
    control = controls[number] if number < len(controls) else None
    params = {
        "global_crop_low": rng.uniform(0.2, 1.0),
        "local_crop_low": rng.uniform(0.05, 0.6),
        "local_crop_width": rng.uniform(0.05, 0.6),
        "jitter": rng.uniform(0, 0.8),
    }
    if number > 14:  # the sampler has learned something
        params |= {"global_crop_low": rng.uniform(0.25, 0.6), "jitter": rng.uniform(0.35, 0.7)}
    if control:
        scales = PRESETS[control]
        low, high = scales.local_crops_scale
        inside = control in ("weak", "strong")
        place = (scales.global_crops_scale[0], low, high - low, scales.brightness)
        params = dict(zip(params, place, strict=True)) if inside else {}
    else:
        jitter = params["jitter"]
        low = params["local_crop_low"]
        scales = AugmentationScales(
            global_crops_scale=(params["global_crop_low"], 1.0),
            local_crops_scale=(low, min(1.0, low + params["local_crop_width"])),
            brightness=jitter,
            contrast=jitter,
            saturation=jitter / 2,
            hue=jitter / 4,
        )
    return _record(rng, number, control, scales, params)


def _record(
    rng: np.random.Generator, number: int, control: str | None, scales: AugmentationScales, params: dict[str, float]
) -> dict[str, Any]:
    quality = quality_of(scales) + rng.normal(0, 0.03)
    state, reason, reached = "COMPLETE", None, len(STEPS)
    if control is None and quality < 1.2 and number > 8 and number % 7 != 0:
        state, reached = "PRUNED", int(rng.integers(1, 3))
    if number in (11, 26):
        state, reached, reason = "FAIL", 0, "loss is nan at step 12 (lr 5.0e-04, teacher_temp 0.04); no checkpoint yet"
    if number == 17:
        quality = 0.05
    health = {"verdict": "healthy", "evidence": []}
    if number == 17 and state == "COMPLETE":
        health = {"verdict": "collapsed", "evidence": ["effective rank 1.2 is below 2"]}
    rungs = [rung(rng, quality, step) for step in STEPS[:reached]]
    done = state == "COMPLETE"
    return {
        "number": number,
        "state": state,
        "control": control,
        "scales": scales.model_dump(mode="json"),
        "params": params,
        "seed": 0,
        "rungs": rungs,
        "final": panel(rng, rungs[-1]["score"], health) if done else None,
        "health": health if reached else None,
        "reason": reason,
        "pruned_at": rungs[-1]["step"] if state == "PRUNED" else None,
        "seconds": round(20 + 60 * reached + rng.uniform(0, 9), 1),
        "images_per_second": 88.0,
        "seconds_by_part": {"views": 4.0, "forward": 9.0},
        "loss_history": losses(rng, STEPS[reached - 1] if reached else 10, quality),
        "attempts": 1,
        "started": "2025-11-24T03:22:00+00:00",
        "finished": "2025-11-24T03:25:00+00:00",
    }


def quality_of(scales: AugmentationScales) -> float:
    """A made-up truth with its best at mid-strength crops and strong jitter."""
    crop, jitter = scales.global_crops_scale[0], scales.brightness
    return 0.55 + 1.0 * math.exp(-(((jitter - 0.5) / 0.35) ** 2)) * math.exp(-(((crop - 0.4) / 0.5) ** 2))


def rung(rng: np.random.Generator, quality: float, step: int) -> dict[str, Any]:
    score = quality * (0.62 + 0.38 * step / STEPS[-1]) + rng.normal(0, 0.015)
    return {
        "step": step,
        "fraction": step / STEPS[-1],
        "score": score,
        "levels": {name: factor * score for name, factor in LEVELS.items()},
        "effective_rank": 40 + 10 * score,
        "information": 0.3 + 0.5 * score * step / STEPS[-1],
        "loss": 6.9 - quality * step / 150,
    }


def losses(rng: np.random.Generator, steps: int, quality: float) -> list[list[float]]:
    return [[s, 6.93 - quality * 1.4 * s / STEPS[-1] + float(rng.normal(0, 0.06))] for s in range(10, steps + 1, 10)]


def panel(rng: np.random.Generator, score: float, health: dict[str, Any]) -> dict[str, Any]:
    return {
        "score": score,
        "score_name": "dprime",
        "interval": [score - 0.08, score + 0.08],
        "levels": {name: level(rng, factor * score) for name, factor in LEVELS.items()},
        "effective_rank": 40 + 10 * score,
        "feature_sd": 0.05,
        "information": 0.3 + 0.5 * score,
        "health": health,
        "bootstrap_scores": [score + float(x) for x in rng.normal(0, 0.04, 20)],
        "num_images": 256,
        "num_views": 2,
    }


def level(rng: np.random.Generator, dprime: float) -> dict[str, Any]:
    negative, positive = rng.normal(1.25, 0.2, 20_000), rng.normal(1.25 - 0.2 * dprime, 0.2, 256)
    positive_histogram, negative_histogram = (np.histogram(x, EDGES)[0].tolist() for x in (positive, negative))
    return {
        "dprime": dprime,
        "dprime_interval": [dprime - 0.1, dprime + 0.1],
        "pair_auroc": 0.5 + 0.2 * min(dprime, 2) / 2,
        "pair_auroc_interval": None,
        "positive_mean": float(positive.mean()),
        "positive_sd": 0.2,
        "negative_mean": float(negative.mean()),
        "negative_sd": 0.2,
        "raw_positive_mean": 14.0,
        "raw_negative_mean": 20.0,
        "retrieval_error": 0.8,
        "margin": -0.1,
        "positive_histogram": positive_histogram,
        "negative_histogram": negative_histogram,
        "histogram_edges": EDGES.tolist(),
    }


def confirm(rng: np.random.Generator, folder: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Writes the confirmation runs of the best two and of weak and strong; returns the contenders."""
    usable = [r for r in records if r["state"] == "COMPLETE" and r["health"]["verdict"] == "healthy"]
    order = sorted(usable, key=lambda r: -r["final"]["score"])
    chosen = [r for r in order if r["control"] is None][:2] + [r for r in records if r["control"] in ("weak", "strong")]
    shared = rng.normal(0, 0.03, 3)
    contenders = []
    for record in chosen:
        name = record["control"] or f"trial {record['number']}"
        truth = quality_of(AugmentationScales.model_validate(record["scales"]))
        scores = [truth + float(s) + float(rng.normal(0, 0.02)) for s in shared]
        for index, score in enumerate(scores):
            fields = {"name": name, "kind": "candidate", "seed_index": index, "control": None, "params": {}}
            rungs = [rung(rng, score, step) for step in STEPS]
            final = panel(rng, score, record["health"])
            path = folder / "confirm" / f"trial-{record['number']:04d}-seed{index}" / "trial.json"
            put(path, record | fields | {"seed": 1000 + index, "rungs": rungs, "final": final})
        contenders.append(contender(record, name, scores))
    put(folder / "confirm" / "plan.json", {"trials": len(records), "contenders": []})
    best = max(contenders, key=lambda c: c["confirm_mean"])
    contenders += [contender(r, r["control"], []) for r in records if r["control"] in ("none", "weak+med")]
    for entry in contenders:
        if entry["kind"] == "candidate":
            entry["kind"] = "best" if entry is best else "runner-up"
        if entry is not best and entry["confirm_scores"]:
            pairs = zip(entry["confirm_scores"], best["confirm_scores"], strict=True)
            differences = [a - b for a, b in pairs]
            mean, half = float(np.mean(differences)), 4.3 * float(np.std(differences, ddof=1)) / 3**0.5
            clear = not mean - half <= 0 <= mean + half
            interval = [mean - half, mean + half]
            entry["versus_best"] = {"difference": mean, "interval": interval, "distinguishable": clear}
    return contenders


def contender(record: dict[str, Any], name: str, scores: list[float]) -> dict[str, Any]:
    mean, half = (float(np.mean(scores)), 4.3 * float(np.std(scores, ddof=1)) / 3**0.5) if scores else (None, None)
    return {
        "name": name,
        "kind": "control" if record["control"] else "candidate",
        "number": record["number"],
        "state": "COMPLETE",
        "usable": True,
        "scales": record["scales"],
        "description": describe(AugmentationScales.model_validate(record["scales"])),
        "search_score": record["final"]["score"],
        "search_interval": record["final"]["interval"],
        "health": record["health"],
        "confirm_scores": scores,
        "confirm_missing": 0,
        "confirm_mean": mean,
        "confirm_interval": [mean - half, mean + half] if scores else None,
        "versus_best": None,
    }


def answer_of(records: list[dict[str, Any]], contenders: list[dict[str, Any]]) -> dict[str, Any]:
    best = next(c for c in contenders if c["kind"] == "best")
    states = [r["state"] for r in records]
    return {
        "study": "default",
        "finished": "2025-11-24T05:02:11+00:00",
        "versions": {"python": "3.12.3", "augscale": "0.1.0", "torch": "2.15.0", "optuna": "5.0.0"},
        "device": "cpu (2 workers, 1 thread each)",
        "data": manifest()["data"],
        "backbone": {"name": "resnet10t", "overrides": {"base_width": 32}, "init": "none", "parameters": 1_204_032},
        "steps": 300,
        "batch_size": 64,
        "score_name": "dprime",
        "best": best["name"],
        "headline": headline(best["name"], contenders),
        "sentences": [],
        "caveats": [
            "The score is label-free: it says how far positive and negative pairs of a fixed panel lie apart, not how "
            "accurate a fine-tuned model will be. Check it on labels before you spend weeks of GPU time.",
            "Each trial saw 19,200 images (300 steps of 64) at 64 px with resnet10t (changed: base_width 32); a full "
            "pre-training may rank scales otherwise.",
            "Intervals rest on 3 fresh seeds and the images of one panel, by which the candidates were chosen, too.",
        ],
        "contenders": contenders,
        "untrained": versus_untrained(best["confirm_mean"]),
        "importance": {"jitter": 0.58, "global_crop_low": 0.27, "local_crop_low": 0.11, "local_crop_width": 0.04},
        "importance_by_chance": 0.81,
        "counts": {state: states.count(state) for state in dict.fromkeys(states)},
        "seconds": {"total": 5993.0, "search": 4800.0, "confirm": 1193.0},
    }


def versus_untrained(score: float, half: float = 0.2) -> dict[str, Any]:
    difference = score - UNTRAINED_SCORE
    interval = [difference - half, difference + half]
    return {"score": UNTRAINED_SCORE, "difference": difference, "interval": interval, "beaten": interval[0] > 0}


def headline(best: str, contenders: list[dict[str, Any]]) -> str:
    compared = {c["name"]: c["versus_best"]["distinguishable"] for c in contenders if c["versus_best"]}
    better, level_with = ([n for n, clear in compared.items() if clear == wanted] for wanted in (True, False))
    tail = f", and are not distinguishable from {' and '.join(level_with)}" if level_with else ""
    return f"The scales of {best} keep pairs apart better than {' and '.join(better) or 'nothing'}{tail}."


def manifest() -> dict[str, Any]:
    return {
        "created": "2025-11-24T03:22:00+00:00",
        "device": "cpu (2 workers, 1 thread each)",
        "parameters": 1_204_032,
        "versions": {"augscale": "0.1.0", "torch": "2.15.0"},
        "data": {
            "sources": ["synthetic"],
            "fingerprint": "9f2c4a7b11d0c3e85a6f",
            "num_images": 1200,
            "num_train": 944,
            "num_panel": 256,
            "ranges": [
                {"source": "eyes", "kind": "DICOM CT", "low": -1024.0, "high": 3071.0, "files": 40, "given": False}
            ],
            "num_bad": 2,
            "bad": [
                {"path": "eyes/left <003>.png", "reason": "truncated after 1,204 bytes"},
                {"path": "eyes/notes.txt", "reason": "not an image"},
            ],
        },
    }


STUDY = """name = "default"
description = "built-in photographs"

[data]
sources = ["synthetic"]

[backbone]
name = "resnet10t"
init = "none"

[pretrain]
steps = 300
batch_size = 64
out_dim = 1024

[probe]
score = "dprime"
min_information = 0.1
levels = ["strong@0.25", "strong@0.5", "strong"]

[search]
trials = 40
"""
