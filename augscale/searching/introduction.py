"""Prints the study, its data and its storage before a search trains."""

from __future__ import annotations

import time
from collections.abc import Sequence

from augscale import doc_pages
from augscale.config import StudyConfig
from augscale.data.grey_levels import range_lines
from augscale.records.manifest import ManifestRecord
from augscale.records.worker import WorkerRecord
from augscale.runs.folders import RunFolder
from augscale.searching.budget_left import budget_left, clock
from augscale.searching.display import SearchDisplay
from augscale.searching.space import not_searched_sentence
from augscale.searching.storage import PASSWORD_VARIABLE, Storage
from augscale.searching.trust import labels_line, trust_line
from augscale.system.progress_bar import duration

DEMONSTRATION = "default"
"""The study that a search without `--study` runs: made for the built-in photographs."""
BAD_SHOWN = 5
NO_PATIENTS = (
    "no patient ids: images of one patient can lie both in training and in the panel, and count as negative pairs; "
    f"--patients-from REGEX takes them from file names, a table from its column patient_id ({doc_pages.TABLES})"
)


def say_what_runs(display: SearchDisplay, config: StudyConfig, manifest: ManifestRecord, run: RunFolder) -> None:
    """Prints study, network, device, initial weights, images, gray levels, and odd images."""
    data, parameters = manifest.data, (manifest.parameters or 0) / 1e6
    display.say(
        f"{config.name}: {config.search.trials} trials of {config.pretrain.steps} steps x {config.pretrain.batch_size} "
        f"images, {config.backbone.name} ({parameters:.2g} M parameters) at {config.crops.global_size} px on "
        f"{manifest.device}, by {config.pretrain.method}"
    )
    if manifest.initial_weights is not None:
        display.say(f"  initial weights: {manifest.initial_weights}")
    by_name = " (by --patients-from)" if config.data.patient_pattern else ""
    patients = f"of {data.num_patients} patients{by_name} " if data.num_patients else "without patient ids "
    display.say(
        f"{data.num_images} images {patients}({data.num_train} to train on, {data.num_panel} held out for the "
        f"panel), {data.num_bad} files set aside; run folder {run.path}"
    )
    if not data.num_patients:
        display.say(f"  {NO_PATIENTS}")
    for line in range_lines([found for found in data.ranges if not found["given"]]):
        display.say(f"  grey levels of {line}; data.range = [LOW, HIGH] sets it")
    if config.name == DEMONSTRATION and list(config.data.sources) != ["synthetic"]:
        display.say(
            f"  the study {DEMONSTRATION} is a demonstration with a tiny network: for an answer on your images use "
            "--study fundus-vits16 (GPUs) or --study fundus-cpu-resnet"
        )
    if config.search.trials <= len(config.search.controls):
        display.say(
            f"  {config.search.trials} trials are not more than the controls ({', '.join(config.search.controls)}), "
            "which come first: no scales are searched"
        )
    for said in (not_searched_sentence(config), trust_line(config), labels_line(config)):
        if said is not None:
            display.say(f"  {said}")
    for line in data.remarks:
        display.say(f"  {line}")
    for bad in data.bad[:BAD_SHOWN]:
        display.say(f"  set aside: {bad.path}: {bad.reason}")
    if (data.num_bad or 0) > BAD_SHOWN:
        display.say(f"  ... and {(data.num_bad or 0) - BAD_SHOWN} more in {run.manifest_file}")


def say_budget(display: SearchDisplay, seconds: float, began: float) -> None:
    """Prints when the time budget ends, and what happens then.

    Args:
        display: where to print.
        seconds: the budget.
        began: start of the call in seconds since the epoch.
    """
    end = time.strftime("%H:%M:%S", time.localtime(began + seconds))
    display.say(
        f"  budget {duration(seconds)}, until {end}: once searched scales have been tried, trials begin as long as the "
        "confirmation fits behind them; what runs at the end is saved, and the same command goes on; the start of the "
        "program and the report come on top"
    )


def say_other_calls(display: SearchDisplay, others: Sequence[WorkerRecord], *, limited: bool) -> None:
    """Prints how the budget of a call that already works on the run goes together with that of this one.

    Args:
        display: where to print.
        others: workers that are alive before this call starts its own.
        limited: True if this call has a budget.
    """
    known = budget_left(others, others)
    if known is None:
        return
    workers = f"{known.workers} worker{'s' * (known.workers > 1)}"
    if known.common_end is not None:
        workers += f" until {clock(known.common_end)}"
    else:
        workers += f", {known.limited} of them with a budget" if known.limited else " without a budget"
    own = "the budget of this call is its own" if limited else "this call has no budget and works to the end"
    display.say(f"  another call works on this run, {workers}; {own}")


def say_where_it_is_kept(display: SearchDisplay, address: Storage, *, given: bool) -> None:
    """Prints the storage of the study if this call named it, and what later commands need for its password."""
    if given:
        display.say(f"  the study is kept in {address.shown}")
    if address.url.password:
        display.say(
            f"  its password is not kept in the run folder: status, report and promote need {PASSWORD_VARIABLE}"
        )
