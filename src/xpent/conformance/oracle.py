"""Exact values: the textbook formulas, in 120 digits of mpmath, on rows with their classes last.

Nothing here is stable or fast, and nothing is shared with the implementation it judges. Arrays are NumPy arrays of
floating-point numbers going in, which are exact, and of mpf coming out. The digits are twice those of the smallest
answer asked for, 1 - p of a class 100 nats ahead at an offset of 1e8, with room for differences beyond them.
"""

from __future__ import annotations

import functools

import mpmath
import numpy as np
from numpy.typing import NDArray

from xpent.conformance.dtypes import Numbers

Exact = NDArray[np.object_]

_context = mpmath.mp.clone()
_context.dps = 120
_exp = np.frompyfunc(functools.lru_cache(maxsize=100_000)(_context.exp), 1, 1)  # rows of many classes repeat values
_tanh = np.frompyfunc(_context.tanh, 1, 1)
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
    terms = _exp(exact(x) - np.max(exact(x), axis=-1, keepdims=True))
    result: Exact = terms / np.sum(terms, axis=-1, keepdims=True)
    return result


def log_softmax(x: Numbers) -> Exact:
    """x - log(sum(exp(x)))."""
    result: Exact = exact(x) - logsumexp(x)
    return result


class CrossEntropy:
    """Cross-entropy -sum_j q_j w_j log p_j + z lse^2 of (N, C) logits and its gradients, all times a cotangent.

    A row that holds NaN or +inf, or no possible class, or a label that names none, is NaN, unless its weight is 0.
    A scale is the sum of the absolute values of the terms that are added up. Where all of a row's target is one class,
    its gradient is one term: nothing can cancel.
    """

    def __init__(
        self,
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
        cotangent: Numbers | float = 1.0,
    ) -> None:
        x = exact(np.where(True if where is None else where, logits, -np.inf))
        n, c = x.shape
        zero, one, eps = _context.zero, _context.one, _context.mpf(label_smoothing)
        w = exact(np.ones(c) if class_weight is None else class_weight)
        s = exact(np.ones(n) if sample_weight is None else sample_weight)[:, None]
        is_lost = np.zeros((n, 1), dtype=bool)
        if targets.ndim == 1:
            raw = exact(np.arange(c) == targets[:, None])
            is_ignored = (targets == ignore_index)[:, None]
            s = np.where(is_ignored, zero, s)
            is_lost = ~is_ignored & ~np.any(raw == one, axis=-1, keepdims=True)
        else:
            raw = exact(targets)
        if class_weight is not None and not label_smoothing and targets.ndim == 1:
            s = np.where(np.any(raw * w != zero, axis=-1, keepdims=True) | is_lost, s, zero)
        x = np.where(s == zero, zero, x)  # a row of weight 0 leaks nothing
        q = raw * w
        if label_smoothing:
            possible = exact(x != -_context.inf)
            q = ((one - eps) * raw + eps * possible / np.sum(possible, axis=-1, keepdims=True)) * w
        row_weight = s if class_weight is None else s * np.sum(raw * w, axis=-1, keepdims=True)
        if normalizer is not None:
            denominator = _context.mpf(normalizer)
        else:
            denominator = np.sum(row_weight) if reduction == "mean" else one
        factor = s * zero if denominator == 0 else s / denominator
        self.x, self.q, self.factor = x, q, np.where(is_lost, _context.nan, factor)
        self.reduction = reduction
        self.cotangent = exact(np.broadcast_to(np.reshape(np.asarray(cotangent), (-1, 1)), (n, 1)))
        self.z = np.where(np.any(q != zero, axis=-1, keepdims=True), _context.mpf(z_loss), zero)
        self.slope = (one - eps) * w * np.ones((n, 1))  # of q w in the targets
        # The weights of distributions depend on them, and the mean divides by their sum.
        is_quotient = class_weight is not None and reduction == "mean" and normalizer is None and targets.ndim == 2
        self.share = s * w / denominator if is_quotient else None

    @functools.cached_property
    def lse(self) -> Exact:
        """log(sum(exp(x)))."""
        return logsumexp(self.x)

    @functools.cached_property
    def lse_scale(self) -> Exact:
        """|m| + (lse - m)."""
        largest = np.max(self.x, axis=-1, keepdims=True)
        return np.asarray(abs(largest) + (self.lse - largest), dtype=object)

    @functools.cached_property
    def p(self) -> Exact:
        """softmax(x)."""
        return softmax(self.x)

    def _reduced(self, losses: Exact) -> Exact:
        return np.asarray(losses[:, 0] if self.reduction == "none" else np.sum(losses), dtype=object)

    def _surprise(self, q: Exact) -> Exact:
        """q (lse - x), where 0 * inf is 0."""
        is_none = q == _context.zero
        result: Exact = np.where(is_none, _context.zero, q * np.where(is_none, _context.zero, self.lse - self.x))
        return result

    @functools.cached_property
    def loss(self) -> Exact:
        """Per row, or reduced."""
        return self._reduced(self.factor * (_sum(self._surprise(self.q)) + self.z * self.lse**2))

    @functools.cached_property
    def loss_scale(self) -> Exact:
        """The sum of the absolute values of its terms."""
        return self._reduced(abs(self.factor) * (_sum(abs(self._surprise(self.q))) + self.z * self.lse_scale**2))

    @functools.cached_property
    def _difference(self) -> Exact:
        result: Exact = self.p * _sum(self.q) - self.q
        return result

    @functools.cached_property
    def gradient(self) -> Exact:
        """With respect to the logits."""
        result: Exact = self.cotangent * self.factor * (self._difference + 2 * self.z * self.lse * self.p)
        return result

    @functools.cached_property
    def gradient_scale(self) -> Exact:
        """Of each entry of the gradient."""
        is_one_term = np.sum(self.q != _context.zero, axis=-1, keepdims=True) <= 1
        terms = np.where(is_one_term, abs(self._difference), self.p * abs(_sum(self.q)) + abs(self.q))
        result: Exact = abs(self.cotangent * self.factor) * (terms + 2 * self.z * self.lse_scale * self.p)
        return result

    @functools.cached_property
    def gradient_of_targets(self) -> Exact:
        """With respect to distributions."""
        direct = self.factor * self._surprise(self.slope)
        result: Exact = self.cotangent * (direct if self.share is None else direct - self.loss * self.share)
        return result

    @functools.cached_property
    def gradient_of_targets_scale(self) -> Exact:
        """Of each entry of it."""
        direct = abs(self.factor * self._surprise(self.slope))
        result: Exact = abs(self.cotangent) * (direct if self.share is None else direct + abs(self.loss * self.share))
        return result

    @functools.cached_property
    def curvature(self) -> Exact:
        """What the Hessian of log-sum-exp is multiplied with, of each row."""
        result: Exact = abs(self.factor) * (_sum(self.q) + 2 * self.z * (1 + self.lse_scale))
        return result


def _sum(x: Exact) -> Exact:
    return np.asarray(np.sum(x, axis=-1, keepdims=True), dtype=object)


def linear(features: Numbers, weight: Numbers, bias: Numbers | None, softcap: float | None) -> tuple[Exact, Exact]:
    """Logits features weight^T + bias, capped to softcap tanh(logits / softcap), and the slope of the cap."""
    logits = exact(features) @ exact(weight).T
    if bias is not None:
        logits = logits + exact(bias)
    if softcap is None:
        return logits, exact(np.ones(logits.shape))
    share = _tanh(logits / _context.mpf(softcap))
    return _context.mpf(softcap) * share, 1 - share**2
