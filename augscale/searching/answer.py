"""What a search found: contenders compared on fresh seeds, and the files that say so; words are in `answer_words`."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import optuna

from augscale.augmentation.scales import AugmentationScales, describe
from augscale.config import StudyConfig
from augscale.runs.folders import RunFolder, now, read_json, versions, write_json, write_text_atomic
from augscale.searching.answer_words import caveats, headline, micro_batch_caveats, sentences
from augscale.searching.confirm import ConfirmationRun, plan_confirmation, trial_name
from augscale.searching.failures import all_failed, failure_groups, failure_sentence
from augscale.searching.importance import parameter_importance
from augscale.searching.null import not_learned, null_facts, null_runs, null_sentence
from augscale.searching.study import is_feasible, ranked, trial_scales, trials_started
from augscale.statistics.intervals import seed_interval_t
from augscale.statistics.paired_comparisons import differences_to


def write_answer(run: RunFolder, config: StudyConfig, study: optuna.Study, seconds: dict[str, float]) -> dict[str, Any]:
    """Compares the contenders and writes `answer.json`, `best.toml` and `trials.csv`.

    Returns:
        The answer; `best` is None when no trial completed without collapsing.
    """
    runs = plan_confirmation(run, config, study) if config.confirm.seeds else []
    contenders = _contenders(run, config, study, runs)
    best = _best(contenders)
    _compare(contenders, best)
    before = read_json(run.untrained_file)
    null = null_facts(run, config, before)
    untrained = _versus_untrained(best, contenders, before, not_learned(null))
    manifest = read_json(run.manifest_file)
    labelled = [dataset["name"] for dataset in manifest.get("labelled") or ()]
    importance, by_chance = parameter_importance(study)
    counts: dict[str, int] = {}
    trials = trials_started(study)
    for trial in trials:
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
        "headline": f"No answer: {failure_sentence(trials)}."
        if all_failed(trials)
        else headline(best, contenders, untrained, labelled, config.probe.score),
        "sentences": sentences(best, contenders, config, untrained),
        "untrained": untrained,
        "null": null,
        "null_sentence": null_sentence(null, config.probe.score),
        "caveats": caveats(config, best, contenders, labelled)
        + ([] if null and null["still"] else [null_sentence(null, config.probe.score)])
        + micro_batch_caveats(run),
        "contenders": [{k: v for k, v in c.items() if not k.startswith("_")} for c in contenders],
        "importance": importance,
        "importance_by_chance": by_chance,
        "counts": counts,
        "failures": [group.to_dict() for group in failure_groups(trials)],
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    write_json(run.answer_file, answer)
    write_trials_table(run, config, study)
    if best:
        write_text_atomic(run.best_card, _card(config, answer, best))
    return answer


def write_trials_table(run: RunFolder, config: StudyConfig, study: optuna.Study) -> None:
    """Writes `trials.csv`: a row per started trial, states in Optuna's words, and what learning is measured against.

    After the trials come rows without a number: one of every run with learning rate 0 (kind "null"), and one of the
    network that all trials begin with (kind "untrained").
    """
    head = ["number", "kind", "state", "score", "control", "feasible", "steps", "effective_rank", "information", "loss"]
    head += ["seconds", "starts", "reason", *AugmentationScales.model_fields]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    for trial in trials_started(study):
        record = read_json(run.trial_dir(trial.number) / "trial.json") or {}
        last = _last_rung(record)
        row: dict[str, Any] = {
            "number": trial.number,
            "kind": "control" if trial.user_attrs.get("control") else "trial",
            "state": trial.state.name,
            "score": trial.value,
            "control": trial.user_attrs.get("control", ""),
            "feasible": is_feasible(trial) if trial.state.is_finished() else "",
            "seconds": record.get("seconds"),
            "starts": trial.user_attrs.get("starts", 1),
            "reason": trial.user_attrs.get("reason", ""),
        }
        writer.writerow(row | last | _scales_cells(trial_scales(config, trial)))
    for null in null_runs(run, config):
        record = read_json(null.directory / "trial.json") or {}
        row = {"kind": "null", "control": null.name, "state": record.get("state"), "seconds": record.get("seconds")}
        writer.writerow(row | _scales_cells(null.scales) | _last_rung(record))
    before = read_json(run.untrained_file)
    if before is not None:
        facts = {name: before[name] for name in ("score", "effective_rank")}
        writer.writerow({"kind": "untrained", "state": "COMPLETE", "steps": 0} | facts)
    write_text_atomic(run.trials_table, text.getvalue())


def _last_rung(record: dict[str, Any]) -> dict[str, Any]:
    """Cells of the last rung that a trial reached; {} where it reached none."""
    if not record.get("rungs"):
        return {}
    last = record["rungs"][-1]
    return {"steps": last["step"]} | {key: last[key] for key in ("score", "effective_rank", "information", "loss")}


def _scales_cells(scales: AugmentationScales) -> dict[str, Any]:
    cells = scales.model_dump().items()
    return {name: " ".join(map(str, v)) if isinstance(v, (tuple, list)) else v for name, v in cells}


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
        "confirm_interval": seed_interval_t(values),
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
    versus: list[dict[str, Any] | None] = [None] * len(contenders)
    if best is not None:
        scores, replicates = ([c[key] for c in contenders] for key in ("_scores", "_replicates"))
        versus = differences_to(contenders.index(best), scores, replicates)
    for contender, difference in zip(contenders, versus, strict=True):
        contender["versus_best"] = difference


def _versus_untrained(
    best: dict[str, Any] | None,
    contenders: list[dict[str, Any]],
    untrained: dict[str, Any] | None,
    not_learned: float,
) -> dict[str, Any] | None:
    """Best minus the networks before training, on the same panel.

    Seed by seed, each network minus the one that it began with, for most of what networks differ by before training is
    left after it. The interval is that of one more contender: over seeds and images, and wide enough for a best that
    was picked among several. With fewer than two seeds, as in a search that confirms nothing, it is over images only.

    Args:
        not_learned: what the null runs gained without learning; it is taken off the difference.
    """
    if best is None or untrained is None:
        return None
    if best["confirm_scores"]:
        starts, scores, replicates = dict(enumerate(untrained["confirm"])), best["_scores"], best["_replicates"]
    else:
        starts, scores = {0: untrained}, {0: best["search_score"]}
        replicates = {0: best["_search_replicates"] or []}
    shared = sorted({*starts} & {*scores})
    if not shared:
        return None
    before = {seed: starts[seed]["score"] for seed in shared}
    images = {seed: starts[seed]["bootstrap_scores"] or [] for seed in shared}
    difference = float(np.mean([scores[seed] - before[seed] for seed in shared]))
    interval = None
    if len(shared) > 1:
        others = [c for c in contenders if c is not best]
        found = differences_to(
            0,
            [scores, before, *(c["_scores"] for c in others)],
            [replicates, images, *(c["_replicates"] for c in others)],
        )[1]
        assert found is not None
        low, high = found["interval"]
        interval = -high, -low
    elif images[shared[0]] and replicates.get(shared[0]):
        gains = np.subtract(replicates[shared[0]], images[shared[0]])
        low, high = np.percentile(gains, [2.5, 97.5])
        interval = float(low), float(high)
    difference -= not_learned
    if interval is not None:
        interval = interval[0] - not_learned, interval[1] - not_learned
    return {
        "score": float(np.mean([*before.values()])),
        "difference": difference,
        "interval": list(interval) if interval else None,
        "beaten": interval[0] > 0 if interval else difference > 0,
    }


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
