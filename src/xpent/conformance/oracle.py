"""Exact values: the textbook formulas, in 120 digits of mpmath, on rows with their classes last.

Nothing here is stable or fast, and nothing is shared with the implementation it judges. Arrays are NumPy arrays of
floating-point numbers going in, which are exact, and of mpf coming out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import mpmath
import numpy as np
from numpy.typing import NDArray

Exact = NDArray[np.object_]
Numbers = NDArray[Any]

_context = mpmath.mp.clone()
_context.dps = 120
_exp = np.frompyfunc(_context.exp, 1, 1)
_log = np.frompyfunc(_context.log, 1, 1)
_mpf = np.frompyfunc(lambda value: _context.mpf(value), 1, 1)


def exact(x: Numbers) -> Exact:
    """The same numbers as mpf."""
    if x.dtype == object:
        return x
    result: Exact = _mpf(np.asarray(x, dtype=np.float64).astype(object))
    return result


def logsumexp(x: Numbers) -> Exact:
    """log(sum(exp(x))), (..., 1)."""
    shift = np.max(exact(x), axis=-1, keepdims=True)
    result: Exact = shift + _log(np.sum(_exp(exact(x) - shift), axis=-1, keepdims=True))
    return result


def softmax(x: Numbers) -> Exact:
    """exp(x) / sum(exp(x))."""
    result: Exact = _exp(exact(x) - logsumexp(x))
    return result


def log_softmax(x: Numbers) -> Exact:
    """x - log(sum(exp(x)))."""
    result: Exact = exact(x) - logsumexp(x)
    return result


class Answer(NamedTuple):
    """Cross-entropy and its derivatives, with the sums of the absolute values of the terms they are sums of."""

    loss: Exact
    gradient: Exact  # with respect to the logits
    gradient_of_targets: Exact
    loss_scale: Exact
    gradient_scale: Exact


def cross_entropy(
    logits: Numbers,
    targets: Numbers,
    *,
    class_weight: Numbers | None = None,
    sample_weight: Numbers | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: Numbers | None = None,
    reduction: str = "mean",
    normalizer: float | None = None,
) -> Answer:
    """Loss -sum_j q_j w_j log p_j + z lse^2 of (N, C) logits with finite maxima, reduced, and its gradients."""
    x = exact(np.where(True if where is None else where, logits, -np.inf))
    n, c = x.shape
    zero, one, eps = _context.zero, _context.one, _context.mpf(label_smoothing)
    w = exact(np.ones(c) if class_weight is None else class_weight)
    s = exact(np.ones(n) if sample_weight is None else sample_weight)[:, None]
    if targets.ndim == 1:
        raw = exact(np.arange(c) == targets[:, None])
        s = np.where((targets == ignore_index)[:, None], zero, s)
    else:
        raw = exact(targets)
    possible = exact(x != -_context.inf)
    q = (one - eps) * raw
    if label_smoothing:
        q = q + eps * possible / np.sum(possible, axis=-1, keepdims=True)
    q = q * w

    lse, p = logsumexp(x), softmax(x)
    surprise = lse - x
    terms = np.where(q == zero, zero, q * np.where(q == zero, zero, surprise))
    has_target = np.any(q != zero, axis=-1, keepdims=True)
    z = np.where(has_target, _context.mpf(z_loss), zero)
    total = np.sum(q, axis=-1, keepdims=True)

    row_weight = s if class_weight is None else s * np.sum(raw * w, axis=-1, keepdims=True)
    depends_on_targets = class_weight is not None and reduction == "mean" and normalizer is None and targets.ndim == 2
    if normalizer is not None:
        denominator = _context.mpf(normalizer)
    else:
        denominator = np.sum(row_weight) if reduction == "mean" else one
    scale = s * zero if denominator == 0 else s / denominator

    losses = scale * (np.sum(terms, axis=-1, keepdims=True) + z * lse**2)
    loss = losses[:, 0] if reduction == "none" else np.sum(losses)
    gradient = scale * (p * total - q + 2 * z * lse * p)
    slope = (one - eps) * w * np.ones((n, 1))
    of_targets = scale * np.where(slope == zero, zero, slope * np.where(slope == zero, zero, surprise))
    if depends_on_targets:
        of_targets = of_targets - loss * s * w / denominator
    loss_scale = abs(scale) * (np.sum(abs(terms), axis=-1, keepdims=True) + z * lse**2)
    return Answer(
        np.asarray(loss, dtype=object),
        gradient,
        of_targets,
        loss_scale[:, 0] if reduction == "none" else np.asarray(np.sum(loss_scale), dtype=object),
        abs(scale) * (p * abs(total) + abs(q) + 2 * z * abs(lse) * p),
    )
