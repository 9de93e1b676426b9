"""Targets of cross-entropy: class indices or distributions, weights, ignored rows, label smoothing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpent._backends.base import Array, Backend, DType
from xpent._engine.blocks import map_rows
from xpent._engine.layout import Axes, batch_shape, class_count
from xpent._engine.rule import Argnums

Scale = Array | float


class Constants(NamedTuple):
    """Arguments that are not differentiated: arrays or numbers, None if not given."""

    where: Array | None
    class_weight: Array | None
    sample_weight: Array | None
    label_smoothing: Scale | None
    z_loss: Scale | None
    normalizer: Scale | None


class Options(NamedTuple):
    """Hashable options, on which compiled programs are specialized."""

    axes: Axes
    ignore_index: int | None
    is_checked: bool  # whether the class indices are known to be in range
    reduction: str
    argnums: Argnums = ()
    rounds_gradients: bool = False  # to the dtypes of the primals, else they have the computation dtype


class TargetRows(NamedTuple):
    """Properties of the targets of rows that do not depend on the logits, (...,); None for 1."""

    class_index: Array | None  # the class index, 0 in a row without a class; None for distributions
    class_weight: Array | None  # w_t
    sample_weight: Array | None  # 0 in an ignored row
    is_valid: Array | None  # whether the index is in range or ignored; None if all are


def is_class(index: Array, count: int) -> Array:
    """Whether indices lie in [0, count)."""
    return (index >= 0) & (index < count)


def is_ignored(backend: Backend, targets: Array, ignore_index: int) -> Array:
    """Whether a class index equals ``ignore_index``, in the dtype of the targets."""
    limits = backend.xp.iinfo(targets.dtype)
    if not limits.min <= ignore_index <= limits.max:  # as int64, the largest uint64 is -1
        return backend.xp.zeros_like(targets, dtype=backend.xp.bool)
    return backend.as_index(targets) == ignore_index


def target_rows(
    backend: Backend, targets: Array, shape: tuple[int, ...], dtype: DType, constants: Constants, options: Options
) -> TargetRows:
    """The targets of rows, for logits of the given shape and computation dtype."""
    xp, weight, ignore_index = backend.xp, constants.class_weight, options.ignore_index
    sample = None if constants.sample_weight is None else backend.cast(constants.sample_weight, dtype)
    if targets.ndim == len(shape):
        return TargetRows(None, None, sample, None)
    index = backend.as_index(targets)
    in_range = is_valid = None
    if ignore_index is not None or not options.is_checked:
        in_range = is_valid = is_class(index, class_count(shape, options.axes))
        index = xp.where(in_range, index, 0)
    if ignore_index is not None:
        ignored = is_ignored(backend, targets, ignore_index)
        is_valid = is_valid | ignored
        sample = xp.where(ignored, 0.0, xp.ones_like(index, dtype=dtype) if sample is None else sample)
    if weight is not None:
        weight = backend.gather(backend.cast(weight, dtype), index)
        weight = weight if in_range is None else xp.where(in_range, weight, 1.0)
    return TargetRows(index, weight, sample, None if options.is_checked else is_valid)


def row_weights(
    backend: Backend, rows: TargetRows, targets: Array, dtype: DType, class_weight: Array | None, axes: Axes
) -> Array | None:
    """What the mean sums and divides by, (...,): sample weight times sum_k q_k w_k; None where all rows weigh 1."""
    weight = rows.class_weight
    if rows.class_index is None and class_weight is not None:
        shared = _Weights(backend.cast(class_weight, dtype))
        outputs = [(batch_shape(targets.shape, axes), dtype)]
        (weight,) = map_rows(backend, _weight_of_rows, None, _Distributions(targets), shared, axes, outputs)
    if rows.sample_weight is None or weight is None:
        return rows.sample_weight if weight is None else weight
    return backend.xp.where(rows.sample_weight == 0.0, 0.0, rows.sample_weight * weight)


class _Distributions(NamedTuple):
    q: Array


class _Weights(NamedTuple):
    class_weight: Array


def _weight_of_rows(backend: Backend, _: Any, rows: _Distributions, shared: _Weights, __: Any) -> list[Array]:
    w = shared.class_weight
    return [backend.total(backend.cast(rows.q, w.dtype) * w)]


def denominator(
    backend: Backend, row_weight: Array | None, count: int, like: Array, reduction: str, normalizer: Scale | None
) -> Scale:
    """The denominator; infinity instead of 0 if no row is active, so that the mean is 0."""
    xp = backend.xp
    if normalizer is None and reduction != "mean":
        return 1.0
    if normalizer is not None and (row_weight is None or isinstance(normalizer, float)):
        return normalizer
    if row_weight is None:
        return backend.scalar(count or math.inf, like)
    divisor = xp.sum(row_weight) if normalizer is None else normalizer
    is_nothing = ~xp.any(row_weight != 0.0)
    return xp.where(is_nothing & (divisor == 0.0), math.inf, divisor)


def smoothed(backend: Backend, x: Array, q: Array, class_weight: Array | None, label_smoothing: Scale | None) -> Array:
    """The targets q_j w_j of distributions q, where rows of logits x are -inf at masked classes.

    Label smoothing by eps over the K unmasked classes makes them ((1 - eps) q_j + eps / K) w_j; if
    there are none, (1 - eps) q_j w_j.
    """
    if label_smoothing is not None:
        is_unmasked = backend.cast(x != -math.inf, x.dtype)
        tiny = float(backend.xp.finfo(x.dtype).smallest_normal)  # negligible beside K, and avoids a division by 0
        q = (1.0 - label_smoothing) * q + (label_smoothing / (backend.total(is_unmasked) + tiny)) * is_unmasked
    return q if class_weight is None else q * backend.cast(class_weight, x.dtype)


def target_slope(backend: Backend, dtype: DType, class_weight: Array | None, label_smoothing: Scale | None) -> Scale:
    """d (q_j w_j) / d target_j, one for all classes or (C,)."""
    share = 1.0 if label_smoothing is None else 1.0 - label_smoothing
    return share if class_weight is None else share * backend.cast(class_weight, dtype)
