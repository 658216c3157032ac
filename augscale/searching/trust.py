"""States how far a label-free score can be trusted, from this project's study of scores against accuracy on labels.

`python -m benchmarks.evidence tables --trust` writes `trust.json` from the study's CSVs (docs/evidence), so users are
told what was measured.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from augscale import doc_pages

_ENOUGH = 0.5
"""Rank correlation from which a score counts as useful for choosing scales, as in the study."""
_PICKED = {"alpha_req": "It was picked out of 28 scores on the same scales, as they were measured before 2026-11-27. "}
"""Remark on a score that was selected on the study's own results, which are therefore optimistic; ends with a space."""
_OTHER_START = "Those runs began with random weights, unlike yours, so this says little about your trials. "


@cache
def measured_trust() -> dict[str, Any]:
    """The content of `trust.json`: runs, scales, setting, gain of pre-training, Spearman correlations by dataset."""
    content: dict[str, Any] = json.loads(files("augscale.searching").joinpath("trust.json").read_text("utf-8"))
    return content


def trust_statement(score: str, *, pretrained: bool = False) -> str | None:
    """The result of the study for a score, in a few sentences; None for a score that it did not measure.

    Args:
        score: of `probe.score`.
        pretrained: the trials begin with pre-trained weights; the runs of the study did not.
    """
    known = measured_trust()
    measured = known["spearman"].get(score)
    if not measured:
        return None
    if known.get("statistics") != "common":
        return (
            f"How far {score} can be trusted is being measured again: the study ({doc_pages.EVIDENCE}) compared "
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
        f"How far {score} can be trusted: over {known['runs']} short runs at {known['scales']} scales on real "
        f"photographs ({known['setting']}; {doc_pages.EVIDENCE}) its rank agreed with the AUROC of a linear probe at "
        f"Spearman {_by_dataset(measured)}. {verdict}. {_gain(known.get('gain'))}{_OTHER_START if pretrained else ''}"
        f"{_PICKED.get(score, '')}"
        f"{_better(score) if len(useful) < 2 else ''}"
        "`augscale validate RUN --datasets DIR` measures it on your labels."
    )


def _gain(gain: dict[str, Any] | None) -> str:
    """Sentence on the gain of pre-training in the study, which limits how much scales can differ; ends with a space."""
    if gain is None or gain["interval"] is None:
        return ""
    low, high = gain["interval"]
    return (
        f"Pre-training itself moved that AUROC by {gain['value']:+.3f} [{low:+.3f}, {high:+.3f}] over the network "
        "before it (mean of the controls and of the datasets). "
    )


def _better(score: str) -> str:
    """Sentence on another score that was useful, with its values on all datasets, ending with a space; else ""."""
    for other, measured in measured_trust()["spearman"].items():
        useful = _useful(measured)
        if other != score and len(useful) >= 2:
            return f"`--set probe.score={other}` reached {_by_dataset(measured)}. {_PICKED.get(other, '')}"
    return ""


def _useful(measured: dict[str, Any]) -> list[str]:
    """Datasets on which a score's rank correlation is at least `_ENOUGH` and better than chance."""
    return [name for name, values in measured.items() if values["value"] >= _ENOUGH and values["interval"][0] > 0]


def _by_dataset(measured: dict[str, Any]) -> str:
    return ", ".join(f"{_figures(values)} on {name}" for name, values in measured.items())


def _figures(values: dict[str, Any]) -> str:
    low, high = values["interval"]
    return f"{values['value']:+.2f} [{low:+.2f}, {high:+.2f}]"
