"""Exact values: the textbook formulas in mpmath with 120 digits, for rows with classes on the last axis.

The formulas are neither stable nor fast, and share no code with the implementations that are checked. Inputs are NumPy
arrays of floating-point numbers, which are taken as exact; results are arrays of mpf. The precision is twice that
needed for the smallest result, 1 - p of a class with a margin of 100 at an offset of 1e8, and leaves room for finite
differences.

This module also defines the results that the formulas leave open. Softmax of a fully masked row is 0, and log_softmax
and logsumexp are -inf. In a row with NaN or +inf, softmax, log_softmax, the loss and the gradients are NaN, and
logsumexp is NaN or +inf. `CrossEntropy` documents masked targets, labels out of range and inactive rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import mpmath
import numpy as np
from numpy.typing import NDArray

from xpent.conformance.dtypes import Numbers

Exact = NDArray[np.object_]

_context = mpmath.mp.clone()
_context.dps = 120
_exp = np.frompyfunc(functools.lru_cache(maxsize=100_000)(_context.exp), 1, 1)  # long rows repeat values
_tanh = np.frompyfunc(_context.tanh, 1, 1)
_log = np.frompyfunc(functools.lru_cache(maxsize=100_000)(_context.log), 1, 1)  # batches of many rows repeat values
_mpf = np.frompyfunc(functools.lru_cache(maxsize=100_000)(_context.mpf), 1, 1)


def exact(x: Numbers) -> Exact:
    """Convert floating-point numbers to mpf."""
    if x.dtype == object:
        return x
    result: Exact = _mpf(np.asarray(x, dtype=np.float64).astype(object))
    return result


def row_sum(x: Exact) -> Exact:
    """The sum over the classes, of shape (..., 1)."""
    return np.asarray(np.sum(x, axis=-1, keepdims=True), dtype=object)


def derivative_along(function: Callable[[Exact], Exact], x: Numbers, v: Numbers) -> Exact:
    """The derivative along v, by a central difference whose error is far below the precision needed."""
    step = exact(np.asarray(2.0**-130))
    above, below = (function(exact(x) + sign * step * exact(v)) for sign in (1, -1))
    return np.asarray((above - below) / (2 * step), dtype=object)


def is_fully_masked(x: Numbers) -> NDArray[np.bool_]:
    """Whether all classes of each row are masked, of shape (..., 1)."""
    return np.asarray(np.all(x == -np.inf, axis=-1, keepdims=True))


def _shifted(x: Exact) -> tuple[Exact, Exact, Exact]:
    """The maximum m of each row (0 if it is fully masked), exp(x - m), and its sum over the classes."""
    shift = np.where(is_fully_masked(x), _context.zero, np.max(x, axis=-1, keepdims=True))
    terms = _exp(x - shift)
    return shift, terms, row_sum(terms)


def _log_sum(x: Numbers) -> Exact:
    """log(sum(exp(x))) of shape (..., 1); NaN if the maximum is +inf."""
    shift, _, total = _shifted(exact(x))
    result: Exact = shift + _log(total)
    return result


def logsumexp(x: Numbers) -> Exact:
    """log(sum(exp(x))) of shape (..., 1); -inf for fully masked rows, +inf for rows with +inf and without NaN."""
    largest = np.max(exact(x), axis=-1, keepdims=True)
    return np.where(abs(largest) == _context.inf, largest, _log_sum(x))


def softmax(x: Numbers) -> Exact:
    """exp(x) / sum(exp(x)); 0 for fully masked rows."""
    _, terms, total = _shifted(exact(x))
    result: Exact = terms / np.where(total == 0, _context.one, total)
    return result


def log_softmax(x: Numbers) -> Exact:
    """x - log(sum(exp(x))); -inf for fully masked rows."""
    result: Exact = np.where(is_fully_masked(x), -_context.inf, exact(x) - _log_sum(x))
    return result


class CrossEntropy:
    """Cross-entropy -sum_j q_j w_j log p_j + z lse^2 of (N, C) logits, and its gradients multiplied by a cotangent.

    The loss of a row with NaN, +inf or a label outside [0, C) is NaN, unless its weight is 0. If the target is masked,
    the loss is +inf. In a fully masked row p is 0, and label smoothing adds nothing to any class.
    The scale of a result is the sum of the absolute values of its terms. If the target of a row is a single class, each
    entry of the gradient counts as one term, because it can be computed without cancellation.
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
        x = exact(logits if where is None else np.where(where, logits, -np.inf))
        n, c = x.shape
        zero, one, eps = _context.zero, _context.one, _context.mpf(label_smoothing)
        s = exact(np.ones(n) if sample_weight is None else sample_weight)[:, None]
        is_out_of_range = np.zeros((n, 1), dtype=bool)
        if targets.ndim == 1:
            is_target = np.arange(c) == targets[:, None]
            raw = np.where(is_target, one, zero)
            is_ignored = (targets == ignore_index)[:, None]
            s = np.where(is_ignored, zero, s)
            is_out_of_range = ~is_ignored & ~np.any(is_target, axis=-1, keepdims=True)
        else:
            raw = exact(targets)
        w = None if class_weight is None else exact(class_weight)
        weighted = raw if w is None else raw * w
        if w is not None and not label_smoothing and targets.ndim == 1:
            s = np.where(np.any(weighted != zero, axis=-1, keepdims=True) | is_out_of_range, s, zero)
        x = np.where(s == zero, zero, x)  # a row of weight 0 contributes nothing
        q = weighted
        if label_smoothing:
            unmasked = exact(x != -_context.inf)
            count = row_sum(unmasked)
            q = (one - eps) * raw + eps * unmasked / np.where(count == zero, one, count)
            q = q if w is None else q * w
        row_weight = s if w is None else s * row_sum(weighted)
        if normalizer is not None:
            denominator = _context.mpf(normalizer)
        else:
            denominator = np.sum(row_weight) if reduction == "mean" else one
        factor = s * zero if denominator == 0 else s / denominator
        self.x, self.q, self.factor = x, q, np.where(is_out_of_range, _context.nan, factor)
        self.has_target = q != zero
        self.reduction = reduction
        self.cotangent = exact(np.broadcast_to(np.reshape(np.asarray(cotangent), (-1, 1)), (n, 1)))
        self.z = np.where(np.any(self.has_target, axis=-1, keepdims=True), _context.mpf(z_loss), zero)
        self.slope = (one - eps) * (exact(np.ones(c)) if w is None else w)  # d(q w) / d(targets)
        # With distributions, the sum of the weights by which the mean divides depends on the targets.
        is_quotient = w is not None and reduction == "mean" and normalizer is None and targets.ndim == 2
        self.share = s * w / denominator if is_quotient else None

    @functools.cached_property
    def _terms(self) -> tuple[Exact, Exact, Exact]:
        """As `_shifted`, but with a sum of 1 for fully masked rows."""
        shift, terms, total = _shifted(self.x)
        return shift, terms, np.where(is_fully_masked(self.x), _context.one, total)

    @functools.cached_property
    def lse(self) -> Exact:
        """log(sum(exp(x))); 0 for fully masked rows, whose loss is infinite in any case."""
        shift, _, total = self._terms
        return np.asarray(shift + _log(total), dtype=object)

    @functools.cached_property
    def lse_scale(self) -> Exact:
        """|m| + (lse - m)."""
        shift, _, total = self._terms
        return np.asarray(abs(shift) + _log(total), dtype=object)

    @functools.cached_property
    def p(self) -> Exact:
        """softmax(x)."""
        _, terms, total = self._terms
        return np.asarray(terms / total, dtype=object)

    def _reduced(self, losses: Exact) -> Exact:
        return np.asarray(losses[:, 0] if self.reduction == "none" else np.sum(losses), dtype=object)

    def _weighted_log(self, q: Exact) -> Exact:
        """-q log p = q (lse - x), where 0 * inf is 0."""
        result = np.full(self.x.shape, _context.zero, dtype=object)
        at = np.broadcast_to(q != _context.zero, self.x.shape)
        result[at] = np.broadcast_to(q, at.shape)[at] * (np.broadcast_to(self.lse, at.shape)[at] - self.x[at])
        return result

    @functools.cached_property
    def loss(self) -> Exact:
        """The losses of the rows, or their sum or mean."""
        return self._reduced(self.factor * (row_sum(self._weighted_log(self.q)) + self.z * self.lse**2))

    @functools.cached_property
    def loss_scale(self) -> Exact:
        """The scale of the loss."""
        terms = row_sum(abs(self._weighted_log(self.q))) + self.z * self.lse_scale**2
        return self._reduced(abs(self.factor) * terms)

    @functools.cached_property
    def _difference(self) -> Exact:
        result: Exact = self.p * row_sum(self.q) - self.q
        return result

    @functools.cached_property
    def gradient(self) -> Exact:
        """The gradient with respect to the logits."""
        terms = self._difference
        if np.any(self.z):
            terms = terms + (2 * self.z * self.lse) * self.p
        result: Exact = (self.cotangent * self.factor) * terms
        return result

    @functools.cached_property
    def gradient_scale(self) -> Exact:
        """The scale of each entry of the gradient."""
        is_one_term = np.sum(self.has_target, axis=-1, keepdims=True) <= 1
        terms = abs(self._difference)
        if not np.all(is_one_term):
            terms = np.where(is_one_term, terms, self.p * abs(row_sum(self.q)) + abs(self.q))
        if np.any(self.z):
            terms = terms + (2 * self.z * self.lse_scale) * self.p
        result: Exact = abs(self.cotangent * self.factor) * terms
        return result

    @functools.cached_property
    def gradient_of_targets(self) -> Exact:
        """The gradient with respect to targets that are distributions."""
        direct = self.factor * self._weighted_log(self.slope)
        result: Exact = self.cotangent * (direct if self.share is None else direct - self.loss * self.share)
        return result

    @functools.cached_property
    def gradient_of_targets_scale(self) -> Exact:
        """The scale of each entry of this gradient."""
        direct = abs(self.factor * self._weighted_log(self.slope))
        result: Exact = abs(self.cotangent) * (direct if self.share is None else direct + abs(self.loss * self.share))
        return result

    @functools.cached_property
    def curvature(self) -> Exact:
        """The factor of the Hessian of log-sum-exp, for each row."""
        result: Exact = abs(self.factor) * (row_sum(self.q) + 2 * self.z * (1 + self.lse_scale))
        return result


def linear(features: Numbers, weight: Numbers, bias: Numbers | None, softcap: float | None) -> tuple[Exact, Exact]:
    """The logits softcap * tanh((features @ weight.T + bias) / softcap), and the derivative of the soft cap."""
    logits = exact(features) @ exact(weight).T
    if bias is not None:
        logits = logits + exact(bias)
    if softcap is None:
        return logits, exact(np.ones(logits.shape))
    share = _tanh(logits / _context.mpf(softcap))
    return _context.mpf(softcap) * share, 1 - share**2
