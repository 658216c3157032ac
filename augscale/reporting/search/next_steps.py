"""The next commands after a search, on the terminal and in the report."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path

from augscale.records.answer import AnswerRecord
from augscale.searching.answer_words import work_left

LONGER_FACTOR = 4
"""If trials were too short, the next search is proposed with this multiple of their steps."""
_LIBRARIES = {"lightly_train": "lightly-train", "lightly": "lightly", "solo": "solo-learn"}
"""Target of `export --to` by the module of a library."""
Words = tuple[str, ...]


def next_commands(answer: AnswerRecord, run_dir: Path | None, library: str | None = None) -> tuple[Words, ...]:
    """Export, validation and promotion of the best scales; where there is no answer, the search that may give one.

    An unfinished search goes on first.

    Args:
        answer: an answer that has a best.
        run_dir: the run folder; None writes RUN in its place.
        library: target of `export --to`; None takes the library at hand.
    """
    run_dir = run_dir or Path("RUN")
    search = ("augscale", "search", "--study", str(run_dir / "study.toml"))
    on: tuple[Words, ...] = ()
    if answer.unfinished:
        budget = ("--budget", answer.unfinished.budget) if answer.unfinished.budget else ()
        on = ((*search, "--out", str(run_dir), *budget),)
    taught_nothing = answer.untrained is not None and not answer.untrained.beaten
    if answer.outcome == "no searched scales" or (on and taught_nothing and not answer.untrained_judged):
        return on
    if taught_nothing and answer.steps is not None:
        out = run_dir.with_name(f"{run_dir.name}-longer")
        return (
            *on,
            (*search, "--set", f"pretrain.steps={LONGER_FACTOR * answer.steps}", "--out", str(out)),
        )
    # Without the weights of its rungs, a search can only be validated after its trials are trained again.
    remake = () if next(run_dir.glob("trials/*/rung-*.safetensors"), None) else ("--remake",)
    return (
        *on,
        ("augscale", "export", str(run_dir / "best.toml"), "--to", library or library_at_hand()),
        ("augscale", "validate", str(run_dir), "--datasets", "DIR", *remake),
        ("augscale", "promote", str(run_dir), "--epochs", "100"),
    )


def next_words(answer: AnswerRecord) -> str:
    """What the first of `next_commands` is for, in an unfinished search; else empty."""
    if not answer.unfinished:
        return ""
    same = "the same budget again; " if answer.unfinished.budget else ""
    return f"{work_left(answer.unfinished)}; {same}without --budget the search runs to its end"


def library_at_hand() -> str:
    """Target of `export --to` for the first installed library for pre-training; flags of official DINO if none is."""
    return next((target for module, target in _LIBRARIES.items() if find_spec(module)), "dino")


def command_text(words: Words) -> str:
    """The command as a shell reads it."""
    return shlex.join(words)
