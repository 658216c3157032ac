"""The cost of a view: both sides do the same work, and every row of the table is a measured time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from augscale.errors import ConfigError
from benchmarks.view_contenders import contenders
from benchmarks.views import Geometry, measure, parse_geometry

GEOMETRY = Geometry(source=40, global_view=32, local_view=16)


@pytest.mark.parametrize("size", [32, 16])
def test_every_transform_is_timed_at_tiny_sizes(size):
    rows = measure(GEOMETRY, size, device="cpu", batch=3, repeats=2)
    names = [row.name for row in rows]
    for wanted in ("draw parameters", "crop, resize, flip", "jitter: hue", "noise", "chain: weak+med"):
        assert wanted in names
    assert all(time > 0 for row in rows for time in (row.ours, row.pil, row.v2) if time is not None)
    assert all((row.pil is None) == (row.v2 is None) for row in rows)
    assert next(row for row in rows if row.name == "chain: strong").pil is not None


def test_chains_and_crops_of_all_contenders_give_views_of_one_size_and_kind():
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    found = {entry.name: entry for entry in contenders(images, 16, global_size=32)}
    chain = found["chain: strong"]
    ours, pil, tensor = chain.ours(), torch.stack(chain.pil()), torch.stack(chain.v2())
    assert ours.shape == pil.shape == tensor.shape == (3, 3, 16, 16)
    assert ours.dtype == pil.dtype == tensor.dtype == torch.float32


@pytest.mark.parametrize("text", ["224", "256:224", "a:b:c", "256:224:0"])
def test_a_wrong_geometry_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match=f"--geometry {text}: expected"):
        parse_geometry(text)
