"""The words of a search's answer: headline, differences and caveats that do not overclaim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from augscale.config import StudyConfig
from augscale.runs.files import read_json
from augscale.runs.folders import RunFolder
from augscale.searching.trust import trust_statement

_SEPARATES = "keep pairs apart"
_DOES = {"alpha_req": "use the directions of the embedding"}
"""What the best scales do better, by score, where it is not the separation of pairs."""
_SAYS_SEPARATION = "how far positive and negative pairs of a fixed panel lie apart"
_SAYS = {"alpha_req": "how evenly the embeddings of a fixed panel use their directions"}


def headline(
    best: dict[str, Any] | None,
    contenders: list[dict[str, Any]],
    untrained: dict[str, Any] | None,
    labelled: Sequence[str],
    score: str,
) -> str:
    """The answer in one sentence; `labelled`: names of the datasets that the score, `probe.score`, read labels of."""
    if best is None:
        return "No trial completed without collapsing, so there is no answer."
    do = f"tell the classes of {_list(labelled)} apart (labels were used)" if labelled else _DOES.get(score, _SEPARATES)
    if untrained and not untrained["beaten"]:
        return (
            f"No answer: even {best['name']}, the best, does not {do} better than the network before "
            "training, so these trials are too short to rank scales."
        )
    controls = [c for c in contenders if c["kind"] == "control" and c is not best and c["versus_best"]]
    clear = [c for c in controls if c["versus_best"]["distinguishable"]]
    better = [c["name"] for c in clear if c["versus_best"]["difference"] < 0]
    # Only one of which a confirmation run is missing: the best is chosen among those that have all.
    ahead = [c["name"] for c in clear if c["versus_best"]["difference"] > 0]
    level = [c["name"] for c in controls if not c["versus_best"]["distinguishable"]]
    preset = best["kind"] == "control"
    name = f"The preset {best['name']}" if preset else f"The scales of {best['name']}"
    verb, _, rest = do.partition(" ")
    do, scores, are = (f"{verb}s {rest}", "scores", "is") if preset else (do, "score", "are")
    if ahead:
        its = "it has" if len(ahead) == 1 else "they have"
        return (
            f"{name} {scores} highest of those that were confirmed in full, but {_list(ahead)} did better on the "
            f"fresh seeds that {its}."
        )
    if better and level:
        return f"{name} {do} better than {_list(better)}, and {are} not distinguishable from {_list(level)}."
    if better:
        return f"{name} {do} better than {_list(better)}."
    if level:
        return f"{name} {scores} highest, but {are} not distinguishable from {_list(level)}."
    return f"{name} {scores} highest in the search; nothing was confirmed on fresh seeds."


def sentences(
    best: dict[str, Any] | None,
    contenders: list[dict[str, Any]],
    config: StudyConfig,
    untrained: dict[str, Any] | None,
) -> list[str]:
    """The best scales, and every difference to them with its interval."""
    if best is None:
        return []
    sentences = [f"{best['name']}: {' '.join(best['description'].split())}."]
    if untrained:
        edges = untrained["interval"]
        between = f" (95 % interval {edges[0]:+.3f} to {edges[1]:+.3f})" if edges else ""
        difference = f"{untrained['difference']:+.3f} {config.probe.score}"
        sentences.append(f"{best['name']} minus the network before training: {difference}{between}.")
    for contender in contenders:
        versus = contender["versus_best"]
        if versus is None:
            continue
        low, high = (-versus["interval"][1], -versus["interval"][0])
        verdict = "distinguishable" if versus["distinguishable"] else "not distinguishable"
        sentences.append(
            f"{best['name']} minus {contender['name']}: {-versus['difference']:+.3f} {config.probe.score} "
            f"(95 % interval {low:+.3f} to {high:+.3f}, {len(contender['confirm_scores'])} fresh seeds): {verdict}."
        )
    return sentences


def caveats(
    config: StudyConfig, best: dict[str, Any] | None, contenders: list[dict[str, Any]], labelled: Sequence[str]
) -> list[str]:
    """What limits the answer, the score's trustworthiness first."""
    steps, batch = config.pretrain.steps, config.pretrain.batch_size
    caveats = [
        f"The score used labels: nearest neighbours among the train images of {_list(labelled)} "
        "classified the val images. Test images were not read, but the scales were chosen with these labels, and other "
        "datasets may rank them otherwise."
        if labelled
        else f"The score is label-free: it says {_SAYS.get(config.probe.score, _SAYS_SEPARATION)}, not how accurate a "
        "fine-tuned model will be. Check it on labels before you spend weeks of GPU time.",
        f"Each trial saw {steps * batch:,} images ({steps} steps of {batch}) at {config.crops.global_size} px with "
        f"{config.backbone.name}{' (changed: ' + _overrides(config) + ')' if config.backbone.overrides else ''}; "
        "a full pre-training may rank scales otherwise.",
    ]
    trust = None if labelled else trust_statement(config.probe.score)
    if trust is not None:
        caveats.insert(1, trust)
    if config.backbone.init == "none":
        caveats.append("Trials started from random weights; with pre-trained weights the ranking can differ.")
    if not any(c["confirm_scores"] for c in contenders):
        caveats.append("Nothing was confirmed on fresh seeds: the best of many noisy scores is partly luck.")
    elif best:
        caveats.append(
            f"Intervals rest on {len(best['confirm_scores'])} fresh seeds and the images of one panel, by which the "
            "candidates were chosen, too."
        )
    for contender in contenders:
        if contender["confirm_missing"]:
            caveats.append(
                f"{contender['name']}: {contender['confirm_missing']} confirmation runs failed or collapsed."
            )
    if best and best["health"] and best["health"]["verdict"] == "suspicious":
        caveats.append(f"{best['name']} looks suspicious: {'; '.join(best['health']['evidence'])}.")
    return caveats


def micro_batch_caveats(run: RunFolder) -> list[str]:
    """Trials and confirmation runs whose batch norm saw parts of other sizes."""
    files = [*run.path.glob("trials/*/trial.json"), *run.confirm_dir.glob("*/trial.json")]
    records = [read_json(path) or {} for path in files]
    cuts = [record["micro_batches"] for record in records if record.get("micro_batches")]
    sizes = {cut["size"] for cut in cuts}
    if not any(cut["note"] for cut in cuts) or (len(sizes) == 1 and all(_constant(cut) for cut in cuts)):
        return []
    return [
        "Memory was short, and trials were worked on in different micro-batches "
        f"({', '.join(map(str, sorted(sizes)))} images; micro_batches in trial.json says which and from which step "
        "on). Batch norm sees its micro-batch alone, so their scores are not strictly comparable; --max-memory, or a "
        "smaller pretrain.batch_size, gives all the same."
    ]


def _constant(cut: dict[str, Any]) -> bool:
    """Whether a run was in the same micro-batches from its first step on."""
    return all(change["step"] == 1 for change in cut["changes"])


def _overrides(config: StudyConfig) -> str:
    return ", ".join(f"{name} {value}" for name, value in config.backbone.overrides.items())


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
