"""Types of fields that are read leniently: values that an earlier version or a crash left out count as unknown."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator


def _finite(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _two_finite(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = _finite(value[0]), _finite(value[1])
    return None if low is None or high is None else (low, high)


def _finite_only(value: Any) -> Any:
    return {k: v for k, v in value.items() if _finite(v) is not None} if isinstance(value, dict) else {}


def _finite_points(value: Any) -> Any:
    return tuple((step, y) for step, y in value or () if _finite(y) is not None)


Number = Annotated[float | None, BeforeValidator(_finite)]
"""A finite number; anything else is read as None."""
Interval = Annotated[tuple[float, float] | None, BeforeValidator(_two_finite)]
"""Low and high of a 95 % interval; anything but two finite numbers is read as None."""
Numbers = Annotated[dict[str, float], BeforeValidator(_finite_only)]
"""Finite numbers by name; other entries are left out."""
Points = Annotated[tuple[tuple[int, float], ...], BeforeValidator(_finite_points)]
"""Values over optimizer steps; values that are not finite are left out."""
