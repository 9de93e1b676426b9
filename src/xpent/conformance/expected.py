"""What must come out of a case: exact values, and how far from them an answer may be."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xpent.conformance import oracle
from xpent.conformance.dtypes import EPSILON, SMALLEST, Numbers
from xpent.conformance.oracle import Exact

if TYPE_CHECKING:
    from xpent.conformance.case import Case


class Quantity(NamedTuple):
    """How something is computed, and by which array one differentiates for it."""

    kind: str  # "value", "vjp", "jvp" or "hvp", the product of the Hessian of the sum with a tangent
    moved: int | str = 0


QUANTITIES = {
    "value": Quantity("value"),
    "gradient": Quantity("vjp"),
    "gradient of targets": Quantity("vjp", 1),
    "gradient of weight": Quantity("vjp", 1),
    "gradient of bias": Quantity("vjp", "bias"),
    "forward mode": Quantity("jvp"),
    "second derivative": Quantity("hvp"),
}


@dataclass(frozen=True)
class Expected:
    """The exact answer; an error counts in units of u times the scale, and so many units are allowed."""

    exact: Numbers  # float64
    rest: Numbers  # what rounding to float64 took off
    scale: Numbers
    units: Numbers

    @classmethod
    def of(cls, exact: Exact, scale: Exact, units: Numbers) -> Expected:
        """Of exact numbers."""
        near = np.asarray(exact, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            rest = np.where(np.isfinite(near), exact - oracle.exact(np.where(np.isfinite(near), near, 0.0)), 0)
        parts = (near, rest, scale, np.broadcast_to(units, near.shape))
        return cls(*(np.asarray(part, dtype=np.float64) for part in parts))

    def errors(self, answer: Numbers, dtype: str) -> tuple[Numbers, Numbers]:
        """Errors in units of u, and as shares of what is allowed; NaN where NaN or infinity is not where it belongs."""
        is_same = (answer == self.exact) | (np.isnan(answer) & np.isnan(self.exact))
        is_finite = np.isfinite(self.exact) & np.isfinite(answer)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            difference = abs((answer - self.exact) - self.rest)
            units = np.where(difference <= SMALLEST[dtype], 0.0, difference / (EPSILON[dtype] / 2 * self.scale))
            units = np.where(is_finite, units, np.where(is_same, 0.0, np.nan))
            return units, units / self.units


def expected(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    """The answer to one quantity of a case."""
    return _expected(case, "float64" if case.is_exact_in(dtype) else dtype, quantity, reduction)


@cache
def _expected(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    if case.function in _SOFTMAX:
        return _of_softmax(case, dtype, quantity)
    if case.function == "linear_cross_entropy":
        return _of_linear(case, dtype, quantity, reduction)
    return _of_cross_entropy(case, dtype, quantity, reduction)


def spread(x: Numbers) -> Numbers:
    """How far the lowest possible class of each row lies below the highest, (..., 1)."""
    lowest = np.min(np.where(np.isfinite(x), x, np.inf), axis=-1, keepdims=True)
    highest = np.max(np.where(np.isfinite(x), x, -np.inf), axis=-1, keepdims=True)
    return np.where(np.isfinite(lowest), highest - lowest, 0.0)


def _along(function: Callable[[Exact], Exact], x: Numbers, v: Numbers) -> Exact:
    """The derivative along v by a central difference, whose error lies far beyond the digits asked for."""
    step = oracle.exact(np.asarray(2.0**-130))
    above, below = (function(oracle.exact(x) + sign * step * oracle.exact(v)) for sign in (1, -1))
    return np.asarray((above - below) / (2 * step), dtype=object)


def _sum(x: Exact) -> Exact:
    return np.asarray(np.sum(x, axis=-1, keepdims=True), dtype=object)


class _Layout:
    """Between an array with its classes along some axes and rows of classes."""

    def __init__(self, shape: tuple[int, ...], axis: Any) -> None:
        ndim = len(shape)
        axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        self.axes = tuple(a % ndim for a in axes)
        self.batch = tuple(shape[a] for a in range(ndim) if a not in self.axes)
        self.classes = tuple(shape[a] for a in self.axes)
        self.last = tuple(range(len(self.batch), ndim))

    def rows(self, x: Numbers) -> Numbers:
        return np.moveaxis(x, self.axes, self.last).reshape(math.prod(self.batch), math.prod(self.classes))

    def whole(self, rows: Numbers) -> Numbers:
        return np.moveaxis(rows.reshape(self.batch + self.classes), self.last, self.axes)


def _of_softmax(case: Case, dtype: str, quantity: str) -> Expected:
    (x,), options, kind = case.arrays_in(dtype), case.options_in(dtype), QUANTITIES[quantity].kind
    layout = _Layout(x.shape, options.get("axis", -1))
    x = layout.rows(np.where(options.get("where", True), x, -np.inf))
    v, g = oracle.exact(layout.rows(case.tangent_in(dtype))), case.cotangent_in(dtype)
    p, once, twice = oracle.softmax(x), 4 + spread(x), 2 * (4 + 2 * spread(x))
    is_sum = case.function == "logsumexp"
    if kind == "value":
        exact, highest = _SOFTMAX[case.function](x), np.max(oracle.exact(x), axis=-1, keepdims=True)
        if is_sum:
            exact = np.where(np.isinf(np.max(x, axis=-1, keepdims=True)), highest, exact)
        parts = exact, abs(highest) + abs(exact - highest) if is_sum else abs(exact), once
    elif kind == "jvp":
        scale = {"softmax": p * (abs(v) + _sum(p * abs(v))), "log_softmax": abs(v) + _sum(p * abs(v))}
        parts = _along(_SOFTMAX[case.function], x, v), scale.get(case.function, _sum(p * abs(v))), twice
    else:
        g = oracle.exact(np.ones(x.shape) if g is None else g.reshape(len(x), -1) if is_sum else layout.rows(g))
        g = g * oracle.exact(x > -np.inf)
        parts = {
            "softmax": lambda: (p * (g - _sum(p * g)), p * (abs(g) + _sum(p * abs(g))), twice),
            "log_softmax": lambda: (g - p * _sum(g), abs(g) + p * _sum(abs(g)), twice),
            "logsumexp": lambda: (g * p, abs(g * p), 1 + once),
        }[case.function]()
    if is_sum and kind != "vjp":
        return Expected.of(*(np.reshape(part, layout.batch) for part in parts))
    return Expected.of(*(layout.whole(np.broadcast_to(part, x.shape)) for part in parts))


_SOFTMAX = {"softmax": oracle.softmax, "log_softmax": oracle.log_softmax, "logsumexp": oracle.logsumexp}


def _units(x: Numbers, targets: Numbers, options: dict[str, Any]) -> Numbers:
    """The bar: 4 + |x_t - m| + max |x_j - m|, and as much for every further option that rounds."""
    x = np.where(options.get("where", True), x, -np.inf)
    distance = spread(x)
    if targets.ndim == 1 and not options.get("label_smoothing"):
        label = np.clip(targets.astype(np.int64), 0, x.shape[-1] - 1)[:, None]
        distance = np.max(x, axis=-1, keepdims=True, initial=-np.inf) - np.take_along_axis(x, label, axis=-1)
        distance = np.where(np.isfinite(distance), distance, 0.0)
    rounding = {"class_weight", "sample_weight", "label_smoothing", "z_loss", "normalizer", "softcap"} & options.keys()
    is_divided = options.get("reduction", "mean") == "mean"
    return 4 + distance + spread(x) + 4 * len(rounding) + 4 * is_divided


def _of_sum(units: Numbers) -> Numbers:
    """A sum is as far off as its worst term, and loses a unit wherever its terms are added in pairs."""
    return np.asarray(np.max(units, initial=4.0) + math.log2(max(len(units), 1)))


@cache
def _cross_entropy(case: Case, dtype: str, reduction: str | None) -> tuple[_Layout, oracle.CrossEntropy, Numbers]:
    """Everything about a case, in rows: the layout, the oracle and the units allowed."""
    (logits, targets), options = case.arrays_in(dtype), {**case.options_in(dtype), "reduction": reduction}
    layout = _Layout(logits.shape, options.pop("axis", -1))
    x = layout.rows(logits)
    targets = targets.reshape(-1) if targets.ndim == len(layout.batch) else layout.rows(targets)
    if "where" in options:
        options["where"] = layout.rows(np.broadcast_to(options["where"], logits.shape))
    if "sample_weight" in options:
        options["sample_weight"] = options["sample_weight"].reshape(-1)
    g = case.cotangent_in(dtype)
    answer = functools.partial(oracle.CrossEntropy, targets=targets, cotangent=1.0 if g is None else g, **options)
    return layout, answer, _units(x, targets, options)


def _of_cross_entropy(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    kind = QUANTITIES[quantity].kind
    if kind == "hvp" and reduction == "none":
        reduction = "sum"
    layout, of_logits, units = _cross_entropy(case, dtype, reduction)
    x, v = (layout.rows(array) for array in (case.arrays_in(dtype)[0], case.tangent_in(dtype)))
    answer, size = _answer(case, dtype, reduction), abs(oracle.exact(v))
    if kind == "vjp":
        name = "gradient" if quantity == "gradient" else "gradient_of_targets"
        parts = getattr(answer, name), getattr(answer, f"{name}_scale"), np.broadcast_to(units, x.shape)
        return Expected.of(*map(layout.whole, parts))
    if kind == "hvp":
        where = of_logits.keywords.get("where", True)
        p = oracle.softmax(np.where(where, x, -np.inf))
        scale = answer.curvature * p * (size + _sum(p * size))
        exact = _along(lambda x: of_logits(x).gradient, x, v)
        return Expected.of(*map(layout.whole, (exact, scale, np.broadcast_to(2 * units, x.shape))))
    if kind == "value":
        parts = answer.loss, answer.loss_scale
    else:
        scales = _sum(answer.gradient_scale * size)
        parts = _along(lambda x: of_logits(x).loss, x, v), scales if reduction == "none" else np.sum(scales)
        units = units + 10
    if reduction != "none":
        return Expected.of(*parts, _of_sum(units))
    return Expected.of(*(np.reshape(part, layout.batch) for part in (*parts, units)))


@cache
def _answer(case: Case, dtype: str, reduction: str | None) -> oracle.CrossEntropy:
    layout, of_logits, _ = _cross_entropy(case, dtype, reduction)
    return of_logits(layout.rows(case.arrays_in(dtype)[0]))


def _of_linear(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    (features, weight, targets), options = case.arrays_in(dtype), {**case.options_in(dtype), "reduction": reduction}
    bias, softcap = options.pop("bias", None), options.pop("softcap", None)
    batch, classes = features.shape[:-1], len(weight)
    x = features.reshape(-1, features.shape[-1])
    targets = targets.reshape(-1) if targets.ndim == len(batch) else targets.reshape(-1, classes)
    g = case.cotangent_in(dtype)
    logits, slope = oracle.linear(x, weight, bias, softcap)
    answer = oracle.CrossEntropy(logits, targets, cotangent=1.0 if g is None else g, **options)
    near = np.asarray(logits, dtype=np.float64)
    # a capped logit is off by a few u of itself
    units = _units(near, targets, options) + (0 if softcap is None else 4 + 2 * np.max(abs(near)))
    if quantity == "value":
        if reduction != "none":
            return Expected.of(answer.loss, answer.loss_scale, _of_sum(units))
        return Expected.of(*(part.reshape(batch) for part in (answer.loss, answer.loss_scale, units)))
    inner, scale = answer.gradient * slope, answer.gradient_scale * slope
    x = np.where(np.any(scale != 0, axis=-1, keepdims=True), oracle.exact(x), 0)  # NaN in rows that count nothing
    weight = oracle.exact(weight)
    parts = {
        "gradient": lambda: (part.reshape(features.shape) for part in (inner @ weight, scale @ abs(weight))),
        "gradient of weight": lambda: (inner.T @ x, scale.T @ abs(x)),
        "gradient of bias": lambda: (np.sum(inner, axis=0), np.sum(scale, axis=0)),
    }[quantity]()
    return Expected.of(*parts, _of_sum(units) + 4 + math.log2(classes))
