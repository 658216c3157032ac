"""The contenders of a search as a small table for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from augscale.records.answer import AnswerRecord
from augscale.reporting.search.contenders import verdict_on
from augscale.reporting.shared.notebook import estimate
from augscale.reporting.shared.wording import field_value, score_label


def contenders_table(answer: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table.

    Args:
        answer: the content of answer.json.
    """
    record = AnswerRecord.model_validate(dict(answer))
    label = score_label(record.score_name)
    rows: list[tuple[str, ...]] = []
    for contender in record.contenders:
        verdict, _ = verdict_on(contender, record)
        crops = [
            field_value(name, contender.scales.get(name)) + " %" for name in ("global_crops_scale", "local_crops_scale")
        ]
        jitter = field_value("brightness", contender.scales.get("brightness"))
        fresh = estimate(contender.confirm_mean, contender.confirm_interval)
        rows.append((contender.name, *crops, jitter, estimate(contender.search_score, None), fresh, verdict))
    return ("scales", "global", "local", "jitter", f"{label} in the search", f"{label} on fresh seeds", "verdict"), rows
