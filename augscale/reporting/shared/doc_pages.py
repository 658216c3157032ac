"""Sections of the documentation that the terminal points to; a test follows each of them."""

from __future__ import annotations

SCORE = "docs/score.md#the-score-and-its-traps"
SCORE_LIMITS = "docs/score.md#what-the-score-does-not-say"
INTERVALS = "docs/score.md#intervals"
SEARCH_WITH_LABELS = "docs/validation.md#searching-with-labels"
VALIDATION_LIMITS = "docs/validation.md#what-the-numbers-cover"
PROMOTION = "docs/evaluation.md#promotion"
EVALUATION_LIMITS = "docs/evaluation.md#numbers-and-what-they-cover"
HEALTH = "docs/diagnosis.md#health"
MEASUREMENTS = "docs/diagnosis.md#measurements"

PAGES = (
    SCORE,
    SCORE_LIMITS,
    INTERVALS,
    SEARCH_WITH_LABELS,
    VALIDATION_LIMITS,
    PROMOTION,
    EVALUATION_LIMITS,
    HEALTH,
    MEASUREMENTS,
)
