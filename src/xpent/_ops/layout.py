"""Rows: the class axes of an array are checked, moved last and flattened to one, and put back."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from xpent._backends.arrays import (
    Array,
    DType,
    accumulation_dtype,
    cast,
    common_namespace,
    constant,
    contiguous,
    empty,
    holds,
    is_array,
    is_floating,
    is_real,
    namespace,
)
from xpent._backends.differentiable import Rule, Wanted
from xpent._backends.rows import Index, at_once, blocks, walk

Axis = int | tuple[int, ...] | None
Axes = tuple[int, ...]


def check_logits(x: Array, axis: Axis, where: Array | None, name: str = "x", **others: Array | None) -> Axes:
    """The class axes of valid arguments, which every public function shares; an error for others."""
    common_namespace(**{name: x, "where": where}, **others)
    if not is_real(x):
        raise TypeError(f"{name} must hold real numbers, got {x.dtype}")
    if where is not None:
        if not holds(where, "bool"):
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
        axes = tuple([operator.index(a) for a in given])
    except TypeError:
        raise TypeError(f"axis must be an int, a tuple of ints or None, got {axis!r}") from None
    if not axes or any(not -x.ndim <= a < x.ndim for a in axes):
        raise ValueError(f"axis must name at least one of the {x.ndim} axes of {name}, got {axis!r}")
    axes = tuple([constant(a % x.ndim) for a in axes])
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
    return tuple([n for a, n in enumerate(shape) if a not in axes])


def to_rows(x: Array, axes: Axes) -> Array:
    """The array with one class axis, the last."""
    return _merge_classes(_classes_last(x, axes), len(axes))


def _order(ndim: int, axes: Axes) -> Axes:
    return (*[a for a in range(ndim) if a not in axes], *axes)


def _classes_last(x: Array, axes: Axes) -> Array:
    order = _order(x.ndim, axes)
    return x if order == tuple(range(x.ndim)) else namespace(x).permute_dims(x, order)


def _merge_classes(x: Array, count: int) -> Array:
    """Rows of an array whose last ``count`` axes are those of the classes."""
    if count > 1:
        x = namespace(x).reshape(x, (*x.shape[:-count], math.prod(x.shape[-count:])))
    return contiguous(x)


def from_rows(y: Array, axes: Axes, shape: tuple[int, ...]) -> Array:
    """The array of the given shape whose rows these are: the inverse of `to_rows`.

    Rows with one entry instead of C give class axes of length one.
    """
    order = _order(len(shape), axes)
    if len(axes) > 1:
        is_single = y.shape[-1] == 1
        y = namespace(y).reshape(y, tuple(1 if is_single and a in axes else shape[a] for a in order))
    if order == tuple(range(len(shape))):
        return y
    return namespace(y).permute_dims(y, tuple(order.index(a) for a in range(len(shape))))


def as_rows(arrays: Sequence[Array | None], axes: Axes, ndim: int) -> list[Array | None]:
    """Arrays as rows: (..., C) of those that have all ``ndim`` axes, (..., 1) of those that have no classes."""
    return [a if a is None else to_rows(a, axes) if a.ndim == ndim else a[..., None] for a in arrays]


def over_rows(
    function: Callable[..., Sequence[Array]],
    static: tuple[Any, ...],
    arrays: tuple[Array, *tuple[Array | None, ...]],
    shared: Sequence[Array | float | None],
    axes: Axes,
    outputs: Sequence[tuple[tuple[int, ...], DType]],
    *,
    overwrites: bool = False,
) -> tuple[Array, ...]:
    """Outputs of ``function(*static, *rows, *shared)``, of the shapes and dtypes given, walked as suits the library.

    The arrays, of which the first has classes, are passed as rows, see `as_rows`; what is ``static`` can be hashed.
    What the function returns for a row must depend on that row alone, and have C entries for an output with classes,
    else 1. Where the first array may be overwritten, it may become the output of its shape and dtype, of which there
    must be one at most.
    """
    x = arrays[0]
    batch, classes = batch_shape(x.shape, axes), class_count(x.shape, axes)
    indices = blocks(batch, classes, *[a for a in (*arrays, *shared) if is_array(a)])
    if indices is None:
        dtypes = tuple([dtype for _, dtype in outputs])
        found = at_once(function, static, (*as_rows(arrays, axes, x.ndim), *shared), dtypes)
        return tuple([
            from_rows(y, axes, shape) if len(shape) == x.ndim else y[..., 0]
            for y, (shape, _) in zip(found, outputs, strict=True)
        ])  # fmt: skip
    results = [
        x if overwrites and (shape, dtype) == (tuple(x.shape), x.dtype) else empty(shape, dtype, x)
        for shape, dtype in outputs
    ]
    goals = [_classes_last(y, axes) if y.ndim == x.ndim else y[..., None] for y in results]

    views = [a if a is None else _classes_last(a, axes) if a.ndim == x.ndim else a[..., None] for a in arrays]
    counts = [0 if a is None else len(axes) if a.ndim == x.ndim else 1 for a in arrays]

    def task(index: Index) -> None:
        block = [v if v is None else _merge_classes(v[index], n) for v, n in zip(views, counts, strict=True)]
        for goal, y in zip(goals, function(*static, *block, *shared), strict=True):
            goal[index] = namespace(y).reshape(y, goal[index].shape)

    walk(task, indices, x)
    return tuple(results)


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


def broadcast_to_logits(where: Array | None, x: Array) -> Array | None:
    """``where`` with an entry for every logit, without a copy."""
    return where if where is None or where.shape == x.shape else namespace(x).broadcast_to(where, x.shape)


def logits_of_rows(x: Array, mask: Array | None) -> Array:
    """Rows of logits in the dtype to compute in, -inf in every class that is not in."""
    x = cast(x, accumulation_dtype(x))
    return x if mask is None else namespace(x).where(mask, x, -math.inf)


def masked(v: Array, x: Array) -> Array:
    """Rows of a tangent or cotangent, 0 in the impossible classes of the rows x, which take no part."""
    return namespace(x).where(x == -math.inf, 0.0, v)


def _of_logits(function: Callable[..., Array], x: Array, mask: Array | None, *moved: Array) -> tuple[Array]:
    x = logits_of_rows(x, mask)
    return (function(*[cast(v, x.dtype) for v in moved], x),)


def rule_of_rows(
    value: Callable[[Array], Array],
    vjp: Callable[[Array, Array], Array],
    jvp: Callable[[Array, Array], Array],
    value_and_gradient: Rule | None = None,
    *,
    reduces: bool = False,
) -> Rule:
    """A rule for arrays of any layout and dtype, from functions of rows: value(x), vjp(g, x) and jvp(v, x).

    The value has one entry for a row if it ``reduces``, else C.
    """

    def evaluate(
        function: Callable[..., Array], shape: tuple[int, ...], x: Array, where: Array | None, axes: Axes, *moved: Array
    ) -> Array:
        dtype = x.dtype if is_floating(x) else accumulation_dtype(x)
        arrays = (x, broadcast_to_logits(where, x), *moved)
        return over_rows(_of_logits, (function,), arrays, (), axes, [(shape, dtype)])[0]

    def shape_of_value(x: Array, axes: Axes, keepdims: bool) -> tuple[int, ...]:
        kept = tuple([1 if a in axes else n for a, n in enumerate(x.shape)])
        return tuple(x.shape) if not reduces else kept if keepdims else batch_shape(x.shape, axes)

    def rule_value(x: Array, *, axes: Axes, where: Array | None, keepdims: bool) -> Array:
        return evaluate(value, shape_of_value(x, axes, keepdims), x, where, axes)

    def rule_vjp(
        cotangents: tuple[Array], _: Wanted, x: Array, *, axes: Axes, where: Array | None, keepdims: bool
    ) -> tuple[Array]:
        del keepdims  # the shape of the cotangent says it
        return (evaluate(vjp, tuple(x.shape), x, where, axes, *cotangents),)

    def rule_jvp(
        tangents: tuple[Array], x: Array, *, axes: Axes, where: Array | None, keepdims: bool
    ) -> tuple[Array, Array]:
        tangent = evaluate(jvp, shape_of_value(x, axes, keepdims), x, where, axes, *tangents)
        return rule(x, axes=axes, where=where, keepdims=keepdims), tangent

    rule = Rule(rule_value, rule_vjp, rule_jvp, value_and_gradient)
    return rule


def of_rows(rule: Rule, x: Array) -> Array:
    """A rule made by `rule_of_rows`, of rows; differentiable to any order."""
    return rule(x, axes=(x.ndim - 1,), where=None, keepdims=True)
