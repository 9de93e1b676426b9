"""The rules of cross-entropy: value, gradient, second order, reductions.

A row has logits x with maximum m, first attained at a, and targets q_j w_j >= 0 that sum to Q. With a taken out of the
sum (rest = sum over j != a of exp(x_j - m), s = 1 + rest), every sum has terms of one sign, for an index t too:

    loss    = sum_j q_j w_j ((m - x_j) + log1p(rest))
    d/dx_j  = p_j Q - q_j w_j                                      where p_j <= 1/2
    d/dx_j  = (sum over k != j of q_k w_k - rest q_j w_j) / s      where p_j > 1/2, so j = a: the same without p_j - 1
    d/dq_j  = w_j ((m - x_j) + log1p(rest))
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpent._backends.arrays import (
    Array,
    DType,
    accumulation_dtype,
    are_eager,
    cast,
    class_indices,
    in_place,
    is_array,
    namespace,
    opaque,
    put,
    take,
    variable,
)
from xpent._backends.differentiable import Wanted
from xpent._ops.layout import (
    Axes,
    as_rows,
    batch_shape,
    broadcast_to_logits,
    from_rows,
    keep_axes,
    logits_of_rows,
    of_rows,
    over_rows,
    to_rows,
    total,
)
from xpent._ops.loss_rule import Tangents, rule_of_loss
from xpent._ops.softmax import LOGSUMEXP, SOFTMAX, Peak, centred, split
from xpent._ops.targets import Targets, row_weights, targets_of_rows, weigh

Scale = Array | float


def _denominator(row_weight: Array | None, rows: Scale, reduction: str, normalizer: Array | float | None) -> Scale:
    """What the sum of the losses is divided by; the mean of nothing is zero: 0 / inf."""
    if isinstance(normalizer, float):
        return normalizer
    if normalizer is None and reduction != "mean":
        return 1.0
    if row_weight is None:
        if normalizer is not None:
            return normalizer
        return namespace(rows).where(rows == 0, math.inf, rows) if is_array(rows) else rows or math.inf
    xp = namespace(row_weight)
    denominator = xp.sum(row_weight) if normalizer is None else normalizer
    is_nothing = ~xp.any(row_weight != 0.0)
    return xp.where(is_nothing & (denominator == 0.0), math.inf, denominator)


class Form(NamedTuple):
    """What a function of rows must know of a call before it sees an array."""

    dtype: DType  # computed in
    label_smoothing: float
    z_loss: float
    may_not_count: bool  # rows, for their scale may be 0


class Problem(NamedTuple):
    """A call in the terms of its rows."""

    form: Form
    of_rows: tuple[Array | None, ...]  # where, distributions, class indices, their weights, scale
    shared: tuple[Array | None, Scale]  # class weights, scale of rows that have none of their own
    denominator: Scale
    sample_weight: Array | None
    is_reduced: bool
    depends_on_targets: bool  # whether the denominator does


def pose(
    logits: Array,
    targets: Array,
    *,
    axes: Axes,
    where: Array | None,
    class_weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int | None,
    is_checked: bool,
    label_smoothing: float,
    z_loss: float,
    reduction: str,
    normalizer: Array | float | None,
) -> Problem:
    xp, dtype = namespace(logits), accumulation_dtype(logits)
    index, index_weight, sample, is_valid = weights = weigh(
        targets,
        logits,
        axes,
        class_weight=class_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        is_checked=is_checked,
    )
    if is_array(normalizer):
        normalizer = cast(normalizer, dtype)
    is_mean_of_weights = reduction == "mean" and normalizer is None
    row_weight = None
    if is_mean_of_weights or is_array(normalizer):
        row_weight = row_weights(weights, targets, logits, axes, class_weight)
    rows = variable(math.prod(batch_shape(logits.shape, axes)), logits)
    denominator = _denominator(row_weight, rows, reduction, normalizer)
    scale = None
    if sample is not None or is_valid is not None:
        scale = (xp.ones_like(index, dtype=dtype) if sample is None else sample) / denominator
        scale = scale if is_valid is None else xp.where(is_valid, scale, math.nan)
    distributions = targets if index is None else None
    return Problem(
        Form(dtype, label_smoothing, z_loss, may_not_count=sample is not None),
        (broadcast_to_logits(where, logits), distributions, index, index_weight, scale),
        (class_weight, 1.0 / denominator),
        denominator,
        sample,
        is_reduced=reduction != "none",
        depends_on_targets=is_mean_of_weights and class_weight is not None and index is None,
    )


def _enter(
    form: Form,
    x: Array,
    mask: Array | None,
    q: Array | None,
    class_index: Array | None,
    index_weight: Array | None,
    scale: Array | None,
    class_weight: Array | None,
) -> tuple[Array, Targets]:
    """Rows of logits, 0 in a row that is not counted, and their targets."""
    x = logits_of_rows(x, mask)
    targets = targets_of_rows(
        x,
        q,
        class_index,
        index_weight,
        scale != 0.0 if form.may_not_count else None,
        class_weight=class_weight,
        label_smoothing=form.label_smoothing,
    )
    return x if targets.is_counted is None else namespace(x).where(targets.is_counted, x, 0.0), targets


def _slope(form: Form, class_weight: Array | None) -> Array | float:
    """d q_j w_j / d target_j, one for all classes or (C,)."""
    share = 1.0 - form.label_smoothing
    return share if class_weight is None else share * cast(class_weight, form.dtype)


def _weighed(q: Array | float, loss: Array) -> Array:
    """q * loss, where 0 times an infinite loss is 0."""
    if is_array(q):
        return namespace(loss).where(q == 0.0, 0.0, q * loss)
    return q * loss if q else namespace(loss).zeros_like(loss)


def _z(form: Form, targets: Targets) -> Array | float:
    """z_loss of a row that has a target, (..., 1)."""
    value, dense = targets.value, targets.dense
    if not form.z_loss or (not is_array(value) and value):
        return form.z_loss
    has_target = value != 0.0
    if dense is not None:
        has_target = namespace(dense).any(dense != 0.0, axis=-1, keepdims=True) | has_target
    return form.z_loss * cast(has_target, form.dtype)


def losses_and_gradients(
    form: Form,
    wanted: Wanted,
    x: Array,
    mask: Array | None,
    q: Array | None,
    class_index: Array | None,
    index_weight: Array | None,
    scale_of_row: Array | None,
    cotangent_of_row: Array | None,
    class_weight: Array | None,
    scale_of_all: Scale,
    cotangent_of_all: Array | None,
) -> list[Array]:
    """Loss of every row, and its gradients times the cotangent of the row and that of all."""
    x, targets = _enter(form, x, mask, q, class_index, index_weight, scale_of_row, class_weight)
    xp, scale = namespace(x), scale_of_all if scale_of_row is None else scale_of_row
    peak = split(x, keeps_shifted=targets.dense is not None or 1 in wanted, keeps_exp=0 in wanted)
    log_s = xp.log1p(peak.rest)
    z = None if targets.class_index is None else take(x, targets.class_index) - peak.shift

    loss = 0.0 if z is None else _weighed(targets.value, log_s - z)
    if targets.dense is not None:
        loss = loss + total(_weighed(targets.dense, log_s - peak.shifted))
    level: Array | float = 0.0  # of the z-loss: what every p_j is multiplied by
    if form.z_loss:
        z_loss, log_sum = _z(form, targets), peak.maximum + log_s
        loss, level = loss + z_loss * log_sum * log_sum, 2.0 * z_loss * log_sum
    outputs = [scale * loss]

    for factor in (cotangent_of_row, cotangent_of_all):
        scale = scale if factor is None else scale * factor
    if targets.is_counted is not None:
        scale = xp.where(targets.is_counted, scale, xp.zeros_like(peak.rest))  # whatever the cotangent
    if 0 in wanted:
        outputs.append(_gradient(targets, peak, z, level, scale))
    if 1 in wanted:
        outputs.append(_weighed(scale * _slope(form, class_weight), log_s - peak.shifted))
    return outputs


def _gradient(targets: Targets, peak: Peak, z: Array | None, level: Array | float, scale: Scale) -> Array:
    """The gradient with respect to the logits, (p_j (level + Q) - q_j w_j) scale."""
    xp, s, dense, value = namespace(peak.rest), 1.0 + peak.rest, targets.dense, targets.value
    if dense is not None:
        is_likely = peak.exp > 0.5 * s
        others = total(xp.where(is_likely, 0.0, dense))
        spread = xp.where(is_likely, (others - peak.rest * dense) / s, peak.exp * (total(dense) / s) - dense)
    if z is None and not is_array(level):
        return scale * spread
    gradient = in_place(xp.multiply, peak.exp, scale * (level + value) / s)
    gradient = gradient if dense is None else gradient + scale * spread
    if z is None:
        return gradient
    p = xp.exp(z) / s
    at_index = p * level - value * xp.where(p > 0.5, peak.rest / s, 1.0 - p)
    at_index = at_index if dense is None else at_index + take(spread, targets.class_index)
    return put(gradient, targets.class_index, scale * at_index)


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
    x, t = _enter(form, x, mask, q, index, index_weight, of_row, class_weight)
    q = xp.zeros_like(x) if t.dense is None else t.dense
    if t.class_index is not None:
        q = xp.where(class_indices(x) == t.class_index, q + t.value, q)
    ones = xp.ones_like(x[..., :1])  # PyTorch rounds numbers of Python to float32 in forward mode within forward mode
    slope, scale = ones * _slope(form, class_weight), ones * scale if of_row is None else of_row
    denominator_slope = None
    if problem.depends_on_targets:
        w, sample = cast(class_weight, x.dtype), problem.sample_weight
        weight = xp.zeros_like(x) + w if sample is None else sample[..., None] * w
        denominator_slope = weight if t.is_counted is None else xp.where(t.is_counted, weight, 0.0)
    if t.is_counted is not None:
        scale = xp.where(t.is_counted, scale, 0.0)
    return Rows(
        x, q, _z(form, t), slope, t.is_counted, scale, problem.denominator, denominator_slope, axes,
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
