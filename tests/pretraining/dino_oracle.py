"""The official DINO formulas once more, in plain loops and float64: the oracle of the tests here.

Written from the published description of the method and its hyper-parameters (Caron et al. 2021), independently of
the package: nothing of augscale is imported.
"""

from __future__ import annotations

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def loss(student, teacher, center, student_temp, teacher_temp):
    """student (V, B, K), teacher (2, B, K), center (K,): mean over pairs of different views and over images."""
    terms = []
    for i in range(2):
        for v in range(student.shape[0]):
            if i == v:
                continue
            per_image = []
            for b in range(student.shape[1]):
                q = softmax((teacher[i, b] - center) / teacher_temp)
                z = student[v, b] / student_temp
                log_p = z - z.max() - np.log(np.exp(z - z.max()).sum())
                per_image.append(-(q * log_p).sum())
            terms.append(np.mean(per_image))
    return np.mean(terms)


def center(old, teacher_outputs, momentum):
    total = np.zeros_like(old)
    for row in teacher_outputs:
        total += row
    return old * momentum + total / len(teacher_outputs) * (1 - momentum)


def cosine_schedule(base, final, num_steps, warmup_steps=0):
    """The whole schedule as an array, one value per step."""
    warmup = np.linspace(0, base, warmup_steps) if warmup_steps else np.array([])
    n = num_steps - warmup_steps
    rest = np.array([final + 0.5 * (base - final) * (1 + np.cos(np.pi * k / n)) for k in range(n)])
    return np.concatenate([warmup, rest])


def teacher_temps(start, end, num_steps, warmup_steps):
    return np.concatenate([np.linspace(start, end, warmup_steps), np.full(num_steps - warmup_steps, end)])


def clip(gradients, limit):
    clipped = []
    for gradient in gradients:
        factor = limit / (np.sqrt((gradient**2).sum()) + 1e-6)
        clipped.append(gradient * factor if factor < 1 else gradient)
    return clipped


def entropy(p):
    p = p[p > 0]
    return -(p * np.log(p)).sum()


def information(probs):
    return entropy(probs.mean(axis=0)) - np.mean([entropy(p) for p in probs])
