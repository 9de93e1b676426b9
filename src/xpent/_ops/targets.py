"""Targets: indices or distributions, ignoring, smoothing, weights."""

from __future__ import annotations

import functools
import math
import operator
from typing import NamedTuple

from xpent._backends.arrays import (
    Array,
    accumulation_dtype,
    cast,
    holds,
    index_dtype,
    is_known_true,
    is_real,
    namespace,
    to_int,
    visible,
)
from xpent._ops.layout import Axes, batch_shape, class_count, over_rows, total


class Weights(NamedTuple):
    """What is known of the targets of rows before any logit is read, (...,)."""

    class_index: Array | None  # whichever for a row without a class; None for distributions
    target: Array | None  # w_t of an index; None for 1
    sample: Array | None  # 0 for an ignored row; None for 1
    is_valid: Array | None  # whether an index names a class or is ignored; None for all


class Targets(NamedTuple):
    """Targets q_j w_j of rows, smoothed: ``dense``, and ``value`` more at an index; 0 in a row that is not counted."""

    class_index: Array | None  # (..., 1)
    value: Array | float  # (..., 1)
    dense: Array | None  # (..., C)
    is_counted: Array | None  # not ignored, nor of sample weight 0, nor broken without a target; (..., 1), None for all


def are_indices(targets: Array, shape: tuple[int, ...], axes: Axes) -> bool:
    """Whether targets for logits of a shape are class indices rather than distributions, told by their own shape."""
    batch = batch_shape(shape, axes)
    if tuple(targets.shape) == batch:
        if not holds(targets, "integral"):
            raise TypeError(f"class indices must be integers, got {targets.dtype}")
        return True
    if tuple(targets.shape) == shape:
        if not is_real(targets):
            raise TypeError(f"a distribution over the classes must hold real numbers, got {targets.dtype}")
        return False
    raise ValueError(
        f"for logits of shape {shape}, targets must have the shape {batch} (class indices) or {shape} "
        f"(a distribution over the classes), got {tuple(targets.shape)}"
    )


def check_indices(targets: Array, class_count: int, ignore_index: int | None) -> bool:
    """Whether the data could be looked at for free; raise for an index that names no class."""
    seen = visible(targets)
    if seen is None:
        return False
    targets, xp = seen, namespace(seen)
    if 0 in targets.shape:
        return True
    index = cast(targets, index_dtype(targets))
    if xp.min(index) >= 0 and xp.max(index) < class_count:
        return True
    is_missing = ~_names_class(index, class_count)
    if ignore_index is not None:
        is_missing = is_missing & ~_is_ignored(index, targets, ignore_index)
    if not xp.any(is_missing):
        return True
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
    logits: Array,
    axes: Axes,
    *,
    class_weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int | None,
    is_checked: bool,
) -> Weights:
    """What can be said of the rows from their targets and weights alone."""
    xp, dtype = namespace(logits), accumulation_dtype(logits)
    sample = None if sample_weight is None else cast(sample_weight, dtype)
    if targets.ndim == logits.ndim:
        return Weights(None, None, sample, None)
    index = cast(targets, index_dtype(targets))
    is_class = is_valid = target = None
    if ignore_index is not None or not is_checked:
        is_class = is_valid = _names_class(index, class_count(logits.shape, axes))
        index = xp.where(is_class, index, 0)
    if ignore_index is not None:
        is_ignored = _is_ignored(cast(targets, index_dtype(targets)), targets, ignore_index)
        is_valid = is_valid | is_ignored
        sample = xp.where(is_ignored, 0.0, xp.ones_like(index, dtype=dtype) if sample is None else sample)
    if class_weight is not None:
        target = xp.reshape(xp.take(cast(class_weight, dtype), xp.reshape(index, (-1,)), axis=0), index.shape)
        target = target if is_class is None else xp.where(is_class, target, 0.0)
    return Weights(index, target, sample, None if is_checked else is_valid)


def row_weights(
    weights: Weights, targets: Array, logits: Array, axes: Axes, class_weight: Array | None
) -> Array | None:
    """What mean sums and divides by, (...,); None where all rows weigh 1."""
    sample, target = weights.sample, weights.target
    if weights.class_index is None and class_weight is not None:
        outputs = [(batch_shape(logits.shape, axes), accumulation_dtype(logits))]
        w = cast(class_weight, accumulation_dtype(logits))
        (target,) = over_rows(_weight_of_rows, (), (targets,), (w,), axes, outputs)
    if sample is None or target is None:
        return sample if target is None else target
    return namespace(sample).where(sample == 0.0, 0.0, sample * target)


def _weight_of_rows(q: Array, w: Array) -> tuple[Array]:
    return (total(cast(q, w.dtype) * w),)


def targets_of_rows(
    x: Array,
    q: Array | None,
    index: Array | None,
    index_weight: Array | None,
    is_counted: Array | None,
    *,
    class_weight: Array | None,
    label_smoothing: float,
) -> Targets:
    """The targets of rows of logits x, in which -inf marks an impossible class."""
    xp = namespace(x)
    w = 1.0 if class_weight is None else cast(class_weight, x.dtype)
    share = 1.0 - label_smoothing
    value: Array | float = share
    dense: Array | None = None
    if index is None:
        value, dense = 0.0, cast(q, x.dtype)
        if class_weight is not None or label_smoothing:
            dense = dense * (share * w)
    elif index_weight is not None:
        value = share * index_weight
    if label_smoothing:
        is_possible = cast(x != -math.inf, x.dtype)
        smooth = (label_smoothing / total(is_possible)) * is_possible * w
        dense = smooth if dense is None else dense + smooth

    conditions = [] if is_counted is None else [is_counted]
    if index is None or index_weight is not None:
        # A distribution without weight can still be moved, where the logits are not broken.
        has_target = value != 0.0 if dense is None else xp.any(dense != 0.0, axis=-1, keepdims=True) | (value != 0.0)
        conditions.append(has_target | xp.isfinite(xp.max(x, axis=-1, keepdims=True)) if index is None else has_target)
    is_counted = functools.reduce(operator.and_, conditions) if conditions else None
    if is_counted is None or is_known_true(is_counted):
        return Targets(index, value, dense, None)
    value = xp.where(is_counted, value, xp.zeros_like(x[..., :1])) if index is not None else value
    dense = None if dense is None else xp.where(is_counted, dense, 0.0)
    return Targets(index, value, dense, is_counted)
