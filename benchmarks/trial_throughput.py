"""Images per second of a whole trial loop: ours beside the official recipe's per-image pipeline, in one process run.

    python -m benchmarks.trial_throughput                      # the default study's setting
    python -m benchmarks.trial_throughput --study fundus-vits16 --batch-size 64 --data DIR

Both loops train the same timm backbone with the same crops and the same images; they take turns (ours, theirs, ours,
...), so that a drift of the machine's speed meets both. Printed: medians, the ratio, and the share of each part.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from augscale.augmentation.scales import load_scales
from augscale.cli_options import parse_assignments
from augscale.config import StudyConfig, load_study
from augscale.data.cache import ImageCache, build_cache
from augscale.data.splits import hold_out
from augscale.devices import cpu_cores, resolve_device
from augscale.diagnosis.panel import build_panel
from augscale.diagnosis.score import score_backbone
from augscale.pretraining.backbones import build_backbone
from augscale.pretraining.loop import pretrain
from augscale.runs import versions
from benchmarks.official_recipe import OfficialLoop


def main() -> None:
    arguments = _arguments()
    overrides = {"data.sources": arguments.data, "pretrain.batch_size": arguments.batch_size}
    overrides |= {"pretrain.steps": arguments.steps, "data.max_images": arguments.images}
    config = load_study(arguments.study, overrides | parse_assignments(arguments.set or []))
    device = resolve_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    start = time.perf_counter()
    cache = build_cache(config.data)
    decode_seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        official = OfficialLoop(_files(cache, Path(folder)), config, device, arguments.workers)
        official.step()
        ours_rates, parts, theirs_rates, waits = [], [], [], []
        for repeat in range(arguments.repeats):
            rate, seconds = _ours(cache, config, device, repeat)
            ours_rates.append(rate)
            parts.append(seconds)
            rate, waited = _official(official, config, arguments.steps, device)
            theirs_rates.append(rate)
            waits.append(waited)
    _print(arguments, config, device, cache, decode_seconds, ours_rates, parts, theirs_rates, waits)


def _ours(cache: ImageCache, config: StudyConfig, device: str, seed: int) -> tuple[float, dict[str, float]]:
    """A whole trial including its set-up and one scoring; the first rung is not timed apart."""
    train, held_out = hold_out(cache.records, config.probe.images, 0)
    panel = build_panel(cache.images, held_out, cache.records, config.probe, config.crops)
    start = time.perf_counter()
    result = pretrain(cache.images, train, load_scales("strong"), study=config, seed=seed, device=device)
    trained = time.perf_counter()
    score_backbone(result.backbone, panel, config.probe, device=device, bootstrap=config.probe.bootstrap)
    scored = time.perf_counter()
    images = config.pretrain.steps * config.pretrain.batch_size
    seconds = dict(result.seconds_by_part)
    seconds["other"] = max(0.0, trained - start - sum(seconds.values()))
    seconds["scoring, once"] = scored - trained
    return images / (trained - start), seconds


def _official(loop: OfficialLoop, config: StudyConfig, steps: int, device: str) -> tuple[float, float]:
    start, waited = time.perf_counter(), 0.0
    for _ in range(steps):
        waited += loop.step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return steps * config.pretrain.batch_size / seconds, waited / seconds


def _files(cache: ImageCache, folder: Path) -> list[Path]:
    """The originals; procedural images are written as JPEG first, as a user would have them."""
    files = [record.path for record in cache.records if record.path is not None]
    if files:
        return files
    for index, image in enumerate(cache.images):
        path = folder / f"{index:05d}.jpg"
        Image.fromarray(image).save(path, quality=92)
        files.append(path)
    return files


def _print(
    arguments: argparse.Namespace,
    config: StudyConfig,
    device: str,
    cache: ImageCache,
    decode_seconds: float,
    ours: list[float],
    parts: list[dict[str, float]],
    theirs: list[float],
    waits: list[float],
) -> None:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "CPU"
    backbone = build_backbone(config.backbone, config.crops.global_size)
    parameters = sum(parameter.numel() for parameter in backbone.parameters()) / 1e6
    crops = config.crops
    print(f"device      {device} ({name}, {cpu_cores()} cores, {arguments.threads} threads)")
    print(f"versions    {', '.join(f'{package} {number}' for package, number in versions().items())}")
    print(f"setting     {config.backbone.name} {config.backbone.overrides or ''} ({parameters:.1f} M parameters)")
    print(
        f"            2 x {crops.global_size} + {crops.n_local} x {crops.local_size} px, batch "
        f"{config.pretrain.batch_size}, out_dim {config.pretrain.out_dim}, {len(cache.records)} images"
    )
    print(f"repeats     {arguments.repeats} interleaved, {arguments.steps} steps each\n")
    rate, other = statistics.median(ours), statistics.median(theirs)
    print(f"{'loop':44} {'images/s':>9}   runs")
    print(f"{'augscale':44} {rate:9.1f}   {', '.join(f'{value:.1f}' for value in ours)}")
    label = f"official recipe, {arguments.workers} DataLoader workers"
    print(f"{label:44} {other:9.1f}   {', '.join(f'{value:.1f}' for value in theirs)}")
    print(f"{'ratio':44} {rate / other:9.2f}\n")
    total = {part: statistics.median(seconds.get(part, 0.0) for seconds in parts) for part in parts[0]}
    trial = sum(total.values())
    print("share of a trial (augscale)")
    for part, seconds in total.items():
        print(f"  {part:42} {100 * seconds / trial:8.1f} %")
    print(f"  decoding, once per study: {decode_seconds:.1f} s for {len(cache.records)} images (0 when cached)")
    print(f"official recipe waits for data: {100 * statistics.median(waits):.0f} % of its time")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="default")
    parser.add_argument("--data", action="append", help="folder or manifest; the study's if not given")
    parser.add_argument("--images", type=int, help="use a subset of this many images")
    parser.add_argument("--set", action="append", help="any setting of the study, KEY=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cpu_cores())
    parser.add_argument("--workers", type=int, default=cpu_cores(), help="DataLoader workers of the official recipe")
    return parser.parse_args()


if __name__ == "__main__":
    main()
