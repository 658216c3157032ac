"""States how far a label-free score can be trusted, from this project's studies of scores against accuracy on labels.

`python -m benchmarks.evidence tables --trust` writes `trust.json` from a study's CSVs (docs/evidence), so users are
told what was measured. The file has a row for every regime: how the runs of a study began, with which network, how long
they were. A user is told of the regime that is nearest to the own run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from augscale import doc_pages
from augscale.config import ProbeConfig, StudyConfig
from augscale.pretrain_config import METHOD_NAMES
from augscale.records.metrics import score_label
from augscale.settings import joined

_ENOUGH = 0.5
"""Rank correlation from which a score counts as useful for choosing scales, as in the study."""
_COMPARABLE = ("common", "weights")
"""Batch norm statistics with which a difference between networks is one of weights."""
_PICKED = {"alpha_req": "It was picked out of 28 scores on the same scales, as they were measured before 2026-11-27. "}
"""Remark on a score that was selected on the results of the study from random weights, which are therefore optimistic;
ends with a space."""
_FREE = "without_labels"
"""Key of a regime's rank correlations of pair AUROC, beside those of a score from labels."""

_LADDER = ProbeConfig().levels

Row = dict[str, Any]


@cache
def measured_regimes() -> tuple[Row, ...]:
    """The rows of `trust.json`.

    Each has init ("none", "imagenet" or "weights": a file), method, network, images (number that a run saw) and
    size (of a global view, pixels); runs, scales, setting, statistics, gain of pre-training, Spearman correlations
    by score and dataset (spearman: of the default panel; panels: of others, by their levels); labels: None, or what
    a score from a few labels reached (images; spearman and, of pair AUROC, without_labels, by dataset).
    """
    content: Row = json.loads(files("augscale.searching").joinpath("trust.json").read_text("utf-8"))
    return tuple(content["regimes"])


def regime_of(config: StudyConfig) -> Row:
    """init, method, network, images and size of a study's runs, as in `trust.json`."""
    init, recipe = config.backbone.init, config.pretrain
    return {
        "init": init if init in ("none", "imagenet") else "weights",
        "method": recipe.method,
        "network": config.backbone.name,
        "images": recipe.steps * recipe.batch_size,
        "size": config.crops.global_size,
    }


def nearest_regime(config: StudyConfig, among: Sequence[Row] | None = None) -> Row | None:
    """The measured regime that is nearest to a study's runs, `among` some or all; None if there is none.

    Random weights are never near pre-trained ones if there is a choice; then the method counts, the network, its family
    (letters that its name begins with), and the ratio of the numbers of images.
    """
    own = regime_of(config)

    def distance(row: Row) -> tuple[bool, bool, bool, bool, float]:
        families = [re.match(r"[a-z]*", str(name))[0] for name in (row["network"], own["network"])]  # type: ignore[index]
        return (
            (row["init"] == "none") != (own["init"] == "none"),
            row["method"] != own["method"],
            row["network"] != own["network"],
            families[0] != families[1],
            abs(math.log(row["images"] / own["images"])),
        )

    return min(measured_regimes() if among is None else among, key=distance, default=None)


def trust_line(config: StudyConfig) -> str | None:
    """What the nearest regime says of the study's score, in one line; None where nothing was measured.

    Correlations are those of the score's rank with the AUROC of ridge regression: the lowest and the highest of the
    datasets. The end of the search has them all, with intervals (`trust_statement`).
    """
    row = nearest_regime(config)
    measured = _measured(row, config)
    if row is None or not measured or row.get("statistics") not in _COMPARABLE or config.probe.uses_labels:
        return None
    values = sorted(found["value"] for found in measured.values())
    between = f"{values[0]:+.2f}" + (f" to {values[-1]:+.2f}" if len(values) > 1 else "")
    differs = [
        word
        for word, same in (
            ("start", (row["init"] == "none") == (config.backbone.init == "none")),
            ("method", row["method"] == config.pretrain.method),
            ("network", row["network"] == config.backbone.name),
        )
        if not same
    ]
    yours = f"; your {joined(differs)} {'differs' if len(differs) == 1 else 'differ'}" if differs else ""
    return (
        f"rank correlation of {score_label(config.probe.score)}{_panel(config)} with ridge AUROC: {between}, "
        f"{_chance(measured)} "
        f"({doc_pages.EVIDENCE}; {METHOD_NAMES[row['method']]} from {_start_words(row)}, {row['network']}, "
        f"{row['images']:,} images{yours})"
    )


def labels_line(config: StudyConfig) -> str | None:
    """One line on `--labels` for trials that begin with pre-trained weights and are scored without labels; else None.

    What labels gain is said if it was measured from pre-trained weights, with the method if it was another one. Where
    labels ranked scales no better than pair AUROC did, nothing is said, also to runs by other methods.
    """
    if config.probe.uses_labels or config.backbone.init == "none":
        return None
    hint = "with labels at hand, --labels DIR scores trials by how well classes are told apart"
    measured = [row for row in measured_regimes() if row["init"] != "none" and (row.get("labels") or {}).get(_FREE)]
    row = nearest_regime(config, measured)
    if row is None:
        return hint
    known = row["labels"]
    labels, free = (sum(known[name].values()) / len(known[name]) for name in ("spearman", _FREE))
    if labels <= free:
        return None
    unlike = _unlike(row, config)
    other = f"; {joined(unlike)}, unlike yours" if unlike else ""
    return (
        f"{hint}: from {known['images']} labelled images scales were ranked at {labels:+.2f} (mean rank correlation), "
        f"by pair AUROC at {free:+.2f} ({doc_pages.EVIDENCE}{other})"
    )


def trust_statement(config: StudyConfig) -> str | None:
    """The result of the nearest regime for a study's score, in a few sentences; None where it was not measured."""
    known, score = nearest_regime(config), config.probe.score
    measured = _measured(known, config)
    if known is None or not measured:
        return None
    label = score_label(score)
    if known.get("statistics") not in _COMPARABLE:
        return (
            f"How far {label} can be trusted is being measured again: the study ({doc_pages.EVIDENCE}) compared "
            "networks with the batch norm statistics of their own training views, so its correlations are not repeated "
            "here. "
            "`augscale validate RUN --datasets DIR` measures it on your labels."
        )
    shown = [name for name, values in measured.items() if values["interval"][0] > 0]
    useful = _useful(measured)
    if len(useful) >= 2:
        verdict = f"It ranked scales usefully on {' and '.join(useful)}"
    elif shown:
        verdict = f"Better than chance was shown on {' and '.join(shown)} only"
    else:
        verdict = "Better than chance was not shown on any"
    if against := [name for name, values in measured.items() if values["interval"][1] < 0]:
        verdict += f", and it ranked them against accuracy on {' and '.join(against)}"
    return (
        f"How far {label}{_panel(config)} can be trusted: over {known['runs']} short runs at {known['scales']} scales "
        f"on real photographs ({known['setting']}; {doc_pages.EVIDENCE}) its rank agreed with the AUROC of ridge "
        "regression at "
        f"Spearman {_by_dataset(measured)}. {verdict}. {_gain(known.get('gain'))}{_unlike_sentence(known, config)}"
        f"{_picked(score, known)}"
        f"{_better(score, known) if len(useful) < 2 and config.probe.levels == _LADDER else ''}"
        "`augscale validate RUN --datasets DIR` measures it on your labels."
    )


def _measured(row: Row | None, config: StudyConfig) -> dict[str, Any] | None:
    """Correlations of the study's score in a regime, by dataset; None where they were not measured on such a panel."""
    if row is None:
        return None
    probe = config.probe
    by_score = row["spearman"] if probe.levels == _LADDER else row.get("panels", {}).get(",".join(probe.levels), {})
    found: dict[str, Any] | None = by_score.get(probe.score)
    return found


def _panel(config: StudyConfig) -> str:
    """ " on crops@0.5, crops": the panel's levels where they are not the default ones; else ""."""
    return "" if config.probe.levels == _LADDER else f" on {', '.join(config.probe.levels)}"


def _chance(measured: dict[str, Any]) -> str:
    """On how many datasets the score ranks better than chance, and on how many worse, in words."""
    better, worse = (
        sum(sign * values["interval"][edge] > 0 for values in measured.values()) for sign, edge in ((1, 0), (-1, 1))
    )
    words = "better than chance" if better else "not better than chance"
    if len(measured) > 1:
        words += f" on {better} of {len(measured)} sets" if better else f" on any of {len(measured)} sets"
    return f"{words}, against accuracy on {worse}" if worse else words


def _start_words(row: Row) -> str:
    return {"none": "random weights", "imagenet": "ImageNet weights"}.get(row["init"], "weights from a file")


def _unlike(row: Row, config: StudyConfig) -> list[str]:
    """Start and method of the study's runs where they are not those of the user's."""
    found = [] if (row["init"] == "none") == (config.backbone.init == "none") else [_start_words(row)]
    return found if row["method"] == config.pretrain.method else [*found, METHOD_NAMES[row["method"]]]


def _unlike_sentence(row: Row, config: StudyConfig) -> str:
    """Sentence for runs of another start or method than the study's, ending with a space; else ""."""
    unlike = _unlike(row, config)
    if not unlike:
        return ""
    return f"Those runs had {joined(unlike)}, unlike yours, so this says little about your trials. "


def _picked(score: str, row: Row) -> str:
    return _PICKED.get(score, "") if row["init"] == "none" else ""


def _gain(gain: dict[str, Any] | None) -> str:
    """Sentence on the gain of pre-training in the study, which limits how much scales can differ; ends with a space."""
    if gain is None or gain["interval"] is None:
        return ""
    low, high = gain["interval"]
    return (
        f"Pre-training itself moved that AUROC by {gain['value']:+.3f} [{low:+.3f}, {high:+.3f}] over the network "
        "before it (mean of the controls and of the datasets). "
    )


def _better(score: str, row: Row) -> str:
    """Sentence on another score that was useful, with its values on all datasets, ending with a space; else ""."""
    for other, measured in row["spearman"].items():
        useful = _useful(measured)
        if other != score and len(useful) >= 2:
            return f"`--set probe.score={other}` reached {_by_dataset(measured)}. {_picked(other, row)}"
    return ""


def _useful(measured: dict[str, Any]) -> list[str]:
    """Datasets on which a score's rank correlation is at least `_ENOUGH` and better than chance."""
    return [name for name, values in measured.items() if values["value"] >= _ENOUGH and values["interval"][0] > 0]


def _by_dataset(measured: dict[str, Any]) -> str:
    return ", ".join(f"{_figures(values)} on {name}" for name, values in measured.items())


def _figures(values: dict[str, Any]) -> str:
    low, high = values["interval"]
    return f"{values['value']:+.2f} [{low:+.2f}, {high:+.2f}]"
