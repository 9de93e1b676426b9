"""The expected results of a case: exact values and error bounds.

`oracle` defines the results for rows with masked classes, NaN or infinity, for ignored rows and labels out of range.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from xpent.conformance import oracle
from xpent.conformance.case import QUANTITIES, Case
from xpent.conformance.dtypes import EPSILON, SMALLEST, Numbers
from xpent.conformance.oracle import Exact

_SOFTMAX = {"softmax": oracle.softmax, "log_softmax": oracle.log_softmax, "logsumexp": oracle.logsumexp}
_known: dict[tuple[Case, str, str, str | None], Expected] = {}


@dataclass(frozen=True)
class Expected:
    """Exact values. Errors are measured in units of ``u * scale``, and ``units`` of these are allowed."""

    exact: Numbers  # float64
    rest: Numbers  # the exact value minus ``exact``, its rounding to float64
    scale: Numbers
    units: Numbers
    may_be_nan: Numbers | bool = False  # entries of fully masked rows, where NaN may be accepted

    @classmethod
    def of(cls, exact: Exact, scale: Exact, units: Numbers) -> Expected:
        """Round exact values to float64."""
        near = np.asarray(exact, dtype=np.float64)
        rest = np.where(np.isfinite(near), exact - oracle.exact(np.where(np.isfinite(near), near, 0.0)), 0)
        parts = (near, rest, scale, np.broadcast_to(units, near.shape))
        return cls(*(np.asarray(part, dtype=np.float64) for part in parts))

    def errors(self, result: Numbers, dtype: str, *, accepts_nan: bool = False) -> tuple[Numbers, Numbers]:
        """Errors in units of u and relative to the allowed error; NaN if a NaN or infinity is unexpected or missing."""
        may_be_nan = np.isnan(self.exact) | (accepts_nan & np.asarray(self.may_be_nan))
        is_same = (result == self.exact) | (np.isnan(result) & may_be_nan)
        is_finite = np.isfinite(self.exact) & np.isfinite(result)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            difference = abs((result - self.exact) - self.rest)
            units = np.where(difference <= SMALLEST[dtype], 0.0, difference / (EPSILON[dtype] / 2 * self.scale))
            units = np.where(is_finite, units, np.where(is_same, 0.0, np.nan))
            return units, units / self.allowed(dtype)

    def allowed(self, dtype: str) -> Numbers:
        """The allowed error, in units of u."""
        return np.minimum(self.units, most_units(dtype))


def most_units(dtype: str) -> float:
    """The largest allowed error in any case: an eighth of the scale, in units of u."""
    return 0.125 / (EPSILON[dtype] / 2)


def expected(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    """The expected result for a quantity of a case; cached."""
    key = (case, case.exact_dtype(dtype), quantity, reduction)
    if key not in _known:
        with np.errstate(invalid="ignore"):
            _known[key] = _of_loss(*key) if case.is_loss else _of_softmax(*key[:3])
    return _known[key]


def store(case: Case, dtype: str, quantity: str, reduction: str | None, result: Expected) -> None:
    """Cache an expected result of another process, for a dtype that is `Case.exact_dtype` of itself."""
    _known[case, dtype, quantity, reduction] = result


class Layout:
    """Converts between an array with classes along some axes and a matrix of rows."""

    def __init__(self, shape: tuple[int, ...], axis: Any) -> None:
        ndim = len(shape)
        axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        self.axes = tuple(a % ndim for a in axes)
        self.batch = tuple(shape[a] for a in range(ndim) if a not in self.axes)
        self.classes = tuple(shape[a] for a in self.axes)
        self.last = tuple(range(len(self.batch), ndim))

    def rows(self, x: Numbers) -> Numbers:
        """Move the classes to the last axis and reshape to (N, C)."""
        return np.moveaxis(x, self.axes, self.last).reshape(math.prod(self.batch), math.prod(self.classes))

    def from_rows(self, rows: Numbers) -> Numbers:
        """Undo `rows`."""
        return np.moveaxis(rows.reshape(self.batch + self.classes), self.last, self.axes)


def _spread(x: Numbers) -> Numbers:
    """The difference between the largest and the smallest unmasked logit of each row, of shape (..., 1)."""
    lowest = np.min(np.where(np.isfinite(x), x, np.inf), axis=-1, keepdims=True)
    highest = np.max(np.where(np.isfinite(x), x, -np.inf), axis=-1, keepdims=True)
    return np.asarray(np.where(np.isfinite(lowest), highest - lowest, 0.0))


def _units(x: Numbers, targets: Numbers, options: dict[str, Any]) -> Numbers:
    """The error bound 4 + |x_t - m| + max |x_j - m|, and 4 more for each option that adds a rounding error."""
    x = np.where(options.get("where", True), x, -np.inf)
    distance = _spread(x)
    if targets.ndim == 1 and not options.get("label_smoothing"):
        label = np.clip(targets.astype(np.int64), 0, x.shape[-1] - 1)[:, None]
        distance = np.max(x, axis=-1, keepdims=True, initial=-np.inf) - np.take_along_axis(x, label, axis=-1)
        distance = np.where(np.isfinite(distance), distance, 0.0)
    rounding = {"class_weight", "sample_weight", "label_smoothing", "z_loss", "normalizer", "softcap"} & options.keys()
    is_divided = options.get("reduction", "mean") == "mean"
    return np.asarray(4 + distance + _spread(x) + 4 * len(rounding) + 4 * is_divided)


def _of_sum(units: Numbers) -> Numbers:
    """The error bound of a sum: the largest bound of its terms, plus log2 of their number for pairwise summation."""
    return np.asarray(np.max(units, initial=4.0) + math.log2(max(len(units), 1)))


def _of_losses(
    losses: Exact, scale: Any, units: Numbers, is_masked: Numbers, batch: tuple[int, ...], reduction: str | None
) -> Expected:
    """The reduced loss, or one for each row."""
    if reduction != "none":
        return replace(Expected.of(losses, scale, _of_sum(units)), may_be_nan=bool(np.any(is_masked)))
    parts = Expected.of(losses.reshape(batch), scale.reshape(batch), units.reshape(batch))
    return replace(parts, may_be_nan=is_masked.reshape(batch))


def _of_loss(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    if case.function == "linear_cross_entropy":
        return _of_linear(case, dtype, quantity, reduction)
    return _of_cross_entropy(case, dtype, quantity, reduction)


@cache
def _in_rows(
    case: Case, dtype: str, reduction: str | None
) -> tuple[Layout, functools.partial[oracle.CrossEntropy], Numbers]:
    """The layout, the oracle as a function of logits in rows, and the units allowed."""
    (logits, targets), options = case.arrays_in(dtype), {**case.options_in(dtype), "reduction": reduction}
    layout = Layout(logits.shape, options.pop("axis", -1))
    x = layout.rows(logits)
    targets = targets.reshape(-1) if targets.ndim == len(layout.batch) else layout.rows(targets)
    if "where" in options:
        options["where"] = layout.rows(np.broadcast_to(options["where"], logits.shape))
    if "sample_weight" in options:
        options["sample_weight"] = options["sample_weight"].reshape(-1)
    g = case.cotangent_in(dtype)
    exact_loss = functools.partial(oracle.CrossEntropy, targets=targets, cotangent=1.0 if g is None else g, **options)
    return layout, exact_loss, _units(x, targets, options)


@cache
def _exact_loss(case: Case, dtype: str, reduction: str | None) -> oracle.CrossEntropy:
    layout, of_logits, _ = _in_rows(case, dtype, reduction)
    return of_logits(layout.rows(case.arrays_in(dtype)[0]))


def _of_cross_entropy(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    kind = "value" if quantity == "value with gradient" else QUANTITIES[quantity].kind
    if kind == "hvp" and reduction == "none":
        reduction = "sum"
    layout, of_logits, units = _in_rows(case, dtype, reduction)
    exact_loss = _exact_loss(case, dtype, reduction)
    is_masked = oracle.is_fully_masked(exact_loss.x)
    if kind == "value":
        return _of_losses(exact_loss.loss, exact_loss.loss_scale, units, is_masked, layout.batch, reduction)
    x, v = (layout.rows(array) for array in (case.arrays_in(dtype)[0], case.tangent_in(dtype)))
    size = abs(oracle.exact(v))
    if kind == "jvp":
        losses = oracle.derivative_along(lambda x: of_logits(x).loss, x, v)
        scale = np.sum(exact_loss.gradient_scale * size, axis=-1 if reduction == "none" else None)
        return _of_losses(losses, scale, units + 10, is_masked, layout.batch, reduction)
    if kind == "hvp":
        p = oracle.softmax(np.where(of_logits.keywords.get("where", True), x, -np.inf))
        scale = exact_loss.curvature * p * (size + oracle.row_sum(p * size))
        exact, units = oracle.derivative_along(lambda x: of_logits(x).gradient, x, v), 2 * units
    elif quantity == "gradient":
        exact, scale = exact_loss.gradient, exact_loss.gradient_scale
    else:
        exact, scale = exact_loss.gradient_of_targets, exact_loss.gradient_of_targets_scale
    entries = Expected.of(*map(layout.from_rows, (exact, scale, np.broadcast_to(units, x.shape))))
    return replace(entries, may_be_nan=layout.from_rows(np.broadcast_to(is_masked, x.shape)))


def _of_linear(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    """The loss, or its gradient with respect to the features, the weight or the bias."""
    (features, weight, targets), options = case.arrays_in(dtype), {**case.options_in(dtype), "reduction": reduction}
    bias, softcap = options.pop("bias", None), options.pop("softcap", None)
    batch, classes = features.shape[:-1], len(weight)
    x = features.reshape(-1, features.shape[-1])
    targets = targets.reshape(-1) if targets.ndim == len(batch) else targets.reshape(-1, classes)
    g = case.cotangent_in(dtype)
    logits, slope = oracle.linear(x, weight, bias, softcap)
    exact_loss = oracle.CrossEntropy(logits, targets, cotangent=1.0 if g is None else g, **options)
    near = np.asarray(logits, dtype=np.float64)
    # a capped logit has a relative error of a few u
    units = _units(near, targets, options) + (0 if softcap is None else 4 + 2 * np.max(abs(near)))
    if quantity == "value":
        return _of_losses(exact_loss.loss, exact_loss.loss_scale, units, oracle.is_fully_masked(near), batch, reduction)
    inner, scale = exact_loss.gradient * slope, exact_loss.gradient_scale * slope
    x = np.where(np.any(scale != 0, axis=-1, keepdims=True), oracle.exact(x), 0)  # inactive rows may contain NaN
    weight = oracle.exact(weight)
    if quantity == "gradient":
        inner, scale = (part.reshape(features.shape) for part in (inner @ weight, scale @ abs(weight)))
    elif quantity == "gradient of weight":
        inner, scale = inner.T @ x, scale.T @ abs(x)
    else:
        inner, scale = np.sum(inner, axis=0), np.sum(scale, axis=0)
    return Expected.of(inner, scale, _of_sum(units) + 4 + math.log2(classes))


def _of_softmax(case: Case, dtype: str, quantity: str) -> Expected:
    """The value or a derivative of softmax, log_softmax or logsumexp."""
    (x,), options, kind = case.arrays_in(dtype), case.options_in(dtype), QUANTITIES[quantity].kind
    layout = Layout(x.shape, options.get("axis", -1))
    x = layout.rows(np.where(options.get("where", True), x, -np.inf))
    v, g = oracle.exact(layout.rows(case.tangent_in(dtype))), case.cotangent_in(dtype)
    p, once, twice = oracle.softmax(x), 4 + _spread(x), 2 * (4 + 2 * _spread(x))
    total, is_sum, is_masked = oracle.row_sum, case.function == "logsumexp", oracle.is_fully_masked(x)
    if is_sum and kind == "value":  # all libraries return -inf
        is_masked = np.zeros_like(is_masked)
    parts: Any
    if kind == "value":
        exact, highest = _SOFTMAX[case.function](x), np.max(oracle.exact(x), axis=-1, keepdims=True)
        parts = exact, abs(highest) + abs(exact - highest) if is_sum else abs(exact), once
    elif kind == "jvp":
        scale = {"softmax": p * (abs(v) + total(p * abs(v))), "log_softmax": abs(v) + total(p * abs(v))}
        exact = oracle.derivative_along(_SOFTMAX[case.function], x, v)
        parts = exact, scale.get(case.function, total(p * abs(v))), twice
    else:
        g = oracle.exact(np.ones(x.shape) if g is None else g.reshape(len(x), -1) if is_sum else layout.rows(g))
        g = g * oracle.exact(x > -np.inf)
        parts = {
            "softmax": lambda: (p * (g - total(p * g)), p * (abs(g) + total(p * abs(g))), twice),
            "log_softmax": lambda: (g - p * total(g), abs(g) + p * total(abs(g)), twice),
            "logsumexp": lambda: (g * p, abs(g * p), 1 + once),
        }[case.function]()
    if is_sum and kind != "vjp":
        found = Expected.of(*(np.reshape(part, layout.batch) for part in parts))
        return replace(found, may_be_nan=np.reshape(is_masked, layout.batch))
    found = Expected.of(*(layout.from_rows(np.broadcast_to(part, x.shape)) for part in parts))
    return replace(found, may_be_nan=layout.from_rows(np.broadcast_to(is_masked, x.shape)))
