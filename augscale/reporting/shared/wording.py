"""Wording of numbers, scales and verdicts, the same in figures, tables and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from augscale.records.answer import ContenderRecord, UntrainedComparison
from augscale.records.metrics import score_label
from augscale.records.panel import HealthRecord
from augscale.records.trial import COLLAPSED

NOTHING = "–"
UNTRAINED = "untrained"
UNTRAINED_WORDS = "the network before training"
MINUS = "\N{MINUS SIGN}"
BETTER = "▲"
WORSE = "▼"
LEVEL = "="
"""Marks of a comparison: better, worse, not distinguishable."""
_TO_ASCII = str.maketrans({MINUS: "-", NOTHING: "-", "’": "'", "α": "alpha", "…": "...", BETTER: ">", WORSE: "<"})

STATE_NAMES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    COLLAPSED: "collapsed",
}
HEALTH_NAMES = {
    "healthy": "healthy",
    "suspicious": "suspicious",
    "collapsed": "collapsed: cannot be the answer",
}

FIELDS: dict[str, tuple[str, str]] = {
    "global_crops_scale": ("Global crops", "area, % of the image"),
    "local_crops_scale": ("Local crops", "area, % of the image"),
    "brightness": ("Brightness", "±, factor"),
    "contrast": ("Contrast", "±, factor"),
    "saturation": ("Saturation", "±, factor"),
    "hue": ("Hue", "±, turns"),
    "jitter_p": ("Color jitter", "probability"),
    "grayscale_p": ("Grayscale", "probability"),
    "blur_p": ("Blur", "probability: global 1, global 2, local"),
    "blur_sigma": ("Blur sigma", "pixels at 224 px"),
    "solarize_p": ("Solarize", "probability: global 1, global 2, local"),
    "horizontal_flip_p": ("Horizontal flip", "probability"),
    "vertical_flip_p": ("Vertical flip", "probability"),
    "aspect_ratio": ("Aspect ratio", "width / height"),
    "med_blur_std": ("Medical blur", "largest sigma, pixels"),
    "med_blur_p": ("Medical blur", "probability"),
    "noise_std": ("Noise", "largest SD, image in 0 to 1"),
    "noise_p": ("Noise", "probability"),
    "bias_field_coefficients": ("Bias field", "largest coefficient"),
    "bias_field_p": ("Bias field", "probability"),
    "bias_field_order": ("Bias field", "order"),
}
"""Label and unit of every field of the scales, in the order of tables."""

PARAMETERS: dict[str, tuple[str, str]] = {
    "global_crop_low": ("Smallest global crop", "% of the image area"),
    "local_crop_low": ("Smallest local crop", "% of the image area"),
    "local_crop_width": ("Local crops: largest − smallest", "% of the image area"),
    "jitter": ("Jitter strength", "brightness and contrast, ± factor"),
}
"""Label and unit of the parameters that are not fields themselves."""


def parameter_label(name: str) -> tuple[str, str]:
    """Label and unit of a searched parameter."""
    return PARAMETERS.get(name) or FIELDS.get(name) or (name, "")


def is_area(parameter: str) -> bool:
    """True if a parameter is a fraction of the image's area, shown as a percentage."""
    return parameter in PARAMETERS and parameter != "jitter"


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals; a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """A difference, with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(bounds: tuple[float, float] | None, *, sign: bool = False, digits: int = 3) -> str:
    """`0.123 to 0.456`; "" for None."""
    write = signed if sign else number
    return f"{write(bounds[0], digits)} to {write(bounds[1], digits)}" if bounds else ""


def field_label(name: str) -> tuple[str, str]:
    """Label and unit of a field of the scales."""
    return FIELDS.get(name, (name.replace("_", " "), ""))


def field_value(name: str, value: Any) -> str:
    """One field of the scales: areas in percent, a range as `5 to 40`, several probabilities as `1 / 0.1 / 0.5`."""
    if value is None:
        return NOTHING
    if not isinstance(value, (list, tuple)):
        return f"{round(value, 3):.3g}" if isinstance(value, (int, float)) else str(value)
    factor = 100 if name.endswith("crops_scale") else 1
    parts = [f"{round(factor * part, 3):.3g}" for part in value]
    if len(parts) != 2:
        return " / ".join(parts)
    return parts[0] if parts[0] == parts[1] else f"{parts[0]} to {parts[1]}"


def short_scales(scales: Mapping[str, Any]) -> str:
    """Crops and jitter in one line, for hover texts and narrow tables."""
    parts = [
        f"{label} {field_value(name, scales[name])} %"
        for name, label in (("global_crops_scale", "global"), ("local_crops_scale", "local"))
        if name in scales
    ]
    if "brightness" in scales:
        parts.append(f"jitter {field_value('brightness', scales['brightness'])}")
    return ", ".join(parts)


def verdict(best: str, other: ContenderRecord, score_name: str) -> tuple[str, str]:
    """Compares the best with another contender in words.

    Args:
        best: name of the best.
        other: a contender; its `versus_best` is its score minus the best's.
        score_name: of `probe.score`.
    Returns:
        A sentence, and its numbers (empty where nothing was compared).
    """
    versus = other.versus_best
    if versus is None:
        return f"{best} was not compared with {other.name} on fresh seeds", ""
    low, high = versus.interval
    numbers = (
        f"difference {signed(-versus.difference)} {score_label(score_name)}, "
        f"95 % interval {interval((-high, -low), sign=True)}"
    )
    if not versus.distinguishable:
        return f"{best} is not distinguishable from {other.name}", numbers
    return f"{best} is {'better' if versus.difference < 0 else 'worse'} than {other.name}", numbers


def untrained_verdict(best: str, versus: UntrainedComparison, score_name: str, *, judged: bool) -> tuple[str, str]:
    """Compares the best with the network before training: a sentence and its numbers.

    Args:
        judged: False if one seed was run, which allows no verdict. The interval is over images only then, and is left
            out.
    """
    numbers = f"difference {signed(versus.difference)} {score_label(score_name)}"
    if versus.interval and judged:
        numbers += f", 95 % interval {interval(versus.interval, sign=True)}"
    if not judged:
        return f"{best} against {UNTRAINED_WORDS}: one seed, no verdict", numbers
    return f"{best} {'scores' if versus.beaten else 'does not score'} higher than {UNTRAINED_WORDS}", numbers


def plain(text: str) -> str:
    """Text for logs and pipes, whose encoding may lack typographic signs."""
    return text.translate(_TO_ASCII)


def health_words(health: HealthRecord | None) -> tuple[str, str]:
    """The verdict in words, and its evidence."""
    if health is None:
        return NOTHING, ""
    return HEALTH_NAMES.get(health.verdict, health.verdict), "; ".join(health.evidence)


def duration(seconds: float | None) -> str:
    """`2 h 05 min`, `3 min 20 s` or `12 s`."""
    if seconds is None:
        return NOTHING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def moment(iso: Any) -> str:
    """An ISO time as `2025-11-24 03:22 UTC`; any other value unchanged."""
    try:
        return f"{datetime.fromisoformat(str(iso)):%Y-%m-%d %H:%M %Z}".strip()
    except ValueError:
        return str(iso)
