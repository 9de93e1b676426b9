"""A correct implementation in NumPy.

A call is an object whose steps are properties, so that a defect overrides one step. The sum of exponentials omits the
first maximum x_a of a row: with rest = sum over j != a of exp(x_j - x_a),

    loss     = sum_j q_j ((x_a - x_j) + log1p(rest))
    d/dx_j   = p_j sum(q) - q_j                                        (j != a)
    d/dx_a   = (sum over k != a of q_k - rest q_a) / (1 + rest)
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np


class Rows:
    """Logits with classes on the last axis, and their exponentials with the largest omitted from the sum."""

    def __init__(self, logits, *, axis=-1, where=None):
        self.logits, self.where = logits, where
        self.axes = tuple(a % logits.ndim for a in self.class_axes(axis))
        self.batch = tuple(size for a, size in enumerate(logits.shape) if a not in self.axes)
        self.classes = tuple(logits.shape[a] for a in self.axes)
        self.dtype = np.result_type(logits.dtype, np.float32)

    def class_axes(self, axis):
        if axis is None:
            return range(self.logits.ndim)
        return axis if isinstance(axis, tuple) else (axis,)

    def rows(self, array):
        array_with_classes_last = np.moveaxis(array, self.axes, range(-len(self.axes), 0))
        return np.ascontiguousarray(array_with_classes_last.reshape(math.prod(self.batch), math.prod(self.classes)))

    def unflatten(self, rows):
        array_with_classes_last = rows.reshape(self.batch + self.classes)
        return np.moveaxis(array_with_classes_last, range(-len(self.axes), 0), self.axes).astype(self.logits.dtype)

    @property
    def value_with_gradient(self):
        return self.value

    @cached_property
    def is_unmasked(self):
        return np.ones_like(self.logit_rows, dtype=bool) if self.where is None else self.rows(self.mask)

    @cached_property
    def mask(self):
        return np.broadcast_to(self.where, self.logits.shape)

    @cached_property
    def logit_rows(self):
        return self.rows(self.logits).astype(self.dtype)

    @cached_property
    def masked_logits(self):
        return np.where(self.is_unmasked, self.logit_rows, -np.inf)

    @cached_property
    def x(self):
        return self.masked_logits

    @cached_property
    def largest(self):
        return np.max(self.x, axis=-1, keepdims=True)

    @cached_property
    def shift(self):
        return np.where(np.isfinite(self.largest), self.largest, np.nan)

    @cached_property
    def is_first(self):
        is_largest = np.arange(self.x.shape[-1]) == np.argmax(self.x, axis=-1, keepdims=True)
        return is_largest & np.isfinite(self.shift)

    @cached_property
    def terms(self):
        return np.exp(self.x - self.shift)

    @cached_property
    def rest(self):
        return total(np.where(self.is_first, 0, self.terms))

    @cached_property
    def log_rest(self):
        return np.log1p(self.rest)

    @cached_property
    def log_sum(self):
        return self.shift + self.log_rest

    @cached_property
    def p(self):
        return self.terms / (1 + self.rest)


def total(rows):
    return np.sum(rows, axis=-1, keepdims=True)


class Softmax(Rows):
    """A call of softmax."""

    function = "softmax"

    @cached_property
    def value(self):
        return self.unflatten(self.p)

    def jvp_of_rows(self, v):
        return self.p * (v - total(self.p * v))

    def vjp(self, _, g):
        g = self.rows(np.ones_like(self.logits) if g is None else g).astype(self.dtype)
        return self.unflatten(self.jvp_of_rows(g))

    def jvp(self, v):
        return self.unflatten(self.jvp_of_rows(self.rows(v).astype(self.dtype)))


class LogSoftmax(Softmax):
    """A call of log_softmax."""

    function = "log_softmax"

    @cached_property
    def value(self):
        return self.unflatten((self.x - self.shift) - self.log_rest)

    def vjp(self, _, g):
        g = self.rows(np.ones_like(self.logits) if g is None else g).astype(self.dtype)
        return self.unflatten(self.vjp_of_rows(np.where(self.x == -np.inf, 0, g)))

    def vjp_of_rows(self, g):
        return g - self.p * total(g)

    def jvp_of_rows(self, v):
        return v - total(self.p * v)


class LogSumExp(Rows):
    """A call of logsumexp."""

    function = "logsumexp"

    def __init__(self, logits, *, axis=-1, keepdims=False, where=None):
        super().__init__(logits, axis=axis, where=where)
        self.keepdims = keepdims

    def reduced(self, rows):
        kept = [1 if a in self.axes else size for a, size in enumerate(self.logits.shape)]
        return rows.reshape(kept if self.keepdims else self.batch).astype(self.logits.dtype)

    @cached_property
    def value(self):
        return self.reduced(np.where(np.isinf(self.largest), self.largest, self.log_sum))

    def vjp(self, _, g):
        g = np.ones(len(self.x)) if g is None else g
        return self.unflatten(g.reshape(-1, 1).astype(self.dtype) * self.p)

    def jvp(self, v):
        return self.reduced(total(self.p * self.rows(v)))


class CrossEntropy(Rows):
    """A call of cross_entropy."""

    function = "cross_entropy"

    def __init__(
        self, logits, targets, *, axis=-1, class_weight=None, sample_weight=None, ignore_index=None,
        label_smoothing=0.0, z_loss=0.0, where=None, reduction="mean", normalizer=None,
    ):  # fmt: skip
        super().__init__(logits, axis=axis, where=where)
        self.targets, self.class_weight, self.sample_weight = targets, class_weight, sample_weight
        self.ignore_index, self.smoothing, self.z_loss = ignore_index, label_smoothing, z_loss
        self.reduction, self.normalizer = reduction, normalizer
        self.size = math.prod(self.classes)
        self.is_indices = targets.shape == self.batch
        self.check()

    def check(self):
        self.require(self.size > 0, "classes")
        self.require(self.reduction in ("none", "sum", "mean"), "reduction")
        self.require(0 <= self.smoothing <= 1, "smoothing")
        if self.targets.shape == self.batch:
            self.require(self.targets.dtype.kind in "iu", "labels")
        else:
            self.require(self.targets.shape == self.logits.shape, "shape of targets")
        self.require(self.class_weight is None or self.class_weight.shape == (self.size,), "class weight")
        self.require(self.sample_weight is None or self.sample_weight.shape == self.batch, "sample weight")

    def require(self, is_valid, name):
        if not is_valid:
            raise ValueError(f"invalid {name}")

    @cached_property
    def labels(self):
        return self.targets.reshape(-1, 1)

    @cached_property
    def is_ignored(self):
        return self.labels == self.ignore_index if self.is_indices else np.zeros((len(self.logit_rows), 1), dtype=bool)

    @cached_property
    def one_hot(self):
        self.require(np.all(self.is_ignored | (self.labels >= 0) & (self.labels < self.size)), "label")
        return self.labels == np.arange(self.size)

    @cached_property
    def target(self):
        return (self.one_hot if self.is_indices else self.rows(self.targets)).astype(self.dtype)

    @cached_property
    def w(self):
        return np.ones(self.size, self.dtype) if self.class_weight is None else self.class_weight.astype(self.dtype)

    @cached_property
    def sample(self):
        shape = (len(self.logit_rows), 1)
        return np.ones(shape, self.dtype) if self.sample_weight is None else self.sample_weight.reshape(shape)

    @cached_property
    def active_weight(self):
        return np.where(self.is_ignored, 0, self.sample).astype(self.dtype)

    @cached_property
    def is_inactive(self):
        if self.class_weight is None or self.smoothing or not self.is_indices:
            return self.active_weight == 0
        return (self.active_weight == 0) | (total(self.target * self.w) == 0)

    @cached_property
    def x(self):
        return np.where(self.is_inactive, 0, self.masked_logits)

    @cached_property
    def uniform(self):
        is_unmasked = (self.x != -np.inf).astype(self.dtype)
        return is_unmasked / total(is_unmasked)

    @cached_property
    def smoothed(self):
        return (1 - self.smoothing) * self.target + self.smoothing * self.uniform if self.smoothing else self.target

    @cached_property
    def q(self):
        return self.smoothed * self.w

    @cached_property
    def z(self):
        return self.z_loss * np.any(self.q != 0, axis=-1, keepdims=True).astype(self.dtype)

    @cached_property
    def row_weight(self):
        return self.active_weight if self.class_weight is None else self.active_weight * total(self.target * self.w)

    @cached_property
    def mean_denominator(self):
        return np.sum(self.row_weight)

    @cached_property
    def denominator(self):
        if self.reduction == "none":
            return 1
        if self.normalizer is not None:
            return self.normalizer
        return self.mean_denominator if self.reduction == "mean" else 1

    @cached_property
    def factor(self):
        if self.denominator == 0:
            return self.active_weight * 0
        return self.active_weight / self.dtype.type(self.denominator)

    def weighted_log_loss(self, q):
        return q * (np.where(q == 0, 0, self.shift - self.x) + self.log_rest)

    @cached_property
    def losses(self):
        return total(self.weighted_log_loss(self.q)) + (self.z * self.log_sum**2 if self.z_loss else 0)

    @cached_property
    def weighted_losses(self):
        return self.factor * self.losses

    def reduced(self, rows):
        return rows.reshape(self.batch) if self.reduction == "none" else np.sum(rows)

    @cached_property
    def value(self):
        return self.reduced(self.weighted_losses)

    @cached_property
    def plain_slope(self):
        first = (total(np.where(self.is_first, 0, self.q)) - self.rest * self.q) / (1 + self.rest)
        return np.where(self.is_first, first, self.p * total(self.q) - self.q)

    @cached_property
    def slope(self):
        return self.plain_slope + 2 * self.z * self.log_sum * self.p

    def cotangent(self, g):
        return np.ones((1, 1), self.dtype) if g is None else g.reshape(-1, 1).astype(self.dtype)

    def gradient(self, g):
        return self.cotangent(g) * self.factor * self.slope

    def gradient_of_targets(self, g):
        result = self.factor * self.weighted_log_loss((1 - self.smoothing) * self.w * np.ones_like(self.x))
        if self.class_weight is not None and self.reduction == "mean" and self.normalizer is None:
            result = result - self.factor * self.w * self.value
        return self.cotangent(g) * result

    def vjp(self, argument, g):
        return self.unflatten(self.gradient(g) if argument == 0 else self.gradient_of_targets(g))

    def jvp(self, v):
        return self.reduced(total(self.factor * self.slope * self.rows(v)))

    def hvp(self, v):
        v = self.rows(v).astype(self.dtype)
        mean = total(self.p * v)
        product = (total(self.q) + 2 * self.z * self.log_sum) * self.p * (v - mean) + 2 * self.z * self.p * mean
        return self.unflatten(self.factor * product)


class LinearCrossEntropy(CrossEntropy):
    """A call of linear_cross_entropy."""

    function = "linear_cross_entropy"

    def __init__(self, features, weight, targets, *, bias=None, softcap=None, **options):
        self.features, self.weight, self.bias, self.softcap = features, weight, bias, softcap
        dtype = np.result_type(features.dtype, np.float32)
        self.inputs = features.reshape(-1, features.shape[-1]).astype(dtype)
        self.matrix = weight.astype(dtype)
        self.uncapped = self.inputs @ self.matrix.T + (0 if bias is None else bias)
        logits = self.uncapped if softcap is None else softcap * np.tanh(self.uncapped / softcap)
        super().__init__(logits.reshape(*features.shape[:-1], len(weight)), targets, **options)

    @cached_property
    def cap_slope(self):
        if self.softcap is None:
            return 1
        return np.where(self.active_weight == 0, 0, 1 / np.cosh(self.uncapped / self.softcap) ** 2)

    def inner(self, g):
        return self.gradient(g) * self.cap_slope

    @cached_property
    def active_inputs(self):
        return np.where(self.active_weight == 0, 0, self.inputs)

    def gradient_of_weight(self, g):
        return self.inner(g).T @ self.active_inputs

    def vjp(self, argument, g):
        if argument == 0:
            return (self.inner(g) @ self.matrix).reshape(self.features.shape).astype(self.features.dtype)
        if argument == 1:
            return self.gradient_of_weight(g).astype(self.weight.dtype)
        return np.sum(self.inner(g), axis=0).astype(self.bias.dtype)
