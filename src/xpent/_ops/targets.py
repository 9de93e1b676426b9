"""Targets: indices or distributions, ignoring, smoothing, weights."""

from __future__ import annotations

import functools
import math
import operator
from typing import NamedTuple

from xpent._backends.arrays import Array, cast, class_indices, index_dtype, namespace, to_int, visible
from xpent._ops.layout import Axes, batch_shape, to_rows, total


class Targets(NamedTuple):
    """Targets of rows of logits, and what the rows weigh."""

    weight: Array  # q_j w_j, smoothed, 0 in a row that is not counted; (..., C)
    slope: Array  # d weight_j / d target_j = (1 - label_smoothing) w_j; (C,)
    is_counted: Array | None  # not ignored, nor of sample weight 0, nor broken without a target; (..., 1), None for all
    sample_weight: Array  # 0 for a row that is not counted, NaN for an index that names no class; (..., 1)
    row_weight: Array  # what mean sums and divides by; (..., 1)
    row_weight_slope: Array | None  # d row_weight / d target_j, None where it does not depend on the targets; (..., C)


def are_indices(targets: Array, logits: Array, axes: Axes) -> bool:
    """Whether targets are class indices rather than distributions over the classes, told by their shape."""
    xp = namespace(targets)
    shape, batch = tuple(logits.shape), batch_shape(logits.shape, axes)
    if tuple(targets.shape) == batch:
        if not xp.isdtype(targets.dtype, "integral"):
            raise TypeError(f"class indices must be integers, got {targets.dtype}")
        return True
    if tuple(targets.shape) == shape:
        if not xp.isdtype(targets.dtype, ("real floating", "integral", "bool")):
            raise TypeError(f"a distribution over the classes must hold real numbers, got {targets.dtype}")
        return False
    raise ValueError(
        f"for logits of shape {shape}, targets must have the shape {batch} (class indices) or {shape} "
        f"(a distribution over the classes), got {tuple(targets.shape)}"
    )


def check_indices(targets: Array, class_count: int, ignore_index: int | None) -> None:
    """Raise for an index that names no class, where the data can be looked at for free."""
    targets = visible(targets)
    if targets is None:
        return
    xp = namespace(targets)
    index = cast(targets, index_dtype(targets))
    is_missing = ~(_is_ignored(index, targets, ignore_index) | _names_class(index, class_count))
    if not xp.any(is_missing):
        return
    flat = int(xp.argmax(xp.reshape(xp.astype(is_missing, index.dtype), (-1,))))
    position: tuple[int, ...] = ()
    rest = flat
    for length in reversed(targets.shape):
        rest, here = divmod(rest, length)
        position = (here, *position)
    value = to_int(xp.reshape(targets, (-1,))[flat])
    raise ValueError(f"target {value} at {position} is no class: there are {class_count}, numbered from 0")


def _names_class(index: Array, class_count: int) -> Array:
    return (index >= 0) & (index < class_count)


def _is_ignored(index: Array, targets: Array, ignore_index: int | None) -> Array:
    # An index that the targets' own dtype cannot hold ignores nothing: the largest uint64 becomes -1 in int64.
    limits = namespace(targets).iinfo(targets.dtype)
    if ignore_index is None or not limits.min <= ignore_index <= limits.max:
        return namespace(index).zeros_like(index, dtype=namespace(index).bool)
    return index == ignore_index


def weigh(
    targets: Array,
    x: Array,
    axes: Axes,
    *,
    class_weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int | None,
    label_smoothing: float,
) -> Targets:
    """The targets of the rows x, in which -inf marks an impossible class."""
    xp = namespace(x)
    is_index = targets.ndim == x.ndim - 1
    conditions = []
    if is_index:
        index = cast(targets, index_dtype(targets))[..., None]
        q = xp.astype(class_indices(x) == index, x.dtype)
        is_ignored = _is_ignored(index, targets, ignore_index)
        conditions += [] if ignore_index is None else [~is_ignored]
    else:
        q = to_rows(cast(targets, x.dtype), axes)

    w, weight, s = xp.ones_like(class_indices(x), dtype=x.dtype), q, xp.ones_like(x[..., :1])
    target_weight = s
    if class_weight is not None:
        w = cast(class_weight, x.dtype)
        weight = q * w
        target_weight = total(weight)
    if sample_weight is not None:
        s = cast(sample_weight, x.dtype)[..., None]
        conditions.append(s != 0.0)
    if label_smoothing:
        is_possible = xp.astype(x != -math.inf, x.dtype)
        smooth = label_smoothing / total(is_possible) * is_possible
        weight = (1.0 - label_smoothing) * weight + smooth * w
    if conditions:
        s = xp.where(functools.reduce(operator.and_, conditions), s, 0.0)
    row_weight = xp.where(s == 0.0, 0.0, s * target_weight)
    if class_weight is not None or not is_index:
        # A distribution without weight can still be moved, where the logits are not broken.
        has_target = xp.any(weight != 0.0, axis=-1, keepdims=True)
        conditions.append(has_target if is_index else has_target | xp.isfinite(xp.max(x, axis=-1, keepdims=True)))

    is_counted = functools.reduce(operator.and_, conditions) if conditions else None
    if is_counted is not None:
        weight, s = xp.where(is_counted, weight, 0.0), xp.where(is_counted, s, 0.0)
    if is_index:
        s = xp.where(is_ignored | _names_class(index, x.shape[-1]), s, math.nan)
    row_weight_slope = None if is_index or class_weight is None else s * w
    return Targets(weight, (1.0 - label_smoothing) * w, is_counted, s, row_weight, row_weight_slope)
