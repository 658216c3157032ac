"""How long a person waits for `evaluate` and `diagnose`: an older commit against this one, in turns.

    git worktree add --detach /tmp/before 525a746                      # version 0.2.0
    python -m benchmarks.waiting_against /tmp/before evaluate --data DIR --arch tf_efficientnet_lite0 --init imagenet
    python -m benchmarks.waiting_against /tmp/before diagnose --data DIR --images 300 --size 224

Two checkpoints of one architecture are written: its weights (random, or timm's) with a little noise. Each side then
runs, every time in a process and an output folder of its own:

1. `first`: nothing is cached;
2. `next`: the other checkpoint, on the same images, which are decoded now;
3. `again`: the second checkpoint again, into another folder.

Sides take turns, and every repeat begins with empty caches. Printed for each step: CPU seconds of the process with all
its threads, wall seconds, their ratio old / new, and the numbers of both sides' JSON that differ by more than 0.1 %,
each of which has to be explained.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from augscale.config import BackboneConfig
from augscale.networks.backbones import build_backbone
from augscale.system.devices import cpu_cores
from benchmarks.machine import cpu_name
from benchmarks.same_results import read_values, relative_difference

STEPS = {"first": 0, "next": 1, "again": 1}
"""Which of the two checkpoints each step examines."""
_NOISE = 1e-3
FAR = 1e-3
"""Numbers that differ by a larger share of the larger one are listed."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of one command."""

    cpu: float
    wall: float


def main() -> None:
    arguments = _arguments()
    print(f"{cpu_name()}, {cpu_cores()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        checkpoints = make_checkpoints(folder, arguments.arch, arguments.init, arguments.size)
        sides = {"old": arguments.old.resolve(), "new": Path.cwd()}
        spent: defaultdict[tuple[str, str], list[Spent]] = defaultdict(list)
        for repeat in range(arguments.repeats):
            for step, number in [(step, STEPS[step]) for step in arguments.steps]:
                for side, tree in sides.items():
                    out = folder / f"{side}-{repeat}-{step}"
                    command = command_line(arguments, checkpoints[number], out)
                    command += ["--figures"] if arguments.figures and side == "new" else []
                    found = run(command, tree, folder / f"cache-{side}-{repeat}", arguments.threads)
                    spent[step, side].append(found)
                    print(
                        f"{step}, {side}: {found.cpu:.1f} CPU s, {found.wall:.1f} wall s", file=sys.stderr, flush=True
                    )
        print_table(arguments, spent)
        for step in arguments.steps:
            print(agreement(step, folder / f"old-0-{step}", folder / f"new-0-{step}", arguments.command))


def make_checkpoints(folder: Path, arch: str, init: str, size: int) -> list[Path]:
    """Two weights files in timm's layout: the same network with two draws of noise of a thousandth of each tensor."""
    paths = []
    for seed in (1, 2):
        init_of = "imagenet" if init == "imagenet" else "none"
        model = build_backbone(BackboneConfig(name=arch, init=init_of), size, seed=7).model
        generator = torch.Generator().manual_seed(seed)
        state = {}
        for name, value in model.state_dict().items():
            noise = torch.randn(value.shape, generator=generator) if value.is_floating_point() else None
            if noise is not None and not name.endswith(("running_mean", "running_var")):
                value = value + _NOISE * float(value.abs().mean()) * noise
            state[name] = value.contiguous().clone()
        paths.append(folder / f"checkpoint{seed}.safetensors")
        save_file(state, paths[-1])
    return paths


def command_line(arguments: argparse.Namespace, checkpoint: Path, out: Path) -> list[str]:
    command = [arguments.command, str(checkpoint), "--arch", arguments.arch, "--size", str(arguments.size)]
    command += ["--device", "cpu", "--out", str(out)]
    if arguments.command == "evaluate":
        data = ",".join(str(Path(path).resolve()) for path in arguments.data)
        return [*command, "--datasets", data, "--protocol", arguments.protocol]
    command += ["--images", str(arguments.images)]
    return command + [word for path in arguments.data for word in ("--data", str(Path(path).resolve()))]


def run(command: list[str], tree: Path, cache: Path, threads: int) -> Spent:
    """Runs augscale of a tree; its output goes to the terminal only if it fails."""
    environment = os.environ | {"PYTHONPATH": str(tree), "AUGSCALE_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": str(threads)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "augscale", *command], cwd=tree, env=environment, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{tree}: augscale {' '.join(command)} failed\n{done.stdout}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu=cpu, wall=wall)


def print_table(arguments: argparse.Namespace, spent: dict[tuple[str, str], list[Spent]]) -> None:
    facts = [arguments.command, arguments.arch, f"{arguments.size} px", f"{arguments.threads} threads"]
    facts += [Path(path).name for path in arguments.data]
    print(f"\n{', '.join(facts)}; medians of {arguments.repeats} repeats\n")
    print("| step | old, CPU s | new, CPU s | ratio | old, wall s | new, wall s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for step in arguments.steps:
        cpu, wall = (
            [statistics.median(getattr(one, what) for one in spent[step, side]) for side in ("old", "new")]
            for what in ("cpu", "wall")
        )
        cells = [f"{old:.1f} | {new:.1f} | **{old / new:.2f}**" for old, new in (cpu, wall)]
        print(f"| {step} | {' | '.join(cells)} |")


def agreement(step: str, old: Path, new: Path, command: str) -> str:
    """How many numbers of the result's JSON agree, and each that differs by more than 0.1 %; words are counted only."""
    name = {"evaluate": "evaluation.json", "diagnose": "diagnosis.json"}[command]
    return compared(step, dict(read_values(old / name)), dict(read_values(new / name)))


def compared(step: str, before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """See `agreement`; values by their place in the file."""
    shared = before.keys() & after.keys()
    differences = {key: relative_difference(before[key], after[key]) for key in shared}
    words = [key for key, value in differences.items() if math.isinf(value)]
    numbers = {key: value for key, value in differences.items() if 0 < value < math.inf}
    far = sorted(key for key, value in numbers.items() if value > FAR)
    lines = [
        f"{step}: {len(shared)} values on both sides; {len(words)} differ in words or type, {len(numbers)} numbers "
        f"differ, {len(far)} by more than 0.1 %; {len(before) - len(shared)} only in old, "
        f"{len(after) - len(shared)} only in new"
    ]
    # Places of one kind differ in their indices only.
    kinds = Counter(re.sub(r"\[\d+\]", "[]", key) for key in far)
    lines += [f"    {count} x {kind}" for kind, count in kinds.most_common()]
    return "\n".join(lines + [f"    {key}: {before[key]!r} -> {after[key]!r}" for key in far])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="worktree of the older commit")
    parser.add_argument("command", choices=("evaluate", "diagnose"))
    parser.add_argument("--data", action="append", required=True, help="folder of photographs; may be repeated")
    parser.add_argument("--arch", default="vit_tiny_patch16_224", help="timm's name")
    parser.add_argument("--init", choices=("random", "imagenet"), default="random")
    parser.add_argument("--size", type=int, default=224, help="side of the views, pixels")
    parser.add_argument("--protocol", default="linear,knn", help="of evaluate")
    parser.add_argument("--images", type=int, default=128, help="of diagnose")
    parser.add_argument("--figures", action="store_true", help="the new side, too, draws diagnose's PNG figures")
    parser.add_argument(
        "--steps", type=lambda text: text.split(","), default=list(STEPS), help=f"of {','.join(STEPS)}, with commas"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--scratch", help="folder for outputs and caches; the system's for temporary files if not given"
    )
    arguments = parser.parse_args()
    if unknown := [step for step in arguments.steps if step not in STEPS]:
        parser.error(f"--steps {','.join(arguments.steps)}: no step {unknown[0]!r}; expected {', '.join(STEPS)}")
    return arguments


if __name__ == "__main__":
    main()
