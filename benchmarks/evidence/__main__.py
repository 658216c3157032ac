"""Command line of the evidence study.

    python -m benchmarks.evidence run --data-root DIR --out DIR [--workers 2] [--study FILE] [--measure FILE] [--smoke]
        [--plan methods] [--known docs/evidence] [--device cuda] [--set KEY=VALUE]
    python -m benchmarks.evidence status --out DIR
    python -m benchmarks.evidence labels OUT --data-root DIR --datasets odir3,aptos2019 [--part methods]
    python -m benchmarks.evidence collect OUT --to docs/evidence
    python -m benchmarks.evidence tables --csv docs/evidence [--methods | --regimes]

`run` may be killed or stopped at any time and goes on when it is called again. With `--known` it leaves out the runs
that a folder of CSVs of the same method has already; `collect` into that folder then adds the new ones. `DIR` of the
data root holds the prepared photographs: a folder for each dataset with labels.csv (file, label, split) and meta.csv
(file, patient).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from augscale.cli.options import parse_assignments
from augscale.config import StudyConfig, load_study
from augscale.errors import AugscaleError, DataError, StudyError
from augscale.runs.files import read_json
from benchmarks.evidence.plan import Plan, PlannedRun, planned_runs
from benchmarks.evidence.settings import MeasureSettings, load_settings

DEFAULT_STUDY = "evidence"
_POLL_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        code: int = options.function(options)
    except AugscaleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGINT
    return code


def _run(options: argparse.Namespace) -> int:
    """Prepares everything that is shared once, then starts one process per worker and waits for them."""
    if options.worker:
        return _worker(options)
    from augscale.system.startup import large_pages_environment
    from benchmarks.evidence.data import open_outcomes
    from benchmarks.evidence.measure import limit_threads
    from benchmarks.evidence.runner import pending, prepare_folder

    study, settings, plan = _what(options)
    prepare_folder(options.out, study, settings)
    limit_threads()
    open_outcomes(settings, options.data_root, options.out / "work")
    command = [sys.executable, "-m", "benchmarks.evidence", "run", "--worker", *_passed_on(options)]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = large_pages_environment() | os.environ | one_thread
    workers = [subprocess.Popen(command, env=environment) for _ in range(options.workers)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while any(worker.poll() is None for worker in workers):
            time.sleep(_POLL_SECONDS)
    finally:
        for worker in workers:
            worker.terminate()
    left = pending(options.out, plan)
    if left:
        raise StudyError(f"{options.out}: {len(left)} of {len(plan)} runs have no result (first: {left[0].run_id})")
    return _status(options)


def _worker(options: argparse.Namespace) -> int:
    from benchmarks.evidence.data import pretraining_study
    from benchmarks.evidence.measure import Measurer, limit_threads
    from benchmarks.evidence.runner import work

    limit_threads()
    study, settings, plan = _what(options)
    study = pretraining_study(study, settings, options.data_root)
    measurer = Measurer.build(study, settings, options.data_root, options.out / "work", options.device)
    work(options.out, plan, measurer, retry_failed=options.retry_failed)
    return 0


def _status(options: argparse.Namespace) -> int:
    results = [read_json(path) for path in sorted((options.out / "results").glob("*.json"))]
    found = [result for result in results if result is not None]
    failed = [result for result in found if result["state"] == "failed"]
    seconds = sum(result["seconds"] for result in found)
    print(f"{len(found)} results, {len(failed)} failed, {seconds / 3600:.2f} hours of one core")
    for result in failed:
        print(f"  {result['run']}: {result['reason']}")
    return 0


def _labels(options: argparse.Namespace) -> int:
    from benchmarks.evidence.label_runs import label_runs
    from benchmarks.evidence.measure import limit_threads

    limit_threads()
    names = options.datasets.split(",")
    print(f"{label_runs(options.out, options.data_root, names, options.device, options.part)} runs measured")
    return 0


def _collect(options: argparse.Namespace) -> int:
    from benchmarks.evidence.collect import collect

    for line in collect(options.out, options.to):
        print(line)
    return 0


def _tables(options: argparse.Namespace) -> int:
    from benchmarks.evidence.document import write_document
    from benchmarks.evidence.method_tables import write_methods
    from benchmarks.evidence.trust import TRUST_FILE, write_method_rows

    if options.regimes:
        from benchmarks.evidence.regimes import write_regimes

        for path in write_regimes(options.csv, options.bootstrap):
            print(path)
        return 0
    if options.methods:
        print(write_methods(options.csv, bootstrap=options.bootstrap))
        if options.trust:
            print(write_method_rows(options.csv, options.bootstrap))
        return 0
    trust_file = TRUST_FILE if options.trust else None
    for path in write_document(options.csv, bootstrap=options.bootstrap, trust_file=trust_file):
        print(path)
    return 0


def _what(options: argparse.Namespace) -> tuple[StudyConfig, MeasureSettings, list[PlannedRun]]:
    from benchmarks.evidence.collect import complete_runs

    study = load_study(options.study, parse_assignments(options.set))
    settings = load_settings(options.measure)
    plan = planned_runs(options.plan or settings.plan, study.space, smoke=options.smoke)
    known: set[str] = set()
    for folder in options.known or []:
        known |= complete_runs(folder)
        if load_settings(folder / "measure.toml") != settings:
            raise DataError(f"--known {folder}: was measured with other settings; expected the same measure.toml")
        method = load_study(str(folder / "study.toml")).pretrain.method
        if method != study.pretrain.method:
            raise DataError(f"--known {folder}: runs of {method}; expected runs of {study.pretrain.method}")
    return study, settings, [run for run in plan if run.run_id not in known]


def _passed_on(options: argparse.Namespace) -> list[str]:
    passed = ["--data-root", str(options.data_root), "--out", str(options.out), "--study", str(options.study)]
    passed += ["--device", options.device, *(f"--set={assignment}" for assignment in options.set or [])]
    passed += ["--measure", str(options.measure)] if options.measure else []
    passed += ["--plan", options.plan] if options.plan else []
    passed += [f"--known={folder}" for folder in options.known or []]
    passed += ["--smoke"] if options.smoke else []
    return passed + (["--retry-failed"] if options.retry_failed else [])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("--data-root", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--study", default=DEFAULT_STUDY, help="built-in study or TOML file")
    command.add_argument("--measure", type=Path, help="TOML file of what is measured")
    command.add_argument("--smoke", action="store_true", help="a plan of a few runs, to try the chain")
    command.add_argument("--plan", choices=get_args(Plan), help="which runs, instead of the plan of --measure")
    command.add_argument(
        "--known", type=Path, action="append", help="folder of CSVs of `collect`; its complete runs are left out"
    )
    command.add_argument("--set", action="append", help="a setting of the study, e.g. pretrain.steps=500")
    command.add_argument("--device", default="cpu", help="cpu or cuda; several workers share one GPU")
    command.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    command.add_argument("--retry-failed", action="store_true", help="do failed runs again")
    command.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(function=_run)
    command = commands.add_parser("status")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(function=_status)
    command = commands.add_parser("labels", help="scores from few labels for finished runs, from their weights")
    command.add_argument("out", type=Path)
    command.add_argument("--data-root", type=Path, required=True)
    command.add_argument("--datasets", required=True, help="names, separated by commas")
    command.add_argument("--part", help="part of the plan whose runs are measured, e.g. methods; all if not given")
    command.add_argument("--device", default="cpu")
    command.set_defaults(function=_labels)
    command = commands.add_parser("collect")
    command.add_argument("out", type=Path)
    command.add_argument("--to", type=Path, required=True)
    command.set_defaults(function=_collect)
    command = commands.add_parser("tables")
    command.add_argument("--csv", type=Path, required=True)
    command.add_argument("--bootstrap", type=int, default=2000)
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--methods", action="store_true", help="the comparison of methods instead")
    instead.add_argument("--regimes", action="store_true", help="all studies below the folder side by side instead")
    command.add_argument("--trust", action="store_true", help="also write what `augscale search` says about its score")
    command.set_defaults(function=_tables)
    return parser


if __name__ == "__main__":
    sys.exit(main())
