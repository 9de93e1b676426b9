"""Cross-entropy of rows: a call in the terms of its rows, their losses and the gradients of these.

A row has logits x with maximum m, first attained at a, and targets q_j w_j >= 0 that sum to Q. With a taken out of the
sum (rest = sum over j != a of exp(x_j - m), s = 1 + rest), every sum has terms of one sign, for an index t too:

    loss    = sum_j q_j w_j ((m - x_j) + log1p(rest))
    d/dx_j  = p_j Q - q_j w_j                                      where p_j <= 1/2
    d/dx_j  = (sum over k != j of q_k w_k - rest q_j w_j) / s      where p_j > 1/2, so j = a: the same without p_j - 1
    d/dq_j  = w_j ((m - x_j) + log1p(rest))
"""

from __future__ import annotations

import math
from typing import NamedTuple

from xpent._backends.arrays import (
    Array,
    DType,
    accumulation_dtype,
    cast,
    in_place,
    is_array,
    namespace,
    put,
    take,
    variable,
)
from xpent._backends.differentiable import Wanted
from xpent._ops.layout import Axes, batch_shape, broadcast_to_logits, logits_of_rows, total
from xpent._ops.softmax import Peak, split
from xpent._ops.targets import Targets, row_weights, targets_of_rows, weigh

Scale = Array | float


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


def enter(
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


def slope_of_targets(form: Form, class_weight: Array | None) -> Array | float:
    """d q_j w_j / d target_j, one for all classes or (C,)."""
    share = 1.0 - form.label_smoothing
    return share if class_weight is None else share * cast(class_weight, form.dtype)


def _weighed(q: Array | float, loss: Array) -> Array:
    """q * loss, where 0 times an infinite loss is 0."""
    if is_array(q):
        return namespace(loss).where(q == 0.0, 0.0, q * loss)
    return q * loss if q else namespace(loss).zeros_like(loss)


def z_loss_of_rows(form: Form, targets: Targets) -> Array | float:
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
    x, targets = enter(form, x, mask, q, class_index, index_weight, scale_of_row, class_weight)
    xp, scale = namespace(x), scale_of_all if scale_of_row is None else scale_of_row
    peak = split(x, keeps_shifted=targets.dense is not None or 1 in wanted, keeps_exp=0 in wanted)
    log_s = xp.log1p(peak.rest)
    z = None if targets.class_index is None else take(x, targets.class_index) - peak.shift

    loss = 0.0 if z is None else _weighed(targets.value, log_s - z)
    if targets.dense is not None:
        loss = loss + total(_weighed(targets.dense, log_s - peak.shifted))
    level: Array | float = 0.0  # of the z-loss: what every p_j is multiplied by
    if form.z_loss:
        z_loss, log_sum = z_loss_of_rows(form, targets), peak.maximum + log_s
        loss, level = loss + z_loss * log_sum * log_sum, 2.0 * z_loss * log_sum
    outputs = [scale * loss]

    for factor in (cotangent_of_row, cotangent_of_all):
        scale = scale if factor is None else scale * factor
    if targets.is_counted is not None:
        scale = xp.where(targets.is_counted, scale, xp.zeros_like(peak.rest))  # whatever the cotangent
    if 0 in wanted:
        outputs.append(_gradient(targets, peak, z, level, scale))
    if 1 in wanted:
        outputs.append(_weighed(scale * slope_of_targets(form, class_weight), log_s - peak.shifted))
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
    at_index = -value * xp.where(p > 0.5, peak.rest / s, 1.0 - p)
    at_index = at_index + p * level if is_array(level) else at_index
    at_index = at_index if dense is None else at_index + take(spread, targets.class_index)
    return put(gradient, targets.class_index, scale * at_index)
