from __future__ import annotations

import pytest
from made_predictions import made_evaluation

from augscale.evaluation.summary import summarize
from augscale.records.evaluation import EvaluationSummary


@pytest.fixture(scope="session")
def evaluated() -> EvaluationSummary:
    """Three checkpoints, three protocols, two datasets; tests only read it."""
    return summarize(made_evaluation(), resamples=100, ordered={"aptos2019"}, notes=("idrid is missing",))
