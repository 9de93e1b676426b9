"""Rows: the class axes of an array moved last and flattened to one, and put back."""

from __future__ import annotations

import math

from xpent._backends.base import Array, Backend

Axes = tuple[int, ...]


def class_count(shape: tuple[int, ...], axes: Axes) -> int:
    """C, the number of classes."""
    return shape[axes[0]] if len(axes) == 1 else math.prod([shape[a] for a in axes])


def batch_shape(shape: tuple[int, ...], axes: Axes) -> tuple[int, ...]:
    """The shape of what has one entry per row."""
    if axes == (len(shape) - 1,):
        return tuple(shape[:-1])
    return tuple([n for a, n in enumerate(shape) if a not in axes])


def _order(ndim: int, axes: Axes) -> Axes:
    return (*[a for a in range(ndim) if a not in axes], *axes)


def classes_last(backend: Backend, x: Array, axes: Axes) -> Array:
    """The array with its class axes moved last, a view where the library has views."""
    if axes == (x.ndim - 1,):
        return x
    order = _order(x.ndim, axes)
    return x if order == tuple(range(x.ndim)) else backend.permute_dims(x, order)


def merge_classes(backend: Backend, x: Array, count: int) -> Array:
    """Rows of an array whose last ``count`` axes are those of the classes."""
    if count > 1:
        x = backend.xp.reshape(x, (*x.shape[:-count], math.prod(x.shape[-count:])))
    return backend.contiguous(x)


def to_rows(backend: Backend, x: Array, axes: Axes) -> Array:
    """The array with one class axis, the last."""
    if axes == (x.ndim - 1,):
        return backend.contiguous(x)
    return merge_classes(backend, classes_last(backend, x, axes), len(axes))


def from_rows(backend: Backend, y: Array, axes: Axes, shape: tuple[int, ...]) -> Array:
    """The array of the given shape whose rows these are: the inverse of `to_rows`.

    Rows with one entry instead of C give class axes of length one.
    """
    if axes == (len(shape) - 1,):
        return y
    order = _order(len(shape), axes)
    if len(axes) > 1:
        is_single = y.shape[-1] == 1
        y = backend.xp.reshape(y, tuple(1 if is_single and a in axes else shape[a] for a in order))
    if order == tuple(range(len(shape))):
        return y
    return backend.permute_dims(y, tuple(order.index(a) for a in range(len(shape))))


def field_as_rows(backend: Backend, x: Array, axes: Axes, ndim: int) -> Array:
    """An array as rows: (..., C) if it has all ``ndim`` axes, (..., 1) if it has no class axes."""
    if x.ndim != ndim:
        return backend.with_class_axis(x)
    return backend.contiguous(x) if axes == (ndim - 1,) else to_rows(backend, x, axes)
