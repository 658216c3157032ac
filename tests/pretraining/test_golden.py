"""Loss curves recorded before the loop learned of several processes and of micro-batches; they must not move.

Made at commit ecf5d8e with torch 2.14.1 and timm 1.0.31 on one x86-64 CPU thread. The tolerance is for other CPUs, and
with batch norm over four images, which enlarges rounding from step to step, for another order of sums (memory format).
"""

from __future__ import annotations

import numpy as np
import pytest
from tiny_runs import tiny_study

from augscale.augmentation.scales import PRESETS
from augscale.pretraining.loop import pretrain

BATCH_NORM = {"backbone": {"name": "resnet10t", "overrides": {}}, "head_batch_norm": True, "steps": 3}
GOLDEN = {
    "vit": ({}, [6.0928392, 3.5550051, 1.6656990, 1.7285017, 1.0845852, 1.3899563], 0.0978780),
    "drop path": (
        {"backbone": {"drop_path": 0.3}},
        [6.6973467, 3.8558433, 1.7626159, 1.6617559, 1.2115479, 1.4457462],
        0.0671397,
    ),
    "batch norm": (BATCH_NORM, [5.8506557, 7.3809910, 7.4433985], 1.6938140),
    "global views only": (
        {"crops": {"n_local": 0}},
        [8.9304466, 4.6239357, 1.0524569, 0.8521271, 0.5741349, 0.8954849],
        0.0429736,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_loss_curve_is_the_recorded_one(images, indices, name):
    fields, losses, information = GOLDEN[name]
    result = pretrain(images, indices, PRESETS["strong"], study=tiny_study(**fields), seed=3, device="cpu", log_every=1)
    np.testing.assert_allclose(
        [loss for _, loss in result.loss_history], losses, rtol=3e-4 if name == "batch norm" else 2e-5
    )
    np.testing.assert_allclose(result.information, information, rtol=1e-3)
