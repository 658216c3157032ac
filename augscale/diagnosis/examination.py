"""The verdict on a checkpoint, with evidence in numbers and advice on what to try next.

`health.verdict` judges a run while it trains; this module examines a finished checkpoint: its weights, the spread of
its embeddings, its separation of pairs compared with the same network before training, and facts from a training log or
a projection head. The most frequent failures of DINO on medical images are collapse and a loss that stays at
ln(out_dim).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from augscale.config import ProbeConfig
from augscale.records.diagnosis import Examination
from augscale.scoring.distances import unit_rows
from augscale.scoring.health import WORST_FIRST, Check, Verdict, spread_checks, training_checks
from augscale.scoring.spectrum import effective_rank, feature_sd

CONSTANT_BELOW = 1e-4
"""A dimension is constant if its SD is below this share of the root mean square of all features."""
MANY_CONSTANT = 0.5
"""Share of constant dimensions that makes a checkpoint suspicious."""
NO_SEPARATION = 0.55
"""Pair AUROC at the mildest level, below which views of one image are hardly nearer than other images."""


@dataclass(frozen=True, kw_only=True)
class TrainingSigns:
    """Facts on the training from a log, a head or a sidecar; None where unknown."""

    loss: float | None = None
    """Loss at the end, nats."""
    out_dim: int | None = None
    """Prototypes of a head of the DINO family."""
    chance_loss: float | None = None
    """Loss of outputs that say nothing, nats; None: ln(out_dim) if that is known."""
    information: float | None = None
    """Mutual information of image and teacher output, nats, see `dino.information`."""
    source: str = ""
    """Name of the file, for the evidence."""

    @property
    def chance(self) -> float | None:
        """The loss by chance as far as it is known, nats."""
        if self.chance_loss is not None or self.out_dim is None:
            return self.chance_loss
        return math.log(self.out_dim)


@dataclass(frozen=True, kw_only=True)
class _Sign:
    verdict: Verdict
    sentence: str
    advice: tuple[str, ...] = ()


_LONGER = "train longer: short runs often sit at ln(out_dim) first"
_LEAVE_PLATEAU = "try batch norm in the head, a smaller out_dim (1024 to 4096 for small data) or a lower learning rate"
_TEMPERATURE = "lower the teacher temperature (0.04 without warm-up) and check that centering is on"
_MILDER = "try milder scales: `augscale search` finds those that keep pairs of your images apart"
_STRONGER = "try stronger crops or jitter: without augmentation nothing has to be learned"


def examine(
    clean: npt.ArrayLike,
    *,
    mildest_auroc: float | None = None,
    versus_untrained: tuple[float, float, float] | None = None,
    training: TrainingSigns | None = None,
    non_finite: tuple[str, ...] = (),
    trained: bool = True,
    probe: ProbeConfig | None = None,
) -> Examination:
    """Examines a checkpoint.

    Args:
        clean: float, shape (n, D): embeddings of images without augmentation; may hold NaN.
        mildest_auroc: pair AUROC under the mildest views, in [0, 1].
        versus_untrained: pair AUROC over the ladder minus that of the same network before training, and the 95 %
            interval of this difference.
        training: facts on the training.
        non_finite: names of weights that hold NaN or inf.
        trained: False for a network before training, which gets no advice.
        probe: limits; the defaults of a study if None.
    """
    limits = probe or ProbeConfig()
    signs = _weight_signs(non_finite)
    points = np.asarray(clean, dtype=np.float64)
    if np.isfinite(points).all():
        signs += _spread_signs(points, limits)
        signs += _training_signs(training, limits) if training else []
        signs += _separation_signs(mildest_auroc, versus_untrained)
    elif not non_finite:
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        sentence = f"{bad} of {len(points)} embeddings are not finite, although all weights are"
        signs.append(_Sign(verdict="collapsed", sentence=sentence, advice=("embed in fp32; check the input images",)))
    signs.sort(key=lambda sign: WORST_FIRST.index(sign.verdict))
    advice = dict.fromkeys(line for sign in signs for line in sign.advice if trained)
    return Examination(verdict=signs[0].verdict, evidence=tuple(sign.sentence for sign in signs), advice=tuple(advice))


def constant_dimensions(clean: npt.ArrayLike) -> int:
    """Number of features that hardly differ between images: SD below 1e-4 of the root mean square of all features.

    Args:
        clean: finite, shape (n, D).
    """
    points = np.asarray(clean, dtype=np.float64)
    size = float(np.sqrt(np.mean(np.square(points))))
    return int((points.std(axis=0) < CONSTANT_BELOW * size).sum()) if size > 0 else points.shape[1]


def _weight_signs(non_finite: tuple[str, ...]) -> list[_Sign]:
    if not non_finite:
        return [_Sign(verdict="healthy", sentence="all weights are finite")]
    shown = ", ".join(non_finite[:3]) + (", ..." if len(non_finite) > 3 else "")
    return [
        _Sign(
            verdict="collapsed",
            sentence=f"NaN or inf in {len(non_finite)} tensor(s): {shown}; nothing can be embedded",
            advice=(
                "the training diverged: go back to an earlier checkpoint",
                "lower the learning rate, keep clip_grad = 3, and train in bf16 or fp32 instead of fp16",
            ),
        )
    ]


def _spread_signs(points: npt.NDArray[np.float64], limits: ProbeConfig) -> list[_Sign]:
    dim = points.shape[1]
    checks = spread_checks(effective_rank(points), feature_sd(points), limits)
    signs = [_of_check(check, (_TEMPERATURE, _LEAVE_PLATEAU)) for check in checks]
    constant = constant_dimensions(points)
    few = constant < MANY_CONSTANT * dim
    signs.append(
        _Sign(
            verdict="healthy" if few else "suspicious" if constant < dim else "collapsed",
            sentence=f"{constant} of {dim} dimensions are nearly constant over the images",
            advice=() if few else (_TEMPERATURE, _LONGER),
        )
    )
    unit, norms = unit_rows(points)
    cosine = float(np.square(unit.mean(axis=0)).sum())
    sentence = f"embeddings have length {norms.mean():.3g} (SD {norms.std():.2g}), mean cosine of two {cosine:.4f}"
    return [*signs, _Sign(verdict="healthy", sentence=sentence)]


def _training_signs(training: TrainingSigns, limits: ProbeConfig) -> list[_Sign]:
    checks = training_checks(
        limits, information=training.information, loss=training.loss, chance_loss=training.chance, final=True
    )
    source = f" ({training.source})" if training.source else ""
    signs = [_of_check(check, (_LONGER, _LEAVE_PLATEAU, _TEMPERATURE)) for check in checks]
    return [replace(sign, sentence=sign.sentence + source) for sign in signs]


def _of_check(check: Check, advice: tuple[str, ...]) -> _Sign:
    close = ": close to it" if check.near and check.verdict == "suspicious" else ""
    return _Sign(
        verdict=check.verdict,
        sentence=check.sentence + close,
        advice=() if check.verdict == "healthy" else advice,
    )


def _separation_signs(mildest_auroc: float | None, versus_untrained: tuple[float, float, float] | None) -> list[_Sign]:
    signs = []
    if mildest_auroc is not None:
        poor = mildest_auroc < NO_SEPARATION
        signs.append(
            _Sign(
                verdict="suspicious" if poor else "healthy",
                sentence=f"pair AUROC {mildest_auroc:.3f} under the mildest views, chance 0.5, poor below "
                f"{NO_SEPARATION:g}",
                advice=(_MILDER, _LONGER) if poor else (),
            )
        )
    if versus_untrained is not None:
        difference, low, high = versus_untrained
        beaten = low > 0
        signs.append(
            _Sign(
                verdict="healthy" if beaten else "suspicious",
                sentence="pair AUROC over the ladder minus that of the same network before training: "
                f"{difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"
                + ("" if beaten else ": training has not made pairs of these images easier to tell apart"),
                advice=() if beaten else (_LONGER, _MILDER, _STRONGER),
            )
        )
    return signs
