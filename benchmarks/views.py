"""Cost of a view: every transform by itself and whole chains, beside torchvision's transforms of one image.

    python -m benchmarks.views                       # 224 and 96 px from 256 px, 48 and 24 px from 64 px
    python -m benchmarks.views --device cuda --batch 64
    python -m benchmarks.views --geometry 256:112:48 --threads 2

Ours works on a batch on its device, each view with factors of its own; torchvision on one image after the other, as in
a DataLoader's worker: from PIL ("PIL") and on a uint8 tensor with transforms v2 ("v2"). A transform is applied to every
view here (probability 1); chains draw with the probabilities of their preset. Contenders take turns, so that a drift of
the machine's speed meets all; figures are microseconds per view, medians over the repeats, ratios those of medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from augscale.augmentation.views import views_at_a_time
from augscale.errors import AugscaleError, ConfigError
from augscale.runs.folders import versions
from augscale.system.devices import cpu_cores, resolve_device
from augscale.system.startup import LARGE_PAGES_SETTING, LARGE_PAGES_VARIABLE, has_glibc
from benchmarks.machine import cpu_name
from benchmarks.view_contenders import Contenders, contenders

GEOMETRIES = ("256:224:96", "64:48:24")
MOST_VIEWS = 32
"""At a time, and no more than training works on together (6 of 224 px on a CPU): more fall out of its cache."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sides in pixels."""

    source: int
    global_view: int
    local_view: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """Microseconds per view of one transform at one size, medians; None where there is no such contender."""

    name: str
    size: int
    ours: float
    pil: float | None
    v2: float | None


def main() -> None:
    arguments = _arguments()
    if LARGE_PAGES_VARIABLE not in os.environ and has_glibc():
        # As training runs: buffers of MB are what a view is made in. torchvision gets the same.
        os.execve(
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            os.environ | {LARGE_PAGES_VARIABLE: LARGE_PAGES_SETTING},
        )
    try:
        geometries = [parse_geometry(text) for text in arguments.geometry or GEOMETRIES]
        device = resolve_device(arguments.device)
    except AugscaleError as error:
        raise SystemExit(f"{error}") from None
    torch.set_num_threads(arguments.threads)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name()
    print(f"device    {device} ({name}, {cpu_cores()} cores, {arguments.threads} threads)")
    print(f"versions  {', '.join(f'{package} {number}' for package, number in versions().items())}")
    most = arguments.batch or MOST_VIEWS
    print(f"setting   at most {most} views at a time, medians of {arguments.repeats} interleaved repeats\n")
    print(f"{'microseconds per view':34}{'px':>5}{'ours':>10}{'PIL':>10}{'v2':>10}{'PIL/ours':>10}{'v2/ours':>9}")
    for geometry in geometries:
        for size in (geometry.global_view, geometry.local_view):
            batch = arguments.batch or min(MOST_VIEWS, views_at_a_time(size, torch.device(device)))
            for row in measure(geometry, size, device=device, batch=batch, repeats=arguments.repeats):
                print(_line(row), flush=True)
            print()


def measure(geometry: Geometry, size: int, *, device: str, batch: int, repeats: int) -> list[Row]:
    """Times every transform at one size.

    Args:
        geometry: the source's side, and which size is the global one.
        size: of the views, pixels.
        device: of our batches; torchvision's images are on the CPU.
        batch: views per measurement.
        repeats: of every contender, in turns.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch, geometry.source, geometry.source, 3), dtype=np.uint8)
    found = contenders(images, size, global_size=geometry.global_view, device=device)
    return [_time(entry, size, batch, repeats, device) for entry in found]


def parse_geometry(text: str) -> Geometry:
    """SOURCE:GLOBAL:LOCAL in pixels.

    Raises:
        ConfigError: not three whole numbers above 0.
    """
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"--geometry {text}: expected SOURCE:GLOBAL:LOCAL in pixels, e.g. 256:224:96")
    source, global_view, local_view = map(int, parts)
    return Geometry(source=source, global_view=global_view, local_view=local_view)


def _time(entry: Contenders, size: int, batch: int, repeats: int, device: str) -> Row:
    sides = {"ours": entry.ours, "pil": entry.pil, "v2": entry.v2}
    actions = {side: action for side, action in sides.items() if action is not None}
    seconds: dict[str, list[float]] = {side: [] for side in actions}
    for action in actions.values():
        action()
    for _ in range(repeats):
        for side, action in actions.items():
            seconds[side].append(_seconds(action, device))
    each = {side: 1e6 * statistics.median(values) / batch for side, values in seconds.items()}
    return Row(name=entry.name, size=size, ours=each["ours"], pil=each.get("pil"), v2=each.get("v2"))


def _seconds(action: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    action()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _line(row: Row) -> str:
    def cell(value: float | None, width: int, digits: int) -> str:
        return f"{'' if value is None else f'{value:.{digits}f}':>{width}}"

    ratios = [None if other is None else other / row.ours for other in (row.pil, row.v2)]
    return (
        f"{row.name:34}{row.size:5}{row.ours:10.1f}{cell(row.pil, 10, 1)}{cell(row.v2, 10, 1)}"
        f"{cell(ratios[0], 10, 1)}{cell(ratios[1], 9, 1)}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", action="append", metavar="SOURCE:GLOBAL:LOCAL", help="pixels; may be repeated")
    parser.add_argument("--batch", type=int, help="views per measurement; else as many as training works on at a time")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
