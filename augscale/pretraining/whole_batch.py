"""Exact gradients of a loss that compares the images of a batch, in micro-batches (GradCache, Gao et al. 2021).

Such a loss is no sum over micro-batches. With one micro-batch the step is the usual one. With several it makes two
passes: the first computes the outputs of all micro-batches without gradients, the loss of all outputs, and the gradient
of the loss with respect to every output; the second computes each micro-batch again, with gradients, and hands the
stored gradients of its outputs to the backward pass. This is the chain rule, so the result does not depend on the
number of micro-batches, up to rounding, and memory holds the activations of one micro-batch and the outputs of all. The
price is a second forward pass of the student.

Batch norm sees one micro-batch at a time, as in every method; its running statistics move in the second pass only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from augscale.augmentation.views import Views
from augscale.pretraining.batches import Shard
from augscale.pretraining.distributed import gradient_sync
from augscale.pretraining.forward import Forward
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.method import StepFacts, Tensors
from augscale.pretraining.monitor import Clock
from augscale.pretraining.out_of_memory import put_back


def backward_of_whole_batch(
    forward: Forward,
    student: nn.Module,
    plain_student: HeadedNetwork,
    teacher: HeadedNetwork,
    shards: Sequence[Shard],
    step: int,
    facts: StepFacts,
    clock: Clock,
    *,
    synchronize: bool = True,
    views: Views | None = None,
) -> Tensors:
    """Adds the gradients of a process's part of the batch to those of the student's parameters.

    Args:
        forward: runs the networks.
        student: possibly wrapped for several processes.
        plain_student: the same network without wrapper.
        teacher: the network of the targets.
        shards: the micro-batches of this process.
        step: optimizer updates done.
        facts: given to the loss.
        synchronize: average gradients over the processes in the last backward pass.
        views: used instead of the views of a single shard.
    Returns:
        Statistics of the loss.
    """
    method = forward.method
    if len(shards) == 1:
        part = forward.part(step, shards[0], clock, views)
        with gradient_sync(student, enabled=synchronize):
            with clock.part("forward"):
                targets, outputs = forward.targets(teacher, part), forward.outputs(student, part)
                objective, statistics = method.loss(outputs, targets, facts)
            with clock.part("backward"):
                objective.backward()
        return statistics

    buffers = list(plain_student.buffers())
    before = [buffer.clone() for buffer in buffers]
    found: list[tuple[Tensors, Tensors]] = []
    for shard in shards:
        part = forward.part(step, shard, clock)
        with clock.part("forward"), torch.no_grad():
            found.append((forward.targets(teacher, part), forward.outputs(plain_student, part)))
    targets, outputs = (_joined([pair[i] for pair in found]) for i in (0, 1))
    lengths = [{name: tensor.shape[1] for name, tensor in pair[1].items()} for pair in found]
    found.clear()
    leaves = {name: tensor.requires_grad_() for name, tensor in outputs.items()}
    with clock.part("forward"):
        objective, statistics = method.loss(leaves, targets, facts)
    with clock.part("backward"):
        # A part of the loss that is switched off leaves its outputs without a gradient.
        whole = torch.autograd.grad(objective, list(leaves.values()), allow_unused=True, materialize_grads=True)
    gradients = dict(zip(leaves, whole, strict=True))
    put_back(buffers, before)
    begin = dict.fromkeys(leaves, 0)
    for shard, length in zip(shards, lengths, strict=True):
        part = forward.part(step, shard, clock)
        with gradient_sync(student, enabled=synchronize and shard is shards[-1]):
            with clock.part("forward"):
                again = forward.outputs(student, part)
            slices = {}
            for name in again:
                slices[name] = gradients[name].narrow(1, begin[name], length[name])
                begin[name] += length[name]
            # Those of a frozen backbone have no gradient.
            trained = [name for name in again if again[name].requires_grad]
            with clock.part("backward"):
                torch.autograd.backward([again[name] for name in trained], [slices[name] for name in trained])
    return statistics


def _joined(parts: Sequence[Tensors]) -> Tensors:
    """The outputs of consecutive parts as those of all their images."""
    return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
