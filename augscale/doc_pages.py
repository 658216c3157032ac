"""Pages of the documentation that messages name. An installed package has neither the folder docs nor an address."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DocPage:
    """A page, or a section of it; shown as `docs: score, Intervals`. A test follows each of them."""

    page: str
    """Path below docs/, without its suffix; a folder is its README."""
    section: str = ""
    """A heading."""

    def __str__(self) -> str:
        return f"docs: {self.page}" + (f", {self.section}" if self.section else "")


COMMON_STATISTICS = DocPage("score")
SCORE = DocPage("score", "The score, and its traps")
SCORE_LIMITS = DocPage("score", "What the score does not say")
INTERVALS = DocPage("score", "Intervals")
SEARCH_WITH_LABELS = DocPage("validation", "Searching with labels")
VALIDATION_LIMITS = DocPage("validation", "What the numbers cover")
PROMOTION = DocPage("evaluation", "Promotion")
EVALUATION_LIMITS = DocPage("evaluation", "Numbers, and what they cover")
HEALTH = DocPage("diagnosis", "Health")
TABLES = DocPage("tables")
STUDY_FILES = DocPage("study-files")
EVIDENCE = DocPage("evidence")
