"""The pre-training methods by the name that `pretrain.method` gives them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale import doc_pages
from augscale.config import StudyConfig
from augscale.data.sources import scan_data
from augscale.data.splits import patient_groups
from augscale.errors import ConfigError
from augscale.networks.backbones import Backbone, build_backbone
from augscale.pretraining.contrastive_methods import MoCoV3, SimCLR
from augscale.pretraining.dino_method import DINO
from augscale.pretraining.dinov2_method import DINOv2
from augscale.pretraining.method import Method

METHODS: dict[str, type[Method]] = {method.name: method for method in (DINO, SimCLR, MoCoV3, DINOv2)}


NO_PAIRS = (
    "pretrain.natural_positives = true: no patient has two images to train on; expected data.sources with a column "
    f"patient_id ({doc_pages.TABLES}), or false"
)


def method_of(study: StudyConfig) -> type[Method]:
    """The method that a study trains with."""
    return METHODS[study.pretrain.method]


def check_method(study: StudyConfig, backbone: Backbone) -> None:
    """Checks that the study's method and backbone fit together.

    Raises:
        ConfigError: they do not; the message says what to change.
    """
    method_of(study).check(study, backbone)


def check_networks(study: StudyConfig) -> int:
    """Checks the backbone, sizes of views and method of a study without loading weights.

    Returns:
        The number of parameters of the backbone.
    Raises:
        ConfigError: they do not fit together; the message says what to change.
    """
    architecture = study.backbone.model_copy(update={"init": "none"})
    backbone = build_backbone(architecture, study.crops.global_size)
    if study.crops.n_local:
        backbone.check_view_size(study.crops.local_size, "crops.local_size")
    check_method(study, backbone)
    return sum(parameter.numel() for parameter in backbone.parameters())


def chance_loss(study: StudyConfig) -> float | None:
    """The loss of a network whose outputs say nothing, nats; None where the method has no such number."""
    return method_of(study).chance_loss(study)


def has_pairs(patients: npt.NDArray[np.int64] | None) -> bool:
    """True if any patient has two images; False if patients are unknown (None)."""
    return patients is not None and len(np.unique(patients)) < len(patients)


def check_patients(study: StudyConfig) -> None:
    """Checks, before any image is decoded, that natural positives have patients with several images.

    Raises:
        ConfigError: no source tells such patients.
        DataError: a source cannot be listed.
    """
    if not study.pretrain.natural_positives:
        return
    if not has_pairs(patient_groups(scan_data(study.data).records)):
        raise ConfigError(NO_PAIRS)
