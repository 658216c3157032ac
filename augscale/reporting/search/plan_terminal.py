"""The plan of a search on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

import math

from rich.console import Console

from augscale.reporting.shared.screen import Note, Row, Screen, ScreenTable, print_screen
from augscale.reporting.shared.wording import duration
from augscale.searching.dry_run import SearchPlan
from augscale.system.memory import size_text


def print_plan(plan: SearchPlan, console: Console) -> None:
    """Prints what would run and what it would cost."""
    print_screen(plan_screen(plan), console)


def plan_screen(plan: SearchPlan) -> Screen:
    """The forecast, what would run, what is known of the score and of labels, and what the forecast leaves out."""
    patients = f" of {plan.patients} patients" if plan.patients else ", without patient ids"
    runs = f"{plan.confirmations} on fresh seeds, {plan.nulls} with learning rate 0"
    rows = (
        ("images", f"{plan.images:,}{patients}"),
        ("of them", f"{plan.train:,} to train on, {plan.panel:,} held out for the panel"),
        ("set aside", f"{plan.set_aside:,} files" if plan.set_aside else ""),
        ("trials", f"{plan.trials}, the first of them {', '.join(plan.controls)}"),
        ("further runs", runs),
        ("each run", f"{plan.steps:,} steps of {plan.batch_size} images, {plan.steps * plan.batch_size:,} in all"),
        ("network", f"{plan.backbone}, {plan.parameters / 1e6:.2g} M parameters, views of {plan.view_size} px"),
        ("device", plan.device),
        ("time of a step", f"{plan.cost.seconds_per_step:.3g} s, measured on noise, by one worker, {_now(plan)}"),
        ("memory", f"{size_text(plan.cost.bytes)} for each worker, in {plan.cost.micro_batches}"),
        ("run folder", f"{plan.run}{', to be resumed' if plan.begun else ''}"),
    )
    said = [f"{line[0].upper()}{line[1:]}." for line in (plan.trust, plan.labels) if line]
    rows_shown = [Row(cells=row) for row in rows if row[1]]
    return Screen(
        headline=f"This search would take about {duration(plan.seconds)} and {size_text(plan.bytes)} of memory; "
        f"nothing was trained or written.{_budget_words(plan)}",
        tables=(ScreenTable(heads=("", ""), rows=rows_shown, wraps=2, legend=" ".join(said)),),
        notes=tuple(Note(text=note) for note in plan.notes),
    )


def _now(plan: SearchPlan) -> str:
    """The state of the device that the forecast presumes."""
    return "on cores as busy as now" if plan.device.startswith("cpu") else "on the GPU as now"


def _budget_words(plan: SearchPlan) -> str:
    """The forecast against the budget."""
    if plan.budget is None:
        return ""
    budget = f" A budget of {duration(plan.budget)}"
    if plan.fitting == plan.trials:
        return f"{budget} fits all {plan.trials} trials with their confirmation."
    if plan.fitting:
        return f"{budget} fits about {plan.fitting} of {plan.trials} trials with their confirmation."
    calls = math.ceil((plan.shortest or 0.0) / plan.budget)
    return (
        f"{budget} fits no answer: the shortest, with one searched trial, takes about {duration(plan.shortest)}. "
        f"Several calls add up: it takes {calls} of this budget, or more on a busy machine. "
        "--set pretrain.steps=... and --set confirm.seeds=... (2 or more) shorten a search; shorter "
        "trials may not learn, and give no answer then."
    )
