"""The networks of a run: the student, which the optimizer trains, and the network that is evaluated."""

from __future__ import annotations

import torch

from augscale.config import StudyConfig
from augscale.errors import ConfigError
from augscale.networks.backbones import build_backbone, convert_sync_batchnorm
from augscale.networks.batch_norm import has_batch_norm, uses_batch_statistics
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.headed_network import HeadedNetwork
from augscale.pretraining.methods import check_method, method_of
from augscale.seeding import derive_seed


def build_networks(study: StudyConfig, seed: int, device: torch.device) -> tuple[HeadedNetwork, HeadedNetwork]:
    """Student and teacher with equal weights, in training mode; one network twice for a method without teacher.

    The teacher stays in training mode, as in the official code: it has no stochastic depth, and its batch norm, if any,
    normalizes with the statistics of its own batch while its running statistics converge. These depend on the training
    views, so networks are compared with common statistics, see `networks.batch_norm`.

    Args:
        study: backbone, crops, method and head.
        seed: seed of the run, from which the seed of the weights is derived.
        device: device of both networks.
    Raises:
        ConfigError: the model is unknown, or the crops or the method do not fit it.
        CheckpointError: `backbone.init` cannot be loaded.
    """
    method, weights_seed = method_of(study), derive_seed(seed, "weights")
    size, drop_path = study.crops.global_size, study.backbone.drop_path
    backbone = build_backbone(study.backbone, size, drop_path=drop_path, seed=weights_seed)
    check_method(study, backbone)
    student = method.network(study, backbone, weights_seed, student=True)
    if study.crops.n_local:
        student.backbone.check_view_size(study.crops.local_size, "crops.local_size")
    if not method.has_teacher:
        student = student.to(device).train()
        return student, student
    architecture = study.backbone.model_copy(update={"init": "none"})
    teacher = method.network(study, build_backbone(architecture, size), weights_seed, student=False)
    trained = student.state_dict()
    teacher.load_state_dict({name: trained[name] for name in teacher.state_dict()})
    teacher.requires_grad_(False)
    return student.to(device).train(), teacher.to(device).train()


def uses_common_statistics(study: StudyConfig) -> bool:
    """True if a study's networks are compared with common batch norm statistics, see `networks.batch_norm`.

    False without batch norm, and for frozen batch norm, whose statistics are those of the start in every network.
    """
    if study.pretrain.batch_norm == "frozen":
        return False
    with torch.device("meta"):
        backbone = build_backbone(study.backbone.model_copy(update={"init": "none"}), study.crops.global_size)
    return has_batch_norm(backbone)


def distribute_networks(
    student: HeadedNetwork, teacher: HeadedNetwork, context: DistributedContext, device: torch.device
) -> tuple[HeadedNetwork, HeadedNetwork]:
    """Student and teacher for several processes: synchronized batch norm, and the teacher's weights of rank 0.

    `context.data_parallel` makes the student's weights equal.

    Raises:
        ConfigError: batch norm over CPU processes.
    """
    if device.type == "cpu" and uses_batch_statistics(student):
        raise ConfigError(
            "batch norm over several processes needs GPUs; expected one process, a backbone without batch "
            "norm and pretrain.head_batch_norm = false, or GPUs"
        )
    has_teacher = teacher is not student
    student = synchronize_batch_norm(student)
    teacher = synchronize_batch_norm(teacher) if has_teacher else student
    context.broadcast_weights(teacher)
    return student, teacher


def synchronize_batch_norm(network: HeadedNetwork) -> HeadedNetwork:
    """The network with batch norm over all processes, on GPUs; parameters and buffers keep their names."""
    converted: HeadedNetwork = convert_sync_batchnorm(network)
    return converted
