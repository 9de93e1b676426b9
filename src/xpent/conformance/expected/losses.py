"""What must come out of cross_entropy and linear_cross_entropy."""

from __future__ import annotations

import functools
import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from xpent.conformance import oracle
from xpent.conformance.dtypes import Numbers
from xpent.conformance.expected.bound import QUANTITIES, Expected, Layout, along, row_sum, spread
from xpent.conformance.oracle import Exact

if TYPE_CHECKING:
    from xpent.conformance.case import Case


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
    return np.asarray(4 + distance + spread(x) + 4 * len(rounding) + 4 * is_divided)


def _of_sum(units: Numbers) -> Numbers:
    """A sum is as far off as its worst term, and loses a unit wherever its terms are added in pairs."""
    return np.asarray(np.max(units, initial=4.0) + math.log2(max(len(units), 1)))


_Oracle = functools.partial[oracle.CrossEntropy]


@cache
def _cross_entropy(case: Case, dtype: str, reduction: str | None) -> tuple[Layout, _Oracle, Numbers]:
    """Everything about a case, in rows: the layout, the oracle of logits and the units allowed."""
    (logits, targets), options = case.arrays_in(dtype), {**case.options_in(dtype), "reduction": reduction}
    layout = Layout(logits.shape, options.pop("axis", -1))
    x = layout.rows(logits)
    targets = targets.reshape(-1) if targets.ndim == len(layout.batch) else layout.rows(targets)
    if "where" in options:
        options["where"] = layout.rows(np.broadcast_to(options["where"], logits.shape))
    if "sample_weight" in options:
        options["sample_weight"] = options["sample_weight"].reshape(-1)
    g = case.cotangent_in(dtype)
    answer = functools.partial(oracle.CrossEntropy, targets=targets, cotangent=1.0 if g is None else g, **options)
    return layout, answer, _units(x, targets, options)


def of_cross_entropy(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    """Losses, or derivatives of them."""
    kind = QUANTITIES[quantity].kind
    if kind == "hvp" and reduction == "none":
        reduction = "sum"
    layout, of_logits, units = _cross_entropy(case, dtype, reduction)
    x, v = (layout.rows(array) for array in (case.arrays_in(dtype)[0], case.tangent_in(dtype)))
    answer, size = _answer(case, dtype, reduction), abs(oracle.exact(v))
    if quantity == "value with gradient":
        kind = "value"
    if kind == "vjp":
        name = "gradient" if quantity == "gradient" else "gradient_of_targets"
        entries = getattr(answer, name), getattr(answer, f"{name}_scale"), np.broadcast_to(units, x.shape)
        return Expected.of(*map(layout.whole, entries))
    if kind == "hvp":
        where = of_logits.keywords.get("where", True)
        p = oracle.softmax(np.where(where, x, -np.inf))
        scale = answer.curvature * p * (size + row_sum(p * size))
        exact = along(lambda x: of_logits(x).gradient, x, v)
        return Expected.of(*map(layout.whole, (exact, scale, np.broadcast_to(2 * units, x.shape))))
    if kind == "value":
        losses, scale = answer.loss, answer.loss_scale
    else:
        losses, units = along(lambda x: of_logits(x).loss, x, v), units + 10
        scale = np.sum(answer.gradient_scale * size, axis=-1 if reduction == "none" else None)
    return _of_losses(losses, scale, units, layout.batch, reduction)


@cache
def _answer(case: Case, dtype: str, reduction: str | None) -> oracle.CrossEntropy:
    layout, of_logits, _ = _cross_entropy(case, dtype, reduction)
    return of_logits(layout.rows(case.arrays_in(dtype)[0]))


def of_linear(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    """Losses, or gradients by features, weight or bias."""
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
        return _of_losses(answer.loss, answer.loss_scale, units, batch, reduction)
    inner, scale = answer.gradient * slope, answer.gradient_scale * slope
    x = np.where(np.any(scale != 0, axis=-1, keepdims=True), oracle.exact(x), 0)  # NaN in rows that count nothing
    weight = oracle.exact(weight)
    if quantity == "gradient":
        inner, scale = (part.reshape(features.shape) for part in (inner @ weight, scale @ abs(weight)))
    elif quantity == "gradient of weight":
        inner, scale = inner.T @ x, scale.T @ abs(x)
    else:
        inner, scale = np.sum(inner, axis=0), np.sum(scale, axis=0)
    return Expected.of(inner, scale, _of_sum(units) + 4 + math.log2(classes))


def _of_losses(losses: Exact, scale: Any, units: Numbers, batch: tuple[int, ...], reduction: str | None) -> Expected:
    """One number, or one for each row."""
    if reduction != "none":
        return Expected.of(losses, scale, _of_sum(units))
    return Expected.of(losses.reshape(batch), scale.reshape(batch), units.reshape(batch))
