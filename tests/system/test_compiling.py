"""When a run compiles, and that it goes on where torch cannot."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from augscale.errors import ConfigError
from augscale.system import compiling
from augscale.system.compiling import FEWEST_STEPS, resolve_compile

GPU = torch.device("cuda")


@pytest.fixture
def reason(monkeypatch: pytest.MonkeyPatch):
    def say(text: str | None) -> None:
        monkeypatch.setattr(compiling, "why_not", lambda device: text)

    return say


@pytest.mark.parametrize(
    ("setting", "steps", "expected"),
    [("auto", FEWEST_STEPS, True), ("auto", FEWEST_STEPS - 1, False), ("always", 1, True), ("never", 10**6, False)],
)
def test_on_a_gpu_long_runs_compile(reason, setting: str, steps: int, expected: bool):
    reason(None)
    assert resolve_compile(setting, GPU, steps) is expected


def test_on_a_cpu_nothing_is_compiled(reason):
    reason(None)
    assert not any(resolve_compile(setting, torch.device("cpu"), 10**6) for setting in ("auto", "always"))


def test_where_torch_cannot_a_run_goes_on_or_says_what_is_missing(reason):
    reason("RuntimeError: no C compiler")
    with pytest.warns(UserWarning, match=r"torch cannot compile here \(RuntimeError: no C compiler\)"):
        assert not resolve_compile("auto", GPU, 10**6)
    with pytest.raises(ConfigError, match=r"pretrain.compile = 'always'.*no C compiler.*expected 'auto' or 'never'"):
        resolve_compile("always", GPU, 10**6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not resolve_compile("never", GPU, 10**6)
        assert not resolve_compile("auto", GPU, 1)


def test_a_failure_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch):
    def fails(function):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    compiling.why_not.cache_clear()
    monkeypatch.setattr(compiling, "compiled_version", fails)
    try:
        assert compiling.why_not(torch.device("cpu")) == "RuntimeError: Failed to find C compiler."
    finally:
        compiling.why_not.cache_clear()


def test_more_shapes_than_torch_allows_by_default_are_compiled(monkeypatch: pytest.MonkeyPatch):
    """As when memory runs out twice: first or other block, two crop sizes and teacher, in three sizes."""
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    compiling.compiled_version.cache_clear()
    try:
        double = compiling.compiled_version(_double)
        for rows in range(2, 20):
            assert torch.equal(double(torch.ones(rows)), torch.full((rows,), 2.0))
        assert counter.frame_count == 18
    finally:
        compiling.compiled_version.cache_clear()


def _double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x
