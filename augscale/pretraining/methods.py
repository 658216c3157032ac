"""The pre-training methods by the name that `pretrain.method` gives them."""

from __future__ import annotations

from augscale.config import StudyConfig
from augscale.networks.backbones import Backbone
from augscale.pretraining.dino_method import DINO
from augscale.pretraining.method import Method

METHODS: dict[str, type[Method]] = {method.name: method for method in (DINO,)}


def method_of(study: StudyConfig) -> type[Method]:
    """The method that a study trains with."""
    return METHODS[study.pretrain.method]


def check_method(study: StudyConfig, backbone: Backbone) -> None:
    """Checks that the study's method and backbone fit together.

    Raises:
        ConfigError: they do not; the message says what to change.
    """
    method_of(study).check(study, backbone)


def chance_loss(study: StudyConfig) -> float | None:
    """The loss of a network whose outputs say nothing, nats; None where the method has no such number."""
    return method_of(study).chance_loss(study)
