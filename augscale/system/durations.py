"""Durations for people."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """1:05:09, 12:34 or 0:07; an empty string for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
