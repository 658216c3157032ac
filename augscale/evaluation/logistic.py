"""Logistic regression for a series of L2 penalties: scikit-learn's optimum in fewer and cheaper iterations.

The loss is that of scikit-learn's `LogisticRegression`: mean cross-entropy plus |W|^2 / (2 C sum of the weights);
intercepts are not penalized. Three things make it faster (docs/experiments.md, 2026-11-30):

- The optimum lies in the span of the training images, so with fewer images than features the fit runs in an orthonormal
  basis of that span. L-BFGS takes the same steps in every such basis.
- L-BFGS remembers 30 steps instead of 10.
- Along the path the solution moves smoothly with log C, so each fit starts at the linear extrapolation of the last two
  solutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from augscale.statistics.arrays import Floats, Integers

_MEMORY = 30
"""Steps that L-BFGS remembers."""
_LINE_SEARCH_STEPS = 50
_SMALLEST_DECREASE = 64 * float(np.finfo(np.float64).eps)
"""Relative decrease of the loss at which L-BFGS stops. This and `_LINE_SEARCH_STEPS` are those of scikit-learn."""
_FEW_IMAGES = 0.9
"""A basis of the span is used if the images are fewer than this share of the features."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticModel:
    """The optimum for one penalty.

    Attributes:
        inverse_penalty: scikit-learn's C.
        classes: int64, shape (K,), rising: labels of the training images.
        weight: float64, shape (K, D), or (1, D) for two classes. bias: float64, shape (K,) or (1,).
        iterations: number of iterations of L-BFGS.
        converged: False if it stopped at the largest number of iterations.
    """

    inverse_penalty: float
    classes: Integers
    weight: Floats
    bias: Floats
    iterations: int
    converged: bool

    def probabilities(self, features: Floats) -> Floats:
        """Class probabilities, float64, shape (N, K), of features (N, D)."""
        logits = features @ self.weight.T + self.bias
        if len(self.classes) == 2:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        logits -= logits.max(axis=1, keepdims=True)
        found: Floats = np.exp(logits)
        found /= found.sum(axis=1, keepdims=True)
        return found


def logistic_path(
    features: Floats,
    labels: Integers,
    weights: Floats | None,
    inverse_penalties: Sequence[float],
    *,
    tolerance: float,
    max_iterations: int,
) -> list[LogisticModel]:
    """One converged logistic regression per penalty.

    With 2 classes one weight vector and a logistic loss, else one per class and a softmax.

    Args:
        features: float64, shape (N, D), standardized.
        labels: int64, shape (N,), two values at least.
        weights: float64, shape (N,), how often each image counts; None: once.
        inverse_penalties: C, rising.
        tolerance: largest entry of the gradient of the loss at which a fit has converged.
        max_iterations: for each penalty.
    """
    classes, numbers = np.unique(labels, return_inverse=True)
    images, basis = _in_span(features)
    loss = _Loss(images, numbers, len(classes), weights)
    solutions: list[Floats] = []
    path = []
    for place, inverse_penalty in enumerate(inverse_penalties):
        loss.penalty = 1 / (inverse_penalty * loss.total)
        found = minimize(
            loss,
            _start(loss, solutions, inverse_penalties[: place + 1]),
            jac=True,
            method="L-BFGS-B",
            options={
                "maxcor": _MEMORY,
                "gtol": tolerance,
                "maxiter": max_iterations,
                "maxls": _LINE_SEARCH_STEPS,
                "ftol": _SMALLEST_DECREASE,
            },
        )
        solutions.append(found.x)
        weight, bias = loss.split(found.x)
        path.append(
            LogisticModel(
                inverse_penalty=inverse_penalty,
                classes=classes.astype(np.int64),
                weight=weight.copy() if basis is None else weight @ basis.T,
                bias=bias.copy(),
                iterations=int(found.nit),
                converged=bool(found.nit < max_iterations),
            )
        )
    return path


class _Loss:
    """Loss and gradient as a function of weights and biases in one vector."""

    def __init__(self, images: Floats, numbers: Integers, num_classes: int, weights: Floats | None) -> None:
        self.images = images
        self.binary = num_classes == 2
        self.shape = (1 if self.binary else num_classes, images.shape[1])
        self.share = np.full(len(images), 1.0) if weights is None else weights
        self.total = float(self.share.sum())
        self.share = (self.share / self.total)[:, None]
        self.penalty = 0.0
        self.rows, self.numbers = np.arange(len(images)), numbers

    def split(self, flat: Floats) -> tuple[Floats, Floats]:
        end = self.shape[0] * self.shape[1]
        return flat[:end].reshape(self.shape), flat[end:]

    def __call__(self, flat: Floats) -> tuple[float, Floats]:
        weight, bias = self.split(flat)
        logits = self.images @ weight.T
        logits += bias
        values, residual = self._binary(logits) if self.binary else self._softmax(logits)
        residual *= self.share
        gradient = np.empty_like(flat)
        by_weight, by_bias = self.split(gradient)
        np.matmul(residual.T, self.images, out=by_weight)
        by_weight += self.penalty * weight
        by_bias[:] = residual.sum(axis=0)
        loss = float(values @ self.share[:, 0]) + 0.5 * self.penalty * float(np.vdot(weight, weight))
        return loss, gradient

    def _softmax(self, logits: Floats) -> tuple[Floats, Floats]:
        """The loss of each image, and probabilities minus targets."""
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[self.rows, self.numbers]
        residual = np.exp(logits, out=logits)
        sums = residual.sum(axis=1)
        residual /= sums[:, None]
        residual[self.rows, self.numbers] -= 1
        return np.log(sums) - own, residual

    def _binary(self, logits: Floats) -> tuple[Floats, Floats]:
        signs = np.where(self.numbers == 1, 1.0, -1.0)
        margins = logits[:, 0] * signs
        values: Floats = np.logaddexp(0, -margins)
        # exp(-values) is the probability of the true class.
        residual = (np.exp(-values) - 1) * signs
        return values, residual[:, None]


def _in_span(features: Floats) -> tuple[Floats, Floats | None]:
    """The features in an orthonormal basis of their rows' span, and the basis (D, N); None if N is too large."""
    count, width = features.shape
    if count >= _FEW_IMAGES * width:
        return np.ascontiguousarray(features), None
    basis, triangle = np.linalg.qr(features.T)
    return np.ascontiguousarray(triangle.T), basis


def _start(loss: _Loss, solutions: Sequence[Floats], inverse_penalties: Sequence[float]) -> Floats:
    """Linear extrapolation of the last two solutions in log C, or the last one if its loss is lower; zeros at first."""
    if not solutions:
        return np.zeros(loss.shape[0] * (loss.shape[1] + 1))
    last = solutions[-1]
    if len(solutions) == 1:
        return last
    before, now, then = np.log(inverse_penalties[-3:])
    ahead = last + (last - solutions[-2]) * ((then - now) / (now - before))
    return ahead if loss(ahead)[0] < loss(last)[0] else last
