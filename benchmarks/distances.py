"""Statistics of all negative pairs beside bare distance products, faiss, torch and scipy; time and peak memory.

    python -m benchmarks.distances                        # 2,000, 10,000 and 20,000 embeddings of 384 features
    python -m benchmarks.distances --sizes 5000 --dim 768 --threads 4
    python -m benchmarks.distances --large                # also 100,000: five billion pairs, minutes

Every measurement is a process of its own, so that its peak memory is its own; contenders take turns (a, b, c, a, ...),
so that a drift of the machine's speed meets all; CPU seconds (all threads) hardly depend on what else runs.
The others only compute distances and drop them, ours also gives
count, mean, standard deviation, smallest, two histograms and sums per row. `products` is the least that any method
with the same float32 arithmetic must do: one matrix product for each tile of the upper triangle.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from augscale.runs.folders import versions
from augscale.scoring.distances import upper_blocks
from augscale.scoring.pair_stream import TILE_ROWS, stream_pairs
from augscale.system.devices import cpu_cores

BLOCK_ROWS = 1024
SCIPY_MOST = 2000
LARGE = 100_000
LARGE_CONTENDERS = ("products", "ours, normalised", "ours")


def products(points: np.ndarray, threads: int) -> None:
    """One product per tile of the upper triangle, each tile by one thread, as `stream_pairs` does."""
    rows = torch.from_numpy(points)
    torch.set_num_threads(1)

    def work(number: int) -> None:
        memory = torch.empty(TILE_ROWS**2)
        for index, (a, b) in enumerate(upper_blocks(len(rows), TILE_ROWS)):
            if index % threads == number:
                left, right = rows[a], rows[b]
                torch.mm(left, right.T, out=memory[: len(left) * len(right)].view(len(left), len(right)))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))


def products_square(points: np.ndarray, threads: int) -> None:
    """One product per block of rows with all rows, on torch's threads: each pair twice."""
    torch.set_num_threads(threads)
    rows = torch.from_numpy(points)
    for part in rows.split(BLOCK_ROWS):
        part @ rows.T


def faiss_pairwise(points: np.ndarray, threads: int) -> None:
    import faiss

    faiss.omp_set_num_threads(threads)
    for begin in range(0, len(points), BLOCK_ROWS):
        faiss.pairwise_distances(points[begin : begin + BLOCK_ROWS], points)


def torch_cdist(points: np.ndarray, threads: int) -> None:
    torch.set_num_threads(threads)
    rows = torch.from_numpy(points)
    for part in rows.split(BLOCK_ROWS):
        torch.cdist(part, rows)


def scipy_cdist(points: np.ndarray, threads: int) -> None:
    from scipy.spatial.distance import cdist

    for begin in range(0, len(points), BLOCK_ROWS):
        cdist(points[begin : begin + BLOCK_ROWS], points)


def ours(points: np.ndarray, threads: int, **options: bool) -> None:
    stream_pairs(points, threads=threads, **options)


CONTENDERS: dict[str, Callable[[np.ndarray, int], None]] = {
    "products": products,
    "ours, normalised": lambda points, threads: ours(points, threads, raw=False),
    "ours": ours,
    "ours, for bootstrap": lambda points, threads: ours(points, threads, row_histograms=True),
    "products, square": products_square,
    "faiss.pairwise_distances": faiss_pairwise,
    "torch.cdist": torch_cdist,
    "scipy cdist": scipy_cdist,
}


def main() -> None:
    arguments = _arguments()
    if arguments.one is not None:
        print(json.dumps(_measure(arguments.one, arguments.sizes[0], arguments.dim, arguments.threads)))
        return
    print(f"cpu       {_cpu()}, {cpu_cores()} cores, {arguments.threads} threads")
    print(f"versions  {', '.join(f'{package} {number}' for package, number in versions().items())}")
    print(f"setting   float32, {arguments.dim} features, every row its own group")
    for size in [*arguments.sizes, *([LARGE] if arguments.large else [])]:
        _table(size, arguments)


def _table(size: int, arguments: argparse.Namespace) -> None:
    names = [name for name in CONTENDERS if size <= SCIPY_MOST or name != "scipy cdist"]
    names = [name for name in names if size < LARGE or name in LARGE_CONTENDERS]
    repeats = arguments.repeats if size < LARGE else 1
    seconds: dict[str, list[float]] = {name: [] for name in names}
    busy: dict[str, list[float]] = {name: [] for name in names}
    memory = dict.fromkeys(names, 0.0)
    for _ in range(repeats):
        for name in names:
            found = _in_own_process(name, size, arguments)
            seconds[name].append(found["seconds"])
            busy[name].append(found["cpu"])
            memory[name] = max(memory[name], found["peak_mib"])
    medians = {name: statistics.median(seconds[name]) for name in names}
    work = {name: statistics.median(busy[name]) for name in names}
    pairs = size * (size - 1) // 2
    print(f"\n{size:,} embeddings, {pairs:,} pairs, median of {repeats} interleaved")
    print(
        f"{'':26}{'seconds':>9}{'range':>16}{'M pairs/s':>11}{'ratio':>8}"
        f"{'to square':>11}{'CPU s':>8}{'ratio':>8}{'peak MiB':>10}"
    )
    for name in names:
        span = f"{min(seconds[name]):.2f}-{max(seconds[name]):.2f}"
        square = medians.get("products, square")
        print(
            f"{name:26}{medians[name]:9.2f}{span:>16}{pairs / medians[name] / 1e6:11.1f}"
            f"{medians[name] / medians['products']:8.2f}"
            f"{medians[name] / square if square else float('nan'):11.2f}"
            f"{work[name]:8.2f}{work[name] / work['products']:8.2f}{memory[name]:10.0f}"
        )


def _in_own_process(name: str, size: int, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.distances", "--one", name, "--sizes", str(size)]
    command += ["--dim", str(arguments.dim), "--threads", str(arguments.threads)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{name}, {size}: {finished.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def _measure(name: str, size: int, dim: int, threads: int) -> dict[str, float]:
    points = np.random.default_rng(0).standard_normal((size, dim), dtype=np.float32)
    CONTENDERS[name](points[:600], threads)
    start, busy = time.perf_counter(), time.process_time()
    CONTENDERS[name](points, threads)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return {"seconds": seconds, "cpu": busy, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "CPU"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 10_000, 20_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--threads", type=int, default=cpu_cores())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", action="store_true", help=f"also {LARGE:,} embeddings, once")
    parser.add_argument("--one", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
