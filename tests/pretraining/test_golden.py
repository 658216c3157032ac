"""Recorded loss curves of the training loop; they must not move.

The networks begin with weights that numpy draws, because torch's `trunc_normal_` draws other numbers from the same seed
in version 2.11 than in 2.14. With these weights torch 2.11.0 and 2.14.1 give curves that are equal to 7 digits. They
replace the curves of commit ecf5d8e, which began with torch's weights and, by torch 2.14.1, held when these were made.

Made on one x86-64 CPU thread with timm 1.0.31. The tolerance is for other CPUs, and with batch norm over four images,
which enlarges rounding from step to step, for another order of sums (memory format).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_runs import TINY_RESNET, tiny_study

from augscale.augmentation.scales import PRESETS
from augscale.pretraining import step
from augscale.pretraining.loop import pretrain

GOLDEN = {
    "vit": ({}, [1.7969946, 1.2687683, 1.0596975, 1.4775900, 1.2717464, 1.4699066], 0.1186857),
    "drop path": (
        {"backbone": {"drop_path": 0.3}},
        [1.8908978, 1.2475357, 1.1006706, 1.4873161, 1.3035820, 1.4722532],
        0.1201735,
    ),
    "batch norm": (
        {"backbone": TINY_RESNET, "head_batch_norm": True, "steps": 3},
        [5.4039230, 6.4239149, 5.3150368],
        1.5278620,
    ),
    "global views only": (
        {"crops": {"n_local": 0}},
        [1.3373137, 1.1282187, 1.1840067, 1.7342663, 1.3380518, 1.5660458],
        0.1012945,
    ),
}


def _drawn_by_numpy(network: torch.nn.Module) -> None:
    """Draws all parameters again; those that are constant, such as the scale of a norm, stay."""
    generator = np.random.default_rng(0)
    for _, parameter in sorted(network.named_parameters()):
        values = parameter.detach()
        if values.min() != values.max():
            fan_in = values[0].numel()
            values.copy_(torch.from_numpy(generator.normal(0, fan_in**-0.5, values.shape)))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_loss_curve_is_the_recorded_one(images, indices, monkeypatch, name):
    build = step.build_networks

    def built(*arguments):
        student, teacher = build(*arguments)
        _drawn_by_numpy(student)
        teacher.load_state_dict(student.state_dict())
        return student, teacher

    monkeypatch.setattr(step, "build_networks", built)
    fields, losses, information = GOLDEN[name]
    result = pretrain(images, indices, PRESETS["strong"], study=tiny_study(**fields), seed=3, device="cpu", log_every=1)
    found = [loss for _, loss in result.loss_history]
    np.testing.assert_allclose(found, losses, rtol=3e-4 if name == "batch norm" else 2e-5)
    np.testing.assert_allclose(result.information, information, rtol=1e-3)
