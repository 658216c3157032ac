"""What a search found: contenders compared on fresh seeds, and the files that say so; words are in `answer_words`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from scipy import stats

from augscale.augmentation.scales import AugmentationScales, describe
from augscale.config import StudyConfig
from augscale.runs import RunFolder, now, read_json, versions, write_json, write_text_atomic
from augscale.searching.answer_words import caveats, headline, micro_batch_caveats, sentences
from augscale.searching.confirm import ConfirmationRun, plan_confirmation, trial_name
from augscale.searching.study import is_feasible, ranked, trial_scales, trials_started

CONFIDENCE = 0.95


def seed_interval(scores: Sequence[float]) -> tuple[float, float] | None:
    """Student-t interval of the mean over seeds (95 %), or None for fewer than two seeds."""
    if len(scores) < 2:
        return None
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(scores) - 1) * stats.sem(scores)
    mean = float(np.mean(scores))
    return mean - float(half), mean + float(half)


def paired_difference(
    scores: Sequence[float],
    other_scores: Sequence[float],
    replicates: np.ndarray | None = None,
    other_replicates: np.ndarray | None = None,
) -> dict[str, Any]:
    """Difference of two contenders that ran on the same seeds and were scored on the same panel.

    The interval counts both sources of chance: pre-training seeds (variance of the paired differences over seeds)
    and the panel's images (bootstrap replicates with the same image weights for both contenders), added as
    independent, with the t quantile of the seeds.

    Args:
        scores, other_scores: one score per seed, same order; at least two.
        replicates, other_replicates: shape (seeds, B), aligned bootstrap scores; None leaves the images out.
    Returns:
        `difference` (scores minus other_scores, mean), `interval` (95 %), `distinguishable` (interval excludes 0).
    """
    differences = np.asarray(scores, float) - np.asarray(other_scores, float)
    variance = float(np.var(differences, ddof=1)) / len(differences)
    if replicates is not None and other_replicates is not None:
        variance += float(np.var(replicates.mean(axis=0) - other_replicates.mean(axis=0), ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * math.sqrt(variance)
    mean = float(differences.mean())
    interval = [mean - half, mean + half]
    return {"difference": mean, "interval": interval, "distinguishable": not interval[0] <= 0 <= interval[1]}


def write_answer(run: RunFolder, config: StudyConfig, study: optuna.Study, seconds: dict[str, float]) -> dict[str, Any]:
    """Compares the contenders and writes `answer.json`, `best.toml` and `trials.csv`.

    Returns:
        The answer; `best` is None when no trial completed without collapsing.
    """
    runs = plan_confirmation(run, config, study) if config.confirm.seeds else []
    contenders = _contenders(run, config, study, runs)
    best = _best(contenders)
    _compare(contenders, best)
    untrained = _versus_untrained(best, read_json(run.untrained_file))
    manifest = read_json(run.manifest_file)
    labelled = [dataset["name"] for dataset in manifest.get("labelled") or ()]
    counts: dict[str, int] = {}
    for trial in trials_started(study):
        counts[trial.state.name] = counts.get(trial.state.name, 0) + 1
    answer = {
        "study": config.name,
        "finished": now(),
        "versions": versions(),
        "device": manifest["device"],
        "data": manifest["data"],
        "backbone": config.backbone.model_dump() | {"parameters": manifest.get("parameters")},
        "steps": config.pretrain.steps,
        "batch_size": config.pretrain.batch_size,
        "score_name": config.probe.score,
        "labels_used": manifest.get("labelled") or [],
        "best": best["name"] if best else None,
        "headline": headline(best, contenders, untrained, labelled, config.probe.score),
        "sentences": sentences(best, contenders, config, untrained),
        "untrained": untrained,
        "caveats": caveats(config, best, contenders, labelled) + micro_batch_caveats(run),
        "contenders": [{k: v for k, v in c.items() if not k.startswith("_")} for c in contenders],
        "importance": _importance(study),
        "counts": counts,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    write_json(run.answer_file, answer)
    write_trials_table(run, config, study)
    if best:
        write_text_atomic(run.best_card, _card(config, answer, best))
    return answer


def write_trials_table(run: RunFolder, config: StudyConfig, study: optuna.Study) -> None:
    """Writes `trials.csv`: a row per started trial, states in Optuna's words."""
    head = ["number", "state", "score", "control", "feasible", "steps", "effective_rank", "information", "loss"]
    head += ["seconds", "starts", "reason", *AugmentationScales.model_fields]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    for trial in trials_started(study):
        record = read_json(run.trial_dir(trial.number) / "trial.json") or {}
        last = record["rungs"][-1] if record.get("rungs") else {}
        row: dict[str, Any] = {
            "number": trial.number,
            "state": trial.state.name,
            "score": last.get("score", trial.value),
            "control": trial.user_attrs.get("control", ""),
            "feasible": is_feasible(trial) if trial.state.is_finished() else "",
            "steps": last.get("step"),
            "seconds": record.get("seconds"),
            "starts": trial.user_attrs.get("starts", 1),
            "reason": trial.user_attrs.get("reason", ""),
        }
        row |= {key: last.get(key) for key in ("effective_rank", "information", "loss")}
        scales = trial_scales(config, trial).model_dump()
        row |= {name: " ".join(map(str, v)) if isinstance(v, (tuple, list)) else v for name, v in scales.items()}
        writer.writerow(row)
    write_text_atomic(run.trials_table, text.getvalue())


def _contenders(
    run: RunFolder, config: StudyConfig, study: optuna.Study, runs: list[ConfirmationRun]
) -> list[dict[str, Any]]:
    confirmed = {c.number: [r for r in runs if r.number == c.number] for c in runs}
    order = ranked(study)
    numbers = list(confirmed) or [t.number for t in order[: max(1, config.confirm.top_k)]]
    controls = [t.number for t in trials_started(study) if t.user_attrs.get("control")]
    by_number = {trial.number: trial for trial in trials_started(study)}
    usable = {trial.number for trial in order}
    contenders = []
    for number in [*numbers, *(n for n in controls if n not in numbers)]:
        trial = by_number[number]
        record = read_json(run.trial_dir(number) / "trial.json") or {}
        final = record.get("final") or {}
        scales = trial_scales(config, trial)
        entry: dict[str, Any] = {
            "name": trial_name(trial),
            "kind": "control" if trial.user_attrs.get("control") else "candidate",
            "number": number,
            "state": trial.state.name,
            "usable": number in usable,
            "scales": scales.model_dump(),
            "description": describe(scales),
            "search_score": final.get("score", trial.value),
            "search_interval": final.get("interval"),
            "health": record.get("health"),
            "_search_replicates": final.get("bootstrap_scores") or None,
        }
        contenders.append(entry | _confirmation(confirmed.get(number, [])))
    return contenders


def _confirmation(runs: list[ConfirmationRun]) -> dict[str, Any]:
    """Scores on fresh seeds; a failed or collapsed run counts as missing and is said so."""
    scores: dict[int, float] = {}
    replicates: dict[int, list[float]] = {}
    for confirmation in runs:
        record = read_json(confirmation.directory / "trial.json") or {}
        final = record.get("final")
        if record.get("state") == "COMPLETE" and final and final["health"]["verdict"] != "collapsed":
            scores[confirmation.seed_index] = final["score"]
            if final["bootstrap_scores"]:
                replicates[confirmation.seed_index] = final["bootstrap_scores"]
    values = list(scores.values())
    return {
        "confirm_scores": values,
        "confirm_missing": len(runs) - len(values),
        "confirm_mean": float(np.mean(values)) if values else None,
        "confirm_interval": seed_interval(values),
        "_scores": scores,
        "_replicates": replicates,
    }


def _best(contenders: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The best mean on fresh seeds; without confirmation the best score of the search."""
    confirmed = [c for c in contenders if c["usable"] and c["confirm_scores"] and not c["confirm_missing"]]
    if confirmed:
        best = max(confirmed, key=lambda c: c["confirm_mean"])
    else:
        usable = [c for c in contenders if c["usable"] and c["search_score"] is not None]
        if not usable:
            return None
        best = max(usable, key=lambda c: c["search_score"])
    for contender in contenders:
        if contender["kind"] == "candidate":
            contender["kind"] = "best" if contender is best else "runner-up"
    return best


def _compare(contenders: list[dict[str, Any]], best: dict[str, Any] | None) -> None:
    for contender in contenders:
        contender["versus_best"] = None
        if best is None or contender is best:
            continue
        seeds = sorted(set(best["_scores"]) & set(contender["_scores"]))
        if len(seeds) < 2:
            continue
        mine, its = contender["_replicates"], best["_replicates"]
        with_images = all(seed in mine and seed in its for seed in seeds)
        contender["versus_best"] = paired_difference(
            [contender["_scores"][s] for s in seeds],
            [best["_scores"][s] for s in seeds],
            np.array([mine[s] for s in seeds]) if with_images else None,
            np.array([its[s] for s in seeds]) if with_images else None,
        )


def _versus_untrained(best: dict[str, Any] | None, untrained: dict[str, Any] | None) -> dict[str, Any] | None:
    """Best minus the same network before training, on the same panel, with the bootstrap interval over images."""
    if best is None or untrained is None:
        return None
    if best["confirm_scores"]:
        score, replicates = best["confirm_mean"], list(best["_replicates"].values())
        starts = [untrained["confirm"][index] for index in sorted(best["_scores"])]
    else:
        score, replicates, starts = best["search_score"], [best["_search_replicates"] or []], [untrained]
    start = float(np.mean([entry["score"] for entry in starts]))
    interval = None
    if all(replicates) and all(entry["bootstrap_scores"] for entry in starts):
        before = np.mean([entry["bootstrap_scores"] for entry in starts], axis=0)
        edges = np.percentile(np.mean(replicates, axis=0) - before, [2.5, 97.5])
        interval = [float(edge) for edge in edges]
    difference = float(score - start)
    beaten = interval[0] > 0 if interval else difference > 0
    return {"score": start, "difference": difference, "interval": interval, "beaten": beaten}


def _importance(study: optuna.Study) -> dict[str, float]:
    """Share of the score's variation that each parameter explains (PED-ANOVA), or nothing with too few trials."""
    complete = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.params]
    if len(complete) < 8:
        return {}
    try:
        values = optuna.importance.get_param_importances(study, params=sorted(complete[-1].params))
    except (ValueError, RuntimeError):
        return {}
    return {name: round(float(value), 4) for name, value in values.items() if math.isfinite(value)}


def _card(config: StudyConfig, answer: dict[str, Any], best: dict[str, Any]) -> str:
    from augscale.augmentation.scales import to_toml

    def text(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    scales = AugmentationScales.model_validate(best["scales"])
    lines = [
        "# Scale card: the best augmentation scales that a search found. Use it as --scales best.toml.",
        "[card]",
        f"study = {text(config.name)}",
        f"trial = {best['number']}",
        f"name = {text(best['name'])}",
        f"headline = {text(answer['headline'])}",
        f"finished = {text(answer['finished'])}",
        f"data_fingerprint = {text(answer['data']['fingerprint'])}",
        f"backbone = {text(config.backbone.name)}",
        f"score_name = {text(config.probe.score)}",
        f"labels_used = [{', '.join(text(name) for name in config.probe.labelled or ())}]",
        f"search_score = {best['search_score']:.6g}",
    ]
    if best["search_interval"]:
        lines.append("search_interval = [{:.6g}, {:.6g}]".format(*best["search_interval"]))
    if best["confirm_scores"]:
        lines.append("confirm_scores = [" + ", ".join(f"{s:.6g}" for s in best["confirm_scores"]) + "]")
    lines += ["", "[card.versions]"]
    lines += [f"{text(name)} = {text(value)}" for name, value in answer["versions"].items()]
    lines += ["", to_toml(scales).strip()]
    return "\n".join(lines) + "\n"
