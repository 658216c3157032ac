"""Where the wall time of a search went, and what pruning saved: read from finished run folders.

    python -m benchmarks.search_time runs/default                    # one search
    python -m benchmarks.search_time runs/default runs/unpruned      # and the same study with search.prune=false
    python -m benchmarks.search_time --run runs/both                 # runs both itself, one after the other
    python -m benchmarks.search_time --run runs/both --study fundus-cpu-resnet --data DIR --set search.trials=20

Everything is counted in worker-seconds: wall time of the search, from its first to its last event, times its workers.
Time in which workers do not exist yet or any more (preparation, report) counts for all of them, so the shares are
shares of what the machine was kept for. What no clock has seen is a row of its own, not spread over the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from augscale.cli.options import parse_assignments
from augscale.config import load_study
from augscale.errors import AugscaleError, ConfigError
from augscale.runs.folders import RunFolder, versions
from benchmarks.machine import cpu_name
from benchmarks.pruning import compare_answers, pruning
from benchmarks.run_times import RunTimes, read_run_times


def main() -> None:
    arguments = _arguments()
    try:
        folders = _run_both(arguments) if arguments.run else arguments.folders
        if not 1 <= len(folders) <= 2:
            raise ConfigError(f"{len(folders)} run folders; expected one or two, or --run FOLDER")
        for line in report([RunFolder(folder) for folder in folders]):
            print(line)
    except AugscaleError as error:
        raise SystemExit(f"{error}") from None


def report(runs: list[RunFolder]) -> list[str]:
    """The lines of the whole output.

    Args:
        runs: one finished search, or two of one study of which the second is not pruned.
    Raises:
        ConfigError: a folder holds no finished search, or the two are not the same study.
    """
    found = [read_run_times(run) for run in runs]
    lines: list[str] = []
    for run, times in zip(runs, found, strict=True):
        lines += [*_heading(run, times), *_table(times), *_pruning(run, times), ""]
    if len(runs) == 2:
        lines += _both(runs, found)
    return lines


def _heading(run: RunFolder, times: RunTimes) -> list[str]:
    packages = ", ".join(f"{name} {number}" for name, number in times.versions.items())
    counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(times.states.items()))
    return [
        f"run        {run.path}: study {times.study}, {times.device}",
        f"versions   {packages}",
        f"trials     {counts}; {times.confirmations} confirmation runs; {times.sessions} session(s)",
        f"wall time  {times.wall_seconds:.1f} s, {times.worker_seconds:.1f} worker-seconds",
        "",
    ]


def _table(times: RunTimes) -> list[str]:
    total = times.worker_seconds
    lines = [f"{'worker-seconds':34}{'search':>10}{'confirm':>10}{'both':>10}{'share':>9}"]

    def row(name: str, search: float | None, confirm: float | None, both: float) -> str:
        columns = "".join(f"{'' if value is None else f'{value:.1f}':>10}" for value in (search, confirm))
        return f"{name:34}{columns}{both:10.1f}{100 * both / total:7.1f} %"

    for part in times.parts:
        search, confirm = times.search.get(part, 0.0), times.confirm.get(part, 0.0)
        lines.append(row(f"  {part}", search, confirm, search + confirm))
    lines.append(row("trials", sum(times.search.values()), sum(times.confirm.values()), times.trials_seconds))
    lines += [row(f"  {name}", None, None, seconds) for name, seconds in times.outside.items()]
    lines.append(row("outside trials", None, None, times.outside_seconds))
    lines.append(row("all", None, None, total))
    return [
        *lines,
        "",
        f"outside training steps {100 * (1 - times.training_seconds / total):.1f} % of the search; "
        f"outside trials {100 * times.outside_seconds / total:.1f} %; "
        f"scoring {100 * times.scoring_seconds / times.trials_seconds:.1f} % of trials",
    ]


def _pruning(run: RunFolder, times: RunTimes) -> list[str]:
    saved = pruning(run, times)
    if not saved.pruned:
        return ["pruning    no trial was pruned"]
    return [
        f"pruning    {saved.pruned} of {saved.trials} trials: {saved.steps_not_run:,} of {saved.steps_planned:,} steps "
        f"not run ({100 * saved.steps_not_run / saved.steps_planned:.0f} %), {saved.rungs_not_scored} scorings spared",
        f"           about {saved.worker_seconds:.0f} worker-seconds, {saved.worker_seconds / times.workers:.0f} s of "
        f"wall time: the search in full would take {1 + saved.worker_seconds / times.worker_seconds:.2f} times as long",
    ]


def _both(runs: list[RunFolder], found: list[RunTimes]) -> list[str]:
    first, second = found
    answers = compare_answers(*runs)
    lines = [
        f"{'':34}{'first':>12}{'second':>12}{'ratio':>8}",
        f"{'wall time, s':34}{first.wall_seconds:12.1f}{second.wall_seconds:12.1f}"
        f"{second.wall_seconds / first.wall_seconds:8.2f}",
        f"{'worker-seconds in trials':34}{first.trials_seconds:12.1f}{second.trials_seconds:12.1f}"
        f"{second.trials_seconds / first.trials_seconds:8.2f}",
        f"{'steps, without confirmation':34}{first.search_steps:12,}{second.search_steps:12,}"
        f"{second.search_steps / first.search_steps:8.2f}",
        "",
    ]
    for label, answer in zip(("first", "second"), (answers.first, answers.second), strict=True):
        interval = f" ({answer.interval[0]:.4f} to {answer.interval[1]:.4f})" if answer.interval else ""
        lines.append(
            f"answer of the {label:8} {answer.name}: {answer.score:.4f}{interval} on {len(answer.scores)} fresh seeds"
        )
    low, high = answers.interval
    verdict = "distinguishable" if answers.distinguishable else "not distinguishable"
    lines.append(
        f"first minus second     {answers.difference:+.4f} ({low:+.4f} to {high:+.4f}, paired by seed): {verdict}"
    )
    return lines


def _run_both(arguments: argparse.Namespace) -> list[Path]:
    """Two searches one after the other, so that neither takes time from the other; finished ones are kept."""
    if arguments.folders:
        raise ConfigError(f"--run: {arguments.folders[0]} is given too; expected either run folders or --run FOLDER")
    overrides = parse_assignments(arguments.set or [])
    load_study(arguments.study, overrides)
    print(f"machine    {cpu_name()}, {', '.join(f'{name} {number}' for name, number in versions().items())}")
    folders = []
    for name, prune in (("pruned", "true"), ("unpruned", "false")):
        folder = arguments.run / name
        folders.append(folder)
        if (folder / "answer.json").is_file():
            continue
        command = [sys.executable, "-m", "augscale", "search", "--study", arguments.study, "--out", str(folder)]
        command += [word for data in arguments.data or [] for word in ("--data", data)]
        command += [word for setting in arguments.set or [] for word in ("--set", setting)]
        command += ["--set", f"search.prune={prune}"]
        command += ["--workers", str(arguments.workers)] if arguments.workers else []
        start = time.perf_counter()
        finished = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
        if finished.returncode:
            lines = finished.stderr.strip().splitlines()
            raise ConfigError(f"{' '.join(command[1:])}: code {finished.returncode} ({lines[-1] if lines else ''})")
        print(f"command    {name}: {time.perf_counter() - start:.1f} s from start to end of the process", flush=True)
    print()
    return folders


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="RUN", help="one or two finished run folders")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="run the study with and without pruning into it")
    parser.add_argument("--study", default="default", help="with --run")
    parser.add_argument("--data", action="append", help="with --run: folder or manifest; the study's if not given")
    parser.add_argument("--set", action="append", help="with --run: any setting of the study, KEY=VALUE")
    parser.add_argument("--workers", type=int, help="with --run: processes; as the search chooses if not given")
    return parser.parse_args()


if __name__ == "__main__":
    main()
