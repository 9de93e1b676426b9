"""Rows: the class axes of an array are checked, moved last and flattened to one, and put back."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from xpent._backends.arrays import (
    Array,
    accumulation_dtype,
    cast,
    common_namespace,
    contiguous,
    is_floating,
    namespace,
)
from xpent._backends.differentiable import Rule, Wanted

Axis = int | tuple[int, ...] | None
Axes = tuple[int, ...]


def check_logits(x: Array, axis: Axis, where: Array | None, name: str = "x") -> Axes:
    """The class axes of valid arguments, which every public function shares; an error for others."""
    xp = common_namespace(**{name: x, "where": where})
    if not xp.isdtype(x.dtype, ("real floating", "integral", "bool")):
        raise TypeError(f"{name} must hold real numbers, got {x.dtype}")
    if where is not None:
        if not xp.isdtype(where.dtype, "bool"):
            raise TypeError(f"where must hold booleans, got {where.dtype}")
        if not _is_broadcastable(tuple(where.shape), tuple(x.shape)):
            raise ValueError(f"where must broadcast to the shape {tuple(x.shape)} of {name}, got {tuple(where.shape)}")
    return _class_axes(axis, x, name)


def _is_broadcastable(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to exactly the other."""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))


def _class_axes(axis: Axis, x: Array, name: str) -> Axes:
    """The class axes as non-negative integers in the order given, which is the order of the flat index."""
    given = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    try:
        axes = tuple(operator.index(a) for a in given)
    except TypeError:
        raise TypeError(f"axis must be an int, a tuple of ints or None, got {axis!r}") from None
    if not axes or any(not -x.ndim <= a < x.ndim for a in axes):
        raise ValueError(f"axis must name at least one of the {x.ndim} axes of {name}, got {axis!r}")
    axes = tuple(a % x.ndim for a in axes)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis must name every axis once, got {axis!r}")
    if class_count(x.shape, axes) == 0:
        raise ValueError(f"{name} must have at least one class, got shape {tuple(x.shape)} with axis={axis!r}")
    return axes


def class_count(shape: tuple[int, ...], axes: Axes) -> int:
    """C, the number of classes."""
    return math.prod([shape[a] for a in axes])


def batch_shape(shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """The shape of what has one entry per row."""
    return tuple(n for a, n in enumerate(shape) if a not in axes)


def to_rows(x: Array, axes: Axes) -> Array:
    """The array with one class axis, the last."""
    order = (*(a for a in range(x.ndim) if a not in axes), *axes)
    rows = x if order == tuple(range(x.ndim)) else namespace(x).permute_dims(x, order)
    if len(axes) > 1:
        rows = namespace(x).reshape(rows, (*batch_shape(x.shape, axes), class_count(x.shape, axes)))
    return contiguous(rows)


def from_rows(rows: Array, axes: Axes, shape: tuple[int, ...]) -> Array:
    """The array of the given shape whose rows these are: the inverse of `to_rows`.

    Rows with one entry instead of C give class axes of length one.
    """
    xp = namespace(rows)
    order = (*(a for a in range(len(shape)) if a not in axes), *axes)
    if len(axes) > 1:
        is_single = rows.shape[-1] == 1
        rows = xp.reshape(rows, tuple(1 if is_single and a in axes else shape[a] for a in order))
    if order == tuple(range(len(shape))):
        return rows
    return xp.permute_dims(rows, tuple(order.index(a) for a in range(len(shape))))


def total(rows: Array) -> Array:
    """The sum of each row, (..., 1)."""
    return namespace(rows).sum(rows, axis=-1, keepdims=True)


def keep_axes(x: Array, axes: Axes) -> Array:
    """One entry per row, with the class axes put back as axes of length one."""
    for axis in sorted(axes):
        x = namespace(x).expand_dims(x, axis=axis)
    return x


def drop_axes(x: Array, axes: Axes) -> Array:
    """The inverse of `keep_axes`."""
    return namespace(x).squeeze(x, axis=axes)


def logits_to_rows(x: Array, axes: Axes, where: Array | None) -> Array:
    """Rows in the dtype to compute in, -inf in every class that is not in."""
    x = cast(x, accumulation_dtype(x))
    if where is not None:
        x = namespace(x).where(where, x, -math.inf)
    return to_rows(x, axes)


def masked(v: Array, x: Array) -> Array:
    """Rows of a tangent or cotangent, 0 in the impossible classes of the rows x, which take no part."""
    return namespace(x).where(x == -math.inf, 0.0, v)


def rule_of_rows(
    value: Callable[[Array], Array],
    vjp: Callable[[Array, Array], Array],
    jvp: Callable[[Array, Array], Array],
    value_and_gradient: Rule | None = None,
) -> Rule:
    """A rule for arrays of any layout and dtype, from functions of rows: value(x), vjp(g, x) and jvp(v, x)."""

    def enter(v: Array, rows: Array, axes: Axes, keepdims: bool = True) -> Array:
        return to_rows(cast(v if keepdims else keep_axes(v, axes), rows.dtype), axes)

    def leave(rows: Array, x: Array, axes: Axes, keepdims: bool = True) -> Array:
        y = cast(from_rows(rows, axes, x.shape), x.dtype if is_floating(x) else rows.dtype)
        return y if keepdims else drop_axes(y, axes)

    def rule_value(x: Array, *, axes: Axes, where: Array | None, keepdims: bool) -> Array:
        return leave(value(logits_to_rows(x, axes, where)), x, axes, keepdims)

    def rule_vjp(
        cotangents: tuple[Array], _: Wanted, x: Array, *, axes: Axes, where: Array | None, keepdims: bool
    ) -> tuple[Array]:
        rows = logits_to_rows(x, axes, where)
        return (leave(vjp(enter(cotangents[0], rows, axes, keepdims), rows), x, axes),)

    def rule_jvp(
        tangents: tuple[Array], x: Array, *, axes: Axes, where: Array | None, keepdims: bool
    ) -> tuple[Array, Array]:
        rows = logits_to_rows(x, axes, where)
        tangent = leave(jvp(enter(tangents[0], rows, axes), rows), x, axes, keepdims)
        return rule(x, axes=axes, where=where, keepdims=keepdims), tangent

    rule = Rule(rule_value, rule_vjp, rule_jvp, value_and_gradient)
    return rule


def of_rows(rule: Rule, x: Array) -> Array:
    """A rule made by `rule_of_rows`, of rows; differentiable to any order."""
    return rule(x, axes=(x.ndim - 1,), where=None, keepdims=True)
