"""`best.toml`: the best scales of a search as a scale card."""

from __future__ import annotations

from augscale.augmentation.scales import AugmentationScales, to_toml
from augscale.config import StudyConfig
from augscale.records.answer import AnswerRecord, ContenderRecord

NO_LOCAL_CROPS = "# The search drew no local crops: local_crops_scale had no effect, and nothing is known of it."


def scale_card(config: StudyConfig, answer: AnswerRecord, best: ContenderRecord, fingerprint: str) -> str:
    """The text of the card: the scales, and how they were found."""
    what = "the scales with the highest score of a search, which does not show that they are good (see outcome)"
    if answer.outcome == "best found":
        what = "the best augmentation scales of a search"
    lines = [
        f"# Scale card: {what}. Use it as --scales best.toml.",
        *([] if answer.local_crops else [NO_LOCAL_CROPS]),
        "[card]",
        f"study = {_text(config.name)}",
        f"trial = {best.number}",
        f"name = {_text(best.name)}",
        f"headline = {_text(answer.headline)}",
        f"outcome = {_text(answer.outcome)}",
        f"finished = {_text(answer.finished or '')}",
        f"data_fingerprint = {_text(fingerprint)}",
        f"method = {_text(config.pretrain.method)}",
        f"backbone = {_text(config.backbone.name)}",
        f"score_name = {_text(config.probe.score)}",
        f"labels_used = [{', '.join(_text(name) for name in config.probe.labelled or ())}]",
        f"search_score = {best.search_score:.6g}",
    ]
    if best.search_interval:
        lines.append("search_interval = [{:.6g}, {:.6g}]".format(*best.search_interval))
    if best.confirm_scores:
        lines.append("confirm_scores = [" + ", ".join(f"{score:.6g}" for score in best.confirm_scores) + "]")
    lines += ["", "[card.versions]", *(f"{_text(name)} = {_text(value)}" for name, value in answer.versions.items())]
    lines += ["", to_toml(AugmentationScales.model_validate(best.scales)).strip()]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
