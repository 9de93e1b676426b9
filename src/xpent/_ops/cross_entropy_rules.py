"""The rules of cross-entropy: value, gradient, second order, reductions; what a row contributes is in its own file."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpent._backends.arrays import (
    Array,
    accumulation_dtype,
    are_eager,
    cast,
    class_indices,
    is_array,
    namespace,
    opaque,
)
from xpent._backends.differentiable import Wanted
from xpent._ops.cross_entropy_rows import Scale, enter, losses_and_gradients, pose, slope_of_targets, z_loss_of_rows
from xpent._ops.layout import (
    Axes,
    as_rows,
    batch_shape,
    from_rows,
    keep_axes,
    of_rows,
    over_rows,
    to_rows,
    total,
)
from xpent._ops.loss_rule import Tangents, rule_of_loss
from xpent._ops.softmax import LOGSUMEXP, SOFTMAX, centred


def _loss_and_gradient(
    logits: Array, targets: Array, *, wanted: Wanted, cotangent: Array | None = None, **keywords: Any
) -> tuple[Array, ...]:
    """The loss, and gradients times a cotangent; without one in the dtype computed in, else in that of the array."""
    problem, axes, primals = pose(logits, targets, **keywords), keywords["axes"], (logits, targets)
    of_row, of_all = (None, cotangent) if problem.is_reduced else (cotangent, None)
    order, dtype = tuple(sorted(wanted)), problem.form.dtype
    dtypes = {i: dtype if cotangent is None else primals[i].dtype for i in order}
    if problem.depends_on_targets:
        dtypes[1] = dtype
    outputs = [(batch_shape(logits.shape, axes), dtype), *[(primals[i].shape, dtypes[i]) for i in order]]
    loss, *found = over_rows(
        losses_and_gradients,
        (problem.form, order),
        (logits, *problem.of_rows, of_row),
        (*problem.shared, of_all),
        axes,
        outputs,
    )
    loss = namespace(loss).sum(loss) if problem.is_reduced else loss
    gradients = dict(zip(order, found, strict=True))
    if 1 in wanted and problem.depends_on_targets:
        rows = _rows(logits, targets, **keywords)
        growth = loss * rows.denominator_slope / rows.denominator
        gradients[1] = gradients[1] - from_rows(
            growth if cotangent is None else cotangent * growth, axes, targets.shape
        )
    return (loss, *[gradients[i] for i in wanted])


def _times(v: Array, gradient: Array) -> Array:
    """v * gradient, linear in v, where 0 times an infinite gradient is 0: impossible targets that do not move."""
    # Multiplied twice, by what no compiler knows: it would fold v * c * c for a constant c into v * inf.
    xp = namespace(gradient)
    v, is_infinite = cast(v, gradient.dtype), opaque(xp.isinf(gradient))
    large = xp.where(is_infinite, float(xp.finfo(gradient.dtype).max), xp.zeros_like(gradient))
    infinite = v * large * xp.where(gradient > 0.0, large, -large)
    return xp.where(is_infinite, infinite, v * xp.where(is_infinite, 0.0, gradient))


def _gradient_product(g: Array, needed: Wanted, logits: Array, targets: Array, **keywords: Any) -> list[Array]:
    """The gradients times the cotangent of the loss."""
    arrays = [array for array in (logits, targets, g, *keywords.values()) if is_array(array)]
    if are_eager(*arrays):
        return list(LOSS_AND_GRADIENT.value(logits, targets, wanted=needed, cotangent=g, **keywords)[1:])
    _, *gradients = LOSS_AND_GRADIENT(logits, targets, wanted=needed, **keywords)
    g = keep_axes(g, keywords["axes"]) if keywords["reduction"] == "none" else g
    pairs = zip(needed, gradients, strict=True)
    return [_times(g, gradient) if i else cast(g, gradient.dtype) * gradient for i, gradient in pairs]


def _jvp(tangents: Tangents, logits: Array, targets: Array, **keywords: Any) -> tuple[Array, Array]:
    moving = tuple([i for i, tangent in enumerate(tangents) if tangent is not None])
    loss, *gradients = LOSS_AND_GRADIENT(logits, targets, wanted=moving, **keywords)
    axes, change = keywords["axes"], 0.0
    # What moves in a row that is not counted or in a class that is not in may be NaN.
    options = ("where", "class_weight", "sample_weight", "ignore_index")
    leaks = targets.ndim == logits.ndim or any(keywords[name] is not None for name in options)
    for i, gradient in zip(moving, gradients, strict=True):
        gradient, v = to_rows(gradient, axes), to_rows(cast(tangents[i], gradient.dtype), axes)
        if leaks:
            v = namespace(v).where(gradient == 0.0, 0.0, v)
        change = change + total(_times(v, gradient) if i else v * gradient)[..., 0]
    return loss, change if keywords["reduction"] == "none" else namespace(loss).sum(change)


class Rows(NamedTuple):
    """All that the second order needs."""

    x: Array  # logits, -inf for an impossible class, 0 in a row that is not counted; (..., C)
    q: Array  # q_j w_j, smoothed, 0 in a row that is not counted; (..., C)
    z: Array | float  # z_loss of a row that has a target; (..., 1)
    slope: Array  # d q_j w_j / d target_j; (..., 1) or (..., C)
    is_counted: Array | None  # (..., 1), None for all
    scale: Array  # sample weight over denominator, NaN for an index that names no class; (..., 1)
    denominator: Scale
    denominator_slope: Array | None  # d denominator / d target_j, None where it does not depend on the targets
    axes: Axes
    is_reduced: bool


def _rows(logits: Array, targets: Array, **keywords: Any) -> Rows:
    problem, axes = pose(logits, targets, **keywords), keywords["axes"]
    xp, form, (class_weight, scale) = namespace(logits), problem.form, problem.shared
    x, mask, q, index, index_weight, of_row = as_rows((logits, *problem.of_rows), axes, logits.ndim)
    x, t = enter(form, x, mask, q, index, index_weight, of_row, class_weight)
    q = xp.zeros_like(x) if t.dense is None else t.dense
    if t.class_index is not None:
        q = xp.where(class_indices(x) == t.class_index, q + t.value, q)
    ones = xp.ones_like(x[..., :1])  # PyTorch rounds numbers of Python to float32 in forward mode within forward mode
    slope, scale = ones * slope_of_targets(form, class_weight), ones * scale if of_row is None else of_row
    denominator_slope = None
    if problem.depends_on_targets:
        w, sample = cast(class_weight, x.dtype), problem.sample_weight
        weight = xp.zeros_like(x) + w if sample is None else sample[..., None] * w
        denominator_slope = weight if t.is_counted is None else xp.where(t.is_counted, weight, 0.0)
    if t.is_counted is not None:
        scale = xp.where(t.is_counted, scale, 0.0)
    return Rows(
        x, q, z_loss_of_rows(form, t), slope, t.is_counted, scale, problem.denominator, denominator_slope, axes,
        problem.is_reduced,
    )  # fmt: skip


def _enter_tangents(tangents: Tangents, rows: Rows) -> tuple[Array, Array]:
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
# and where the denominator D depends on the targets, the quotient rule.


def _hessian_product(tangents: Tangents, wanted: Wanted, logits: Array, targets: Array, **keywords: Any) -> list[Array]:
    xp = namespace(logits)
    rows = _rows(logits, targets, **keywords)
    u, d = _enter_tangents(tangents, rows)
    p, b = of_rows(SOFTMAX, rows.x), rows.slope * d
    deviation = centred(u, p)
    deviation = deviation - total(p * deviation)
    curvature, level = total(rows.q), total(b)
    if keywords["z_loss"]:
        curvature = curvature + 2.0 * rows.z * of_rows(LOGSUMEXP, rows.x)
        level = level + 2.0 * rows.z * total(p * u)
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


def _keeps_gradients(wanted: Wanted, logits: Array, *_: Array, reduction: str, **__: Any) -> bool:
    # In the dtype computed in, which may be wider than that of the logits.
    return reduction != "none" and wanted == (0,) and logits.dtype == accumulation_dtype(logits)


CROSS_ENTROPY, LOSS_AND_GRADIENT = rule_of_loss(
    _loss_and_gradient, _gradient_product, _jvp, _hessian_product, _keeps_gradients
)
