"""Spends a given time on one GPU: tests, throughput, then the evidence study with far longer runs.

    python -m benchmarks.gpu_study --data-root DIR --pack PACK                    # photographs and weights, under 50 MB
    python -m benchmarks.gpu_study --minutes 9 --data-root PACK --out OUT
    python -m benchmarks.gpu_study --minutes 3 --data-root PACK --out OUT --device cpu --workers 1 --toy

`DIR` is the data root of `benchmarks.evidence`; `PACK` is one, too. The parts, each with its share of the time:

tests.txt               the tests marked `gpu`
throughput-paper.txt    the paper's setting at batch 256 and the official recipe with 16 loader workers at batch 64
throughput-default.txt  the same for the default study
study, evidence         the study that CPUs ran (`evidence-imagenet-simclr`), runs of 128,000 images instead of 4,800:
                        a null of few steps, the controls, then one scale after another (plan "long")

The study has at least half of the time, and what the others leave. Its CSVs are in OUT/evidence/imagenet-gpu and are
written again whenever a run has ended, so that a kill leaves them; the same command goes on. An image is seen in
batches of 32 as on CPUs: a larger batch would be another SimCLR. Small networks wait for Python on a GPU, so several
processes share it; how many are best, and how many runs end in ten minutes, was not measured. Fewer `--images` give
shorter and so more runs. `pretrain.compile` is off, because compiling would take each process about a minute.

`--vit FILE` (weights of timm's vit_small_patch16_224) adds the same study with ViT-S/16, CSVs in
OUT/evidence/imagenet-gpu-vits16, when all 71 runs of the first have ended. That will not be in ten minutes: there take
`--vit-only` as well, which leaves the first out. No recipe was chosen for the ViT: learning rate and temperature are
those of EfficientNet-Lite0, and no run of it was tried to its end.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from augscale.config import load_study
from augscale.errors import AugscaleError, CheckpointError, DataError
from augscale.runs.folders import now, writable_folder
from benchmarks.gpu_pack import LARGEST_BYTES, PACKAGE, SIDE, TABLES, pack, use_packed_weights

STUDY = "evidence-imagenet-simclr"
MEASURE = Path(__file__).parent / "evidence" / "measure-imagenet-cpu.toml"
PLAN = "long"
TESTS_SHARE, PAPER_SHARE, DEFAULT_SHARE, TOY_SHARE = 0.12, 0.25, 0.08, 0.15
"""Of the time, at most."""
RESERVE_SHARE, RESERVE_SECONDS = 0.05, 15.0
"""Kept at the end for stopping processes and for the last CSVs: the smaller of the two."""
STOP_SECONDS = 2.0
"""That a part has to end by itself when its time is over."""
_POLL_SECONDS = 0.5
TOY_MEASURE = """
plan = "long"
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
    "probe.images=12",
)


@dataclass
class Collector:
    """Turns the results of a study's folder into CSVs whenever there are new ones."""

    runs: Path
    to: Path
    collected: int = 0

    def __call__(self) -> None:
        # Before anything is there to collect: it takes a second or more, of which there are few at the end.
        from benchmarks.evidence.collect import collect

        found = sum(1 for _ in (self.runs / "results").glob("*.json"))
        if found == self.collected:
            return
        self.collected = found
        try:
            collect(self.runs, self.to)
        except AugscaleError as error:
            print(error, flush=True)
        else:
            print(f"{now()}  {found} results in {self.to}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    start = time.monotonic()
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.pack is None and (options.minutes is None or options.out is None):
        parser.error("expected --minutes and --out, or --pack")
    if options.vit_only and options.vit is None:
        parser.error("--vit-only: expected --vit FILE, too")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.pack is not None:
            print(pack(options.data_root, options.pack, _datasets(MEASURE), side=options.pack_side))
            return 0
        return _spend(options, start)
    except AugscaleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the study", file=sys.stderr)
        return 128 + signal.SIGINT


def _spend(options: argparse.Namespace, start: float) -> int:
    seconds = 60 * options.minutes
    end = start + seconds - min(RESERVE_SECONDS, RESERVE_SHARE * seconds)
    writable_folder(options.out)
    use_packed_weights(options.data_root)
    measure = _measure(options)
    _check(options, measure)
    for name, command, share in _first_parts(options):
        _part(name, command, min(share * seconds, end - time.monotonic()), options.out / f"{name}.txt")
    results = 0
    for name, settings in _studies(options):
        collector = Collector(options.out / "study" / name, options.out / "evidence" / name)
        command = _study(options, measure, collector.runs, settings)
        try:
            _part(name, command, end - time.monotonic(), options.out / f"{name}.txt", collector)
        finally:
            collector()
        results += collector.collected
    print(f"{now()}  {time.monotonic() - start:.0f} s in all", flush=True)
    return 0 if results else 1


def _check(options: argparse.Namespace, measure: Path) -> None:
    """Refuses at the start what would end the study when half of the time is spent."""
    for name in _datasets(measure):
        for table in TABLES:
            if not (options.data_root / name / table).is_file():
                raise DataError(f"--data-root {options.data_root}: no {name}/{table}; expected that of the study")
    if options.vit is not None and not options.vit.is_file():
        raise CheckpointError(f"--vit {options.vit}: no such file; expected weights of vit_small_patch16_224")
    if not options.vit_only and find_spec(PACKAGE) is None:
        from augscale.networks.backbones import check_init

        check_init(load_study(STUDY).backbone)


def _datasets(measure: Path) -> list[str]:
    from benchmarks.evidence.settings import load_settings

    settings = load_settings(measure)
    return list(dict.fromkeys((*settings.datasets, *settings.pretrain_folders)))


def _measure(options: argparse.Namespace) -> Path:
    if not options.toy:
        return MEASURE
    measure: Path = options.out / "measure-toy.toml"
    measure.write_text(TOY_MEASURE, encoding="utf-8")
    return measure


def _first_parts(options: argparse.Namespace) -> list[tuple[str, list[str], float]]:
    """Name, command and largest share of the time of what comes before the study."""
    marker = "gpu" if options.device == "cuda" else "not gpu and not slow"
    tests = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-m", marker]
    if options.toy:
        tests.append("tests/scoring/test_embeddings.py")
    else:
        # Only these: importing all tests takes a while.
        tests += sorted(str(path) for path in Path("tests").rglob("test_*.py") if "mark.gpu" in path.read_text("utf-8"))
    throughput = [sys.executable, "-m", "benchmarks.throughput", "--device", options.device]
    throughput += ["--against", options.against, "--others", f"{options.loader_workers}x1"]
    if options.toy:
        smoke = [*throughput, "--study", "smoke", "--steps", "1", "--repeats", "1"]
        return [("tests", tests, TESTS_SHARE), ("throughput-smoke", smoke, TOY_SHARE)]
    data = [f"--data={options.data_root / name}" for name in _datasets(MEASURE)]
    paper = [*throughput, "--study", "fundus-vits16", *data, "--set", "backbone.init=none", "--batch-size", "256"]
    # Batches of 256 would take the loaders' workers most of the time.
    paper += ["--others-batch-size", "64", "--steps", "8", "--repeats", "2"]
    # A trial of the default study is too short to be compiled.
    default = [*throughput, "--study", "default", "--set", "pretrain.compile=never", "--steps", "30", "--repeats", "3"]
    return [
        ("tests", tests, TESTS_SHARE),
        ("throughput-paper", paper, PAPER_SHARE),
        ("throughput-default", default, DEFAULT_SHARE),
    ]


def _studies(options: argparse.Namespace) -> list[tuple[str, tuple[str, ...]]]:
    """Name of the folders, and settings of the network, of each study."""
    found: list[tuple[str, tuple[str, ...]]] = [] if options.vit_only else [("imagenet-gpu", ())]
    if options.vit is not None:
        init = f"backbone.init={options.vit.absolute()}"
        found.append(("imagenet-gpu-vits16", ("backbone.name=vit_small_patch16_224", init)))
    return found


def _study(options: argparse.Namespace, measure: Path, runs: Path, settings: Sequence[str] = ()) -> list[str]:
    if options.toy:
        settings = (*settings, *TOY)
    else:
        steps = max(1, options.images // load_study(STUDY).pretrain.batch_size)
        settings = (*settings, f"pretrain.steps={steps}", "pretrain.compile=never")
    command = [sys.executable, "-m", "benchmarks.evidence", "run", "--study", STUDY, "--measure", str(measure)]
    command += ["--plan", PLAN, "--data-root", str(options.data_root), "--out", str(runs)]
    command += ["--device", options.device, "--workers", str(options.workers)]
    return command + [f"--set={setting}" for setting in settings]


def _part(
    name: str, command: Sequence[str], seconds: float, log: Path, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Runs a command for at most so many seconds; its output goes to a file.

    Args:
        meanwhile: called again and again while it runs.
    """
    begin = time.monotonic()
    if seconds <= 0:
        print(f"{now()}  {name}: no time left", flush=True)
        return
    with log.open("w", encoding="utf-8") as file:
        # A group of its own, so that nothing that it started outlives it and takes the next part's time.
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, process_group=0)
        try:
            while process.poll() is None and time.monotonic() < begin + seconds:
                meanwhile()
                time.sleep(_POLL_SECONDS)
            code = process.poll()
        finally:
            _end(process)
    ended = "stopped by the time" if code is None else f"exit code {code}"
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    print(f"{now()}  {name}: {ended} after {time.monotonic() - begin:.0f} s: {''.join(last)}", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--minutes", type=float, help="time for everything")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--workers", type=int, default=6, help="processes that share the GPU in the study (default: 6)")
    parser.add_argument("--images", type=int, default=128_000, help="images of each run of the study (default: 128000)")
    parser.add_argument("--vit", type=Path, metavar="FILE", help="weights of ViT-S/16, for a second study")
    parser.add_argument("--vit-only", action="store_true", help="leave out the study of EfficientNet-Lite0")
    parser.add_argument("--against", default="official", help="other loops of the throughput (default: official)")
    parser.add_argument("--loader-workers", type=int, default=16, help="of the other loops (default: 16)")
    parser.add_argument("--toy", action="store_true", help="tiny crops and two steps, to try the chain on a CPU")
    parser.add_argument(
        "--pack", type=Path, metavar="DIR", help=f"only make a data root of at most {LARGEST_BYTES / 1e6:g} MB"
    )
    parser.add_argument("--pack-side", type=int, default=SIDE, help=f"longest side in it, pixels (default: {SIDE})")
    return parser


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Python takes seconds to take down what `collect` imports, on a busy machine, and they are not in the account.
    os._exit(code)
