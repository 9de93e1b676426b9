"""The rules of cross-entropy: value, gradient, second order, reductions.

A row has logits x with maximum m, first attained at a, and targets q_j w_j >= 0 that sum to Q. With a taken out of the
sum (rest = sum over j != a of exp(x_j - m), s = 1 + rest), every sum has terms of one sign, for an index too:

    loss    = sum_j q_j w_j ((m - x_j) + log1p(rest))
    d/dx_j  = p_j Q - q_j w_j                                          j != a, where p_j <= 1/2
    d/dx_a  = (sum over k != a of q_k w_k - rest q_a w_a) / s          the same without p_a - 1
    d/dq_j  = w_j ((m - x_j) + log1p(rest))
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpent._backends.arrays import Array, cast, namespace
from xpent._backends.differentiable import Rule, Wanted
from xpent._ops.layout import Axes, from_rows, keep_axes, logits_to_rows, of_rows, to_rows, total
from xpent._ops.softmax import LOGSUMEXP, SOFTMAX, centred, split
from xpent._ops.targets import weigh

Tangents = tuple[Array | None, Array | None]


class Rows(NamedTuple):
    """All that the formulas need."""

    x: Array  # logits, -inf for an impossible class, 0 in a row that is not counted; (..., C)
    q: Array  # q_j w_j, smoothed, 0 in a row that is not counted; (..., C)
    slope: Array  # d q_j w_j / d target_j; (C,)
    is_counted: Array | None  # (..., 1), None for all
    scale: Array  # sample weight over denominator, NaN for an index that names no class; (..., 1)
    denominator: Array | float
    denominator_slope: Array | None  # d denominator / d target_j, None where it does not depend on the targets
    z_loss: float
    axes: Axes
    is_reduced: bool


def _rows(
    logits: Array,
    targets: Array,
    *,
    axes: Axes,
    where: Array | None,
    class_weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int | None,
    label_smoothing: float,
    z_loss: float,
    reduction: str,
    normalizer: Array | float | None,
) -> Rows:
    x = logits_to_rows(logits, axes, where)
    t = weigh(
        targets,
        x,
        axes,
        class_weight=class_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )
    if t.is_counted is not None:
        x = namespace(x).where(t.is_counted, x, 0.0)
    denominator = _denominator(t.row_weight, reduction, normalizer)
    is_mean_of_weights = reduction == "mean" and normalizer is None
    return Rows(
        x,
        t.weight,
        t.slope,
        t.is_counted,
        t.sample_weight / denominator,
        denominator,
        t.row_weight_slope if is_mean_of_weights else None,
        z_loss,
        axes,
        is_reduced=reduction != "none",
    )


def _denominator(row_weight: Array, reduction: str, normalizer: Array | float | None) -> Array | float:
    xp = namespace(row_weight)
    if isinstance(normalizer, float):
        return normalizer
    if normalizer is None and reduction != "mean":
        return 1.0
    denominator = xp.sum(row_weight) if normalizer is None else cast(normalizer, row_weight.dtype)
    # The mean of nothing is zero: 0 / inf.
    is_nothing = ~xp.any(row_weight != 0.0)
    return xp.where(is_nothing & (denominator == 0.0), math.inf, denominator)


def _z(rows: Rows) -> Array:
    """z_loss of a row that has a target, (..., 1)."""
    xp = namespace(rows.q)
    return rows.z_loss * xp.astype(xp.any(rows.q != 0.0, axis=-1, keepdims=True), rows.q.dtype)


def _loss_and_gradient(logits: Array, targets: Array, *, wanted: Wanted, **keywords: Any) -> tuple[Array, ...]:
    xp = namespace(logits)
    rows = _rows(logits, targets, **keywords)
    peak = split(rows.x)
    s, log_s = 1.0 + peak.rest, xp.log1p(peak.rest)
    surprise, log_sum = log_s - peak.shifted, peak.maximum + log_s

    loss = total(xp.where(rows.q == 0.0, 0.0, rows.q * surprise))
    if rows.z_loss:
        loss = loss + _z(rows) * log_sum * log_sum
    loss = (rows.scale * loss)[..., 0]
    loss = xp.sum(loss) if rows.is_reduced else loss

    gradients = {}
    if 0 in wanted:
        p = peak.exp / s
        others = total(xp.where(peak.is_first, 0.0, rows.q))
        slope_of_z = 2.0 * _z(rows) * log_sum if rows.z_loss else 0.0
        at_first = (others + slope_of_z - peak.rest * rows.q) / s
        gradient = xp.where(peak.is_first, at_first, p * (total(rows.q) + slope_of_z) - rows.q)
        gradients[0] = from_rows(rows.scale * gradient, rows.axes, logits.shape)
    if 1 in wanted:
        gradient = rows.scale * xp.where(rows.slope == 0.0, 0.0, rows.slope * surprise)
        if rows.denominator_slope is not None:
            gradient = gradient - loss * rows.denominator_slope / rows.denominator
        gradients[1] = from_rows(gradient, rows.axes, targets.shape)
    return (loss, *[gradients[i] for i in wanted])


def _value(logits: Array, targets: Array, **keywords: Any) -> Array:
    return _loss_and_gradient(logits, targets, wanted=(), **keywords)[0]


def _times(v: Array, gradient: Array) -> Array:
    """v * gradient, linear in v, where 0 times an infinite gradient is 0: impossible targets that do not move."""
    # Multiplied twice by an array, for a compiler may fold v * c * c for a constant c into v * inf.
    xp = namespace(gradient)
    v, is_infinite = cast(v, gradient.dtype), xp.isinf(gradient)
    large = xp.where(is_infinite, float(xp.finfo(gradient.dtype).max), xp.zeros_like(gradient))
    infinite = v * large * xp.where(gradient > 0.0, large, -large)
    return xp.where(is_infinite, infinite, v * xp.where(is_infinite, 0.0, gradient))


def _gradient_product(g: Array, needed: Wanted, logits: Array, targets: Array, **keywords: Any) -> list[Array]:
    """The gradients times the cotangent of the loss."""
    _, *gradients = LOSS_AND_GRADIENT(logits, targets, wanted=needed, **keywords)
    g = keep_axes(g, keywords["axes"]) if keywords["reduction"] == "none" else g
    return [_times(g, gradient) for gradient in gradients]


def _vjp(cotangents: tuple[Array], needed: Wanted, logits: Array, targets: Array, **keywords: Any) -> tuple[Array, ...]:
    products = _gradient_product(cotangents[0], needed, logits, targets, **keywords)
    return tuple([cast(product, (logits, targets)[i].dtype) for i, product in zip(needed, products, strict=True)])


def _jvp(tangents: Tangents, logits: Array, targets: Array, **keywords: Any) -> tuple[Array, Array]:
    moving = tuple([i for i, tangent in enumerate(tangents) if tangent is not None])
    loss, *gradients = LOSS_AND_GRADIENT(logits, targets, wanted=moving, **keywords)
    rows = _rows(logits, targets, **keywords)
    moved, pairs = _enter(tangents, rows), zip(moving, gradients, strict=True)
    change = sum([total(_times(moved[i], to_rows(gradient, rows.axes))) for i, gradient in pairs])[..., 0]
    return loss, namespace(loss).sum(change) if rows.is_reduced else change


def _enter(tangents: Tangents, rows: Rows) -> tuple[Array, Array]:
    """Rows of tangents; 0 where they do not move, in a row that is not counted and in an impossible class."""
    xp = namespace(rows.x)
    u, d = [
        xp.zeros_like(rows.x) if tangent is None else to_rows(cast(tangent, rows.x.dtype), rows.axes)
        for tangent in tangents
    ]
    return xp.where(_takes_part(rows), u, 0.0), d if rows.is_counted is None else xp.where(rows.is_counted, d, 0.0)


def _takes_part(rows: Rows) -> Array:
    """Whether a logit has a gradient: its class is possible or demanded by the target, or its row is NaN; (..., C)."""
    xp = namespace(rows.x)
    is_broken = ~xp.isfinite(xp.max(rows.x, axis=-1, keepdims=True))
    takes_part = (rows.x != -math.inf) | (rows.q != 0.0) | is_broken
    return takes_part if rows.is_counted is None else takes_part & rows.is_counted


# Second order, for tangents u of the logits and d of the targets, with b_j = slope_j d_j that of q_j w_j:
#
#     of the gradient with respect to the logits     p (Q (u - sum(p u)) + sum(b)) - b
#     of its z-loss term 2 z lse p                   2 z p (lse (u - sum(p u)) + sum(p u))
#     of the gradient with respect to the targets    slope (sum(p u) - u)
#
# and where the denominator D depends on the targets, the quotient rule. The Hessian is symmetric: its product with a
# tangent is its product with a cotangent, too.


def _hessian_product(tangents: Tangents, wanted: Wanted, logits: Array, targets: Array, **keywords: Any) -> list[Array]:
    xp = namespace(logits)
    rows = _rows(logits, targets, **keywords)
    u, d = _enter(tangents, rows)
    p, b = of_rows(SOFTMAX, rows.x), rows.slope * d
    deviation = centred(u, rows.x)
    deviation = deviation - total(p * deviation)
    curvature, level = total(rows.q), total(b)
    if rows.z_loss:
        z = _z(rows)
        curvature, level = curvature + 2.0 * z * of_rows(LOGSUMEXP, rows.x), level + 2.0 * z * total(p * u)
    products = [
        rows.scale * xp.where(_takes_part(rows), p * (curvature * deviation + level) - b, 0.0),
        -rows.scale * rows.slope * deviation,
    ]
    if rows.denominator_slope is not None:
        _, *gradients = LOSS_AND_GRADIENT(logits, targets, wanted=(0, 1), **keywords)
        growth = xp.sum(rows.denominator_slope * d) / rows.denominator
        products = [
            product - _times(growth, to_rows(gradient, rows.axes))
            for product, gradient in zip(products, gradients, strict=True)
        ]
        _, change = _jvp(tangents, logits, targets, **keywords)
        products[1] = products[1] - change * rows.denominator_slope / rows.denominator
    return [from_rows(products[i], rows.axes, logits.shape) for i in wanted]


def _both_vjp(
    cotangents: tuple[Array | None, ...],
    needed: Wanted,
    logits: Array,
    targets: Array,
    *,
    wanted: Wanted,
    **keywords: Any,
) -> tuple[Array, ...]:
    of_loss, *of_gradients = cotangents
    parts = []
    if of_loss is not None:
        parts.append(_gradient_product(of_loss, needed, logits, targets, **keywords))
    if any(u is not None for u in of_gradients):
        tangents = dict(zip(wanted, of_gradients, strict=True))
        parts.append(_hessian_product((tangents.get(0), tangents.get(1)), needed, logits, targets, **keywords))
    return tuple([cast(sum(part), (logits, targets)[i].dtype) for i, *part in zip(needed, *parts, strict=True)])


def _both_jvp(
    tangents: Tangents, logits: Array, targets: Array, *, wanted: Wanted, **keywords: Any
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    values = LOSS_AND_GRADIENT(logits, targets, wanted=wanted, **keywords)
    _, change = _jvp(tangents, logits, targets, **keywords)
    return values, (change, *_hessian_product(tangents, wanted, logits, targets, **keywords))


LOSS_AND_GRADIENT = Rule(_loss_and_gradient, _both_vjp, _both_jvp)
CROSS_ENTROPY = Rule(_value, _vjp, _jvp, LOSS_AND_GRADIENT)
