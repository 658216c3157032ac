"""Images per second of whole training loops at equal work: ours, the official recipe's, lightly's, lightly-train's.

    python -m benchmarks.throughput                                          # the default study's trials
    python -m benchmarks.throughput --study fundus-vits16 --data DIR         # the paper's setting
    python -m benchmarks.throughput --study fundus-vits16 --data DIR --batch-size 16 --set pretrain.out_dim=4096 \
        --set backbone.name=vit_tiny_patch16_224 --set backbone.init=none    # what two CPU cores can do of it
    python -m benchmarks.throughput --methods dino,simclr,mocov3,dinov2 --study evidence     # steps alone

lightly's loops need `pip install lightly lightly-train` and are left out without.

Every loop runs in processes of its own, started as its users start it, and they take turns (A, B, C, A, ...), so that a
drift of the machine's speed meets all; bare matrix products take their turn too. All train the same timm backbone with
the same crops, batch and prototypes on the same images. Counted is everything from files (ours: the decoded cache) to
the updated weights; not counted are imports, set-up and the first steps. Printed: medians over the turns, the share of
the measured peak that the step's arithmetic reaches, ratios of ours to the fastest configuration of each other, and
where the time goes; of lightly-train, which is one call, also what a call costs besides its steps. `--methods` compares
steps alone, of every method, see `method_steps`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from augscale.cli.options import parse_assignments
from augscale.config import StudyConfig, load_study
from augscale.data.cache import build_cache
from augscale.networks.backbones import build_backbone
from augscale.runs.folders import versions
from augscale.system.devices import cpu_cores, resolve_device
from augscale.system.startup import large_pages_environment
from benchmarks.flops import step_flops
from benchmarks.method_steps import known_methods, method_study, print_comparison

NEEDS = {
    "official": None,
    "lightly": "lightly",
    "lightly-train bf16-mixed": "lightly-train",
    "lightly-train 32-true": "lightly-train",
}
"""The other loops, and the package of each."""


@dataclass
class Contender:
    """One way to train, as one or several processes that run at once."""

    label: str
    loop: str
    """Of `training_loops.LOOPS`."""
    threads: int
    workers: int = 0
    """DataLoader workers."""
    processes: int = 1
    variables: dict[str, str] = field(default_factory=dict)
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    shares: list[dict[str, float]] = field(default_factory=list)
    """Of the seconds of a turn, by part, as the loop itself reports them."""
    call_cost: dict[str, float] = field(default_factory=dict)
    """Seconds besides the steps, of a loop that is one call."""

    def start(self, job: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.training_loops", self.loop, str(job)]
        command += ["--threads", str(self.threads), "--workers", str(self.workers)]
        environment = os.environ | self.variables | {"OMP_NUM_THREADS": str(self.threads)}
        for _ in range(self.processes):
            self.children.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            )
        for child in self.children:
            _read(child)

    def turn(self, images: int) -> None:
        """Lets all processes of this contender run the same number of steps at once."""
        if self.workers:
            # What the loader's workers have made ready while others had their turn does not count.
            self._go_on()
            for child in self.children:
                _read(child)
        start = time.perf_counter()
        self._go_on()
        reports = [_read(child) for child in self.children]
        if self.loop == "products":
            self.rates.append(sum(report["operations per second"] for report in reports))
        else:
            self.rates.append(images * len(self.children) / (time.perf_counter() - start))
            self.shares.append(reports[0])

    def end_call(self) -> None:
        """Lets a loop that is one call come to its end, and keeps what the call cost."""
        if self.loop.startswith("lightly-train"):
            self._go_on()
            self.call_cost = _read(self.children[0])

    def _go_on(self) -> None:
        for child in self.children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()

    @property
    def last_turn(self) -> str:
        """The last turn's rate in words."""
        products = self.loop == "products"
        return f"{self.rates[-1] / 1e9:.0f} GFLOP/s" if products else f"{self.rates[-1]:.2f} images/s"

    @property
    def rate(self) -> float:
        """Images per second, median; of "products" operations per second."""
        return statistics.median(self.rates)

    def stop(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()


def main() -> None:
    arguments = _arguments()
    overrides = {"data.sources": arguments.data, "pretrain.batch_size": arguments.batch_size}
    overrides |= {"data.max_images": arguments.images}
    config = load_study(arguments.study, overrides | parse_assignments(arguments.set or []))
    device = resolve_device(arguments.device)
    if arguments.methods:
        overrides |= parse_assignments(arguments.set or [])
        studies = [method_study(arguments.study, method, overrides) for method in arguments.methods]
        print_comparison(studies, device, steps=arguments.steps, turns=arguments.repeats)
        return
    recipe = {"batch_size": arguments.others_batch_size or config.pretrain.batch_size}
    others = config.model_copy(update={"pretrain": config.pretrain.model_copy(update=recipe)})
    contenders = _contenders(arguments, device)
    with tempfile.TemporaryDirectory() as folder:
        job = _write_job(Path(folder), "job", config, device, arguments.steps, arguments.repeats)
        job_of_others = _write_job(Path(folder), "others", others, device, arguments.steps, arguments.repeats)
        try:
            for contender in contenders:
                contender.start(job_of_others if contender.loop in NEEDS else job)
            for _ in range(arguments.repeats):
                for contender in contenders:
                    batch_size = others.pretrain.batch_size if contender.loop in NEEDS else config.pretrain.batch_size
                    contender.turn(arguments.steps * batch_size)
                    # Now, so that a stop before the table leaves what was timed.
                    print(f"{contender.label}: {contender.last_turn}", file=sys.stderr, flush=True)
            for contender in contenders:
                contender.end_call()
        finally:
            for contender in contenders:
                contender.stop()
    _print(arguments, config, device, contenders)


def _contenders(arguments: argparse.Namespace, device: str) -> list[Contender]:
    cores = cpu_cores()
    large_pages = large_pages_environment()
    ours = [Contender("matrix products", "products", cores)]
    ours.append(Contender("augscale, one process", "augscale", cores, variables=large_pages))
    if device == "cpu" and cores > 1:
        label = f"augscale, as a search: {cores} one-thread workers"
        ours.append(Contender(label, "augscale", 1, processes=cores, variables=large_pages))
    plans = [tuple(int(number) for number in plan.split("x")) for plan in arguments.others.split(",")]
    for loop in arguments.against:
        package = NEEDS[loop]
        if package and not importlib.util.find_spec(package.replace("-", "_")):
            print(f"{loop} is left out: {package} is not installed (pip install {package})")
            continue
        for workers, threads in plans:
            ours.append(Contender(f"{loop}, {workers} loader workers, {threads} threads", loop, threads, workers))
    return ours


def _write_job(folder: Path, name: str, config: StudyConfig, device: str, steps: int, turns: int) -> Path:
    """What the processes need: the study, and the images as files; procedural ones are written as JPEG first."""
    cache = build_cache(config.data)
    files = [record.path for record in cache.records if record.path is not None]
    if not files:
        for index, image in enumerate(cache.images):
            path = folder / f"{index:05d}.jpg"
            Image.fromarray(image).save(path, quality=92)
            files.append(path)
    job = folder / f"{name}.json"
    content = {"study": config.model_dump(mode="json"), "files": [str(path) for path in files]}
    content |= {"device": device, "steps": steps, "turns": turns, "folder": str(folder)}
    job.write_text(json.dumps(content), encoding="utf-8")
    return job


def _read(child: subprocess.Popen[str]) -> Any:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"a loop ended early with code {child.wait()}, see above")
    return json.loads(line)


def _print(arguments: argparse.Namespace, config: StudyConfig, device: str, contenders: list[Contender]) -> None:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "CPU"
    backbone = build_backbone(config.backbone.model_copy(update={"init": "none"}), config.crops.global_size)
    parameters = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    crops, recipe = config.crops, config.pretrain
    of_others = f" (others: {arguments.others_batch_size})" if arguments.others_batch_size else ""
    sizes = f"2 x {crops.global_size} + {crops.n_local} x {crops.local_size} px"
    print(f"device      {device} ({name}, {cpu_cores()} cores)")
    needed = {package for contender in contenders if (package := NEEDS.get(contender.loop))}
    numbers = versions() | {package: version(package) for package in sorted(needed)}
    print(f"versions    {', '.join(f'{package} {number}' for package, number in numbers.items())}")
    print(f"setting     {config.backbone.name} {config.backbone.overrides or ''} ({parameters:.1f} M parameters)")
    print(f"            {sizes}, batch {recipe.batch_size}{of_others}, out_dim {recipe.out_dim}")
    print(f"turns       {arguments.repeats} interleaved, {arguments.steps} steps each\n")
    peak, flops = contenders[0].rate, step_flops(config)
    loops = contenders[1:]
    print(f"{'loop':54} {'images/s':>9} {'of peak':>8}   turns")
    for contender in loops:
        turns = ", ".join(f"{rate:.2f}" for rate in contender.rates)
        print(f"{contender.label:54} {contender.rate:9.2f} {100 * contender.rate * flops / peak:6.1f} %   {turns}")
    print(f"\npeak        {peak / 1e9:.0f} GFLOP/s in matrix products of the precision that augscale trains in here")
    print(f"arithmetic  {flops / 1e9:.2f} GFLOP per image (teacher, and three times student)\n")
    for loop in dict.fromkeys(contender.loop for contender in loops if contender.loop != "augscale"):
        other = max((contender for contender in loops if contender.loop == loop), key=lambda contender: contender.rate)
        for ours in (contender for contender in loops if contender.loop == "augscale"):
            print(f"{ours.rate / other.rate:5.2f} times   {ours.label}   against   {other.label}")
    print()
    for contender in loops:
        parts = {part: statistics.median(share[part] for share in contender.shares) for part in contender.shares[0]}
        print(f"{contender.label}: {', '.join(f'{part} {100 * share:.1f} %' for part, share in parts.items())}")
    _print_calls([contender for contender in loops if contender.call_cost])


def _print_calls(contenders: list[Contender]) -> None:
    if contenders:
        print("\nseconds that one call costs besides its steps")
    for contender in contenders:
        parts = contender.call_cost
        repeated = sum(seconds for part, seconds in parts.items() if part != "import")
        listed = ", ".join(f"{part} {seconds:.1f}" for part, seconds in parts.items())
        print(f"{contender.label}: {repeated:.1f} without the import ({listed})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="default")
    parser.add_argument("--data", action="append", help="folder or manifest; the study's if not given")
    parser.add_argument(
        "--methods",
        type=known_methods,
        help="compare a step of these methods on given views with lightly's modules instead, e.g. simclr,mocov3",
    )
    parser.add_argument("--images", type=int, help="use a subset of this many images")
    parser.add_argument("--set", action="append", help="any setting of the study, KEY=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument(
        "--others-batch-size", type=int, help="where files bound the other loops and large batches take long to make"
    )
    parser.add_argument("--steps", type=int, default=5, help="steps of one turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each loop")
    cores = cpu_cores()
    default = f"{cores}x{cores},0x{cores},{max(1, cores - 1)}x{max(1, cores - 1)}"
    parser.add_argument(
        "--others", default=default, help=f"loader workers x threads of the other loops (default: {default})"
    )
    parser.add_argument(
        "--against",
        type=_loops,
        default="official,lightly,lightly-train bf16-mixed",
        help=f"other loops, of: {', '.join(NEEDS)} (default: %(default)s)",
    )
    return parser.parse_args()


def _loops(text: str) -> list[str]:
    loops = [loop.strip() for loop in text.split(",")]
    if unknown := [loop for loop in loops if loop not in NEEDS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(NEEDS)}")
    return loops


if __name__ == "__main__":
    main()
