"""Python blocks of the documents, run in order and page by page at toy size.

The arguments of the long calls (search, promotion, ...) must fit the function's signature; the call itself is made with
smaller ones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from document_blocks import DOCUMENTS, ROOT, blocks
from PIL import Image
from tiny_runs import worker_in_this_process

import augscale
from augscale.demo import render
from augscale.demo.patients import synthetic_records

PAGES = [page for page in DOCUMENTS if any(block.language == "python" for block in blocks(page))]
CLASSES = ("0", "4")
LEFT_OUT = object()
"""Stands for an argument of the page that the smaller call does without."""
SMALLER_NUMBERS = {
    "bootstrap=500": "bootstrap=5",
    "bootstrap=200": "bootstrap=5",
    "20_000": "300",
    "(16, 256, 256, 3)": "(2, 256, 256, 3)",
    "np.arange(16)": "np.arange(2)",
}
"""Numbers of the pages, and what stands in their place."""


@pytest.fixture(scope="module")
def readers_files(tmp_path_factory) -> Path:
    """Photographs in `my_data`, and the checkpoints a.pth and b.safetensors."""
    folder = tmp_path_factory.mktemp("reader")
    for label in CLASSES:
        records = [record for record in synthetic_records(60, 0) if record.label == label][:15]
        for record in records:
            path = folder / "my_data" / label / f"{record.image_id.replace('/', '_')}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render(record.image_id, 0, 40)).save(path)
    torch.manual_seed(0)
    for name, save in (("a.pth", torch.save), ("b.safetensors", safetensors.torch.save_file)):
        save(timm.create_model("resnet10t", num_classes=0).state_dict(), folder / name)
    return folder


def _smaller(name: str, **arguments: Any) -> Callable[..., Any]:
    function = getattr(augscale, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(function).bind(*args, **kwargs).arguments | arguments
        return function(**{key: value for key, value in given.items() if value is not LEFT_OUT})

    return call


@pytest.fixture
def toy_size(readers_files, monkeypatch) -> Iterator[None]:
    monkeypatch.chdir(readers_files)
    few_trials = {
        "pretrain.steps": 4,
        "probe.bootstrap": 5,
        "search.controls": ["weak", "strong"],
        "search.null_trials": 0,
        "search.prune": False,
        "search.keep_weights": "rungs",
        "confirm.seeds": 0,
    }
    sizes: dict[str, dict[str, Any]] = {
        "search": {
            "data": "my_data", "study": "smoke", "trials": 4, "out": "runs/fundus", "overrides": few_trials,
            "workers": 1, "device": "cpu", "quiet": True, "allow_bad": True,
        },
        "promote": {
            "epochs": LEFT_OUT, "steps": 2, "confirm_seeds": 1, "controls": ("weak",), "datasets": None,
            "evaluations": 1, "workers": 1, "device": "cpu",
        },
        "validate": {"protocols": ("knn",), "bootstrap": 20, "resamples": 20, "device": "cpu", "allow_bad": True},
        "pretrain_full": {
            "data": "my_data", "study": "smoke", "epochs": LEFT_OUT, "steps": 2, "evaluations": 1, "device": "cpu",
            "quiet": True, "allow_bad": True,
        },
        "diagnose": {
            "data": "my_data", "images": 8, "views": 2, "size": 32, "scales": ("weak",), "bootstrap": 5,
            "untrained": False, "device": "cpu", "allow_bad": True,
        },
        "evaluate": {"size": 32, "untrained": False, "device": "cpu", "allow_bad": True},
        "pretrain": {"device": "cpu"},
    }  # fmt: skip
    for name, arguments in sizes.items():
        monkeypatch.setattr(augscale, name, _smaller(name, **arguments))
    with worker_in_this_process():
        yield


@pytest.fixture
def readers_names(images, indices) -> dict[str, Any]:
    """Names that the pages take for given."""
    values = np.random.default_rng(0)
    scores = values.normal(size=12)
    return {
        "images_uint8": images,
        "indices": indices,
        "scores": scores,
        "aurocs": scores + values.normal(size=12),
        "settings": np.arange(12),
        "resampled_aurocs": scores + values.normal(size=(20, 12)),
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_blocks_of_a_page_run_in_order(page, toy_size, readers_names):
    names = dict(readers_names)
    for block in blocks(page):
        if block.language == "python":
            text = block.text
            for number, smaller in SMALLER_NUMBERS.items():
                text = text.replace(number, smaller)
            # Line numbers of a failure are those of the page.
            exec(compile("\n" * (block.line - 1) + text, page.name, "exec"), names)
