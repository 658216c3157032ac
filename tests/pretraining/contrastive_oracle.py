"""Contrastive losses in plain loops over pairs, from the papers' formulas: the oracle of the tests here.

Written independently of the package: nothing of augscale is imported. The loops take float64 tensors, so that autograd
gives the gradients, too.
"""

from __future__ import annotations

import torch


def _mean(values):
    return sum(values) / len(values)


def _term(positive, negatives, temp, beta, prior):
    """One anchor's loss from its similarities; Robinson et al. 2021, Algorithm 1, with their estimator of negatives."""
    pos, neg = torch.exp(positive / temp), [torch.exp(s / temp) for s in negatives]
    if not neg:
        return torch.log(pos / pos)
    importance = [torch.exp(beta * torch.log(n)) for n in neg]
    weighted = sum(i * n for i, n in zip(importance, neg, strict=True)) / _mean(importance)
    total = (weighted - prior * len(neg) * pos) / (1 - prior)
    total = torch.maximum(total, len(neg) * torch.exp(torch.tensor(-1 / temp, dtype=torch.float64)))
    return -torch.log(pos / (pos + total))


def _far_positives(terms, positives, beta):
    """Terms weighted by exp(beta (1 - cosine)) over its mean; the weights are constants."""
    weights = [torch.exp(beta * (1 - s.detach())) for s in positives]
    return _mean([w * t / _mean(weights) for w, t in zip(weights, terms, strict=True)])


def nt_xent(first, second, temp, patients=None, beta=0.0, prior=0.0):
    """first, second: (B, D). SimCLR, Eq. 1, over both views of every image."""
    views = [v / v.norm() for v in [*first, *second]]
    number = len(first)
    owner = [patients[i % number] if patients is not None else i % number for i in range(2 * number)]
    terms, positives = [], []
    for i in range(2 * number):
        positive = views[i] @ views[(i + number) % (2 * number)]
        negatives = [views[i] @ views[j] for j in range(2 * number) if owner[j] != owner[i]]
        positives.append(positive)
        terms.append(_term(positive, negatives, temp, beta, prior))
    return _far_positives(terms, positives, beta)


def mocov3(queries, keys, temp, patients=None, beta=0.0, prior=0.0):
    """queries, keys: (2, B, D). Algorithm 1: loss = ctr(q1, k2) + ctr(q2, k1)."""
    terms, positives = [], []
    for q, k in ((queries[0], keys[1]), (queries[1], keys[0])):
        for i in range(len(q)):
            query = q[i] / q[i].norm()
            similarity = [query @ (key / key.norm()) for key in k]
            owner = patients if patients is not None else list(range(len(q)))
            negatives = [similarity[j] for j in range(len(q)) if owner[j] != owner[i]]
            positives.append(similarity[i])
            terms.append(_term(similarity[i], negatives, temp, beta, prior))
    return 2 * 2 * temp * _far_positives(terms, positives, beta)
