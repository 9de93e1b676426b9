"""Functions of rows, evaluated in blocks that fit in the caches of a CPU, or all at once where a library prefers it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from xpent._backends.base import Array, Backend, DType
from xpent._engine.layout import (
    Axes,
    batch_shape,
    class_count,
    classes_last,
    field_as_rows,
    from_rows,
    merge_classes,
)

Index = tuple[Any, ...]  # integers and slices
Kernel = Callable[..., Sequence[Array]]


def map_rows(
    backend: Backend,
    kernel: Kernel,
    static: Any,
    arrays: Any,
    shared: Any,
    axes: Axes,
    outputs: Sequence[tuple[tuple[int, ...], DType]],
    *,
    overwrites: bool = False,
) -> list[Array]:
    """Outputs, of the shapes and dtypes given, of ``kernel(backend, static, rows, shared, out)``.

    Parameters
    ----------
    backend : Backend
        The library of the arrays.
    kernel : function
        It computes each row independently and returns one array for each output, with C entries a row if the
        output has class axes and one entry otherwise. ``out`` is None or an array with the shape of the rows and
        the computation dtype. The kernel may write its output with C entries into it, after it has read the logits.
    static : hashable
        Static arguments of the kernel.
    arrays : named tuple of arrays and None
        The first has class axes. They are passed as rows, of shape (..., C) or, without class axes, (..., 1).
    shared : named tuple of arrays, numbers and None
        Passed unchanged.
    axes : tuple of ints
        The class axes.
    outputs : sequence of (shape, dtype)
        What is returned. At most one has class axes where ``overwrites`` is true.
    overwrites : bool
        Whether an output may be written over the first array.
    """
    x = arrays[0]
    ndim = x.ndim
    kernels = backend.for_kernels(arrays, shared)
    indices = block_indices(kernels, x, axes)
    if indices is None:
        rows = type(arrays)(*[a if a is None else field_as_rows(kernels, a, axes, ndim) for a in arrays])
        dtypes = tuple([dtype for _, dtype in outputs])
        found = kernels.run_kernel(kernel, static, dtypes, rows, shared, x if overwrites else None)
        return [
            from_rows(kernels, y, axes, shape) if len(shape) == ndim else kernels.without_class_axis(y)
            for y, (shape, _) in zip(found, outputs, strict=True)
        ]

    def result(shape: tuple[int, ...], dtype: DType) -> Array:
        is_overwritten = overwrites and (shape, dtype) == (tuple(x.shape), x.dtype)
        return x if is_overwritten else kernels.empty(shape, dtype, x)

    results = [result(shape, dtype) for shape, dtype in outputs]
    target_views = [classes_last(kernels, y, axes) if y.ndim == ndim else kernels.with_class_axis(y) for y in results]
    # A block of a result can be computed in place if its rows are contiguous and of the computation dtype.
    computed_in = kernels.accumulation_dtype(x.dtype)
    in_place = [y.ndim == ndim and y.dtype == computed_in and axes == (ndim - 1,) for y in results]
    out = results[in_place.index(True)] if True in in_place else None
    views = [
        a if a is None else classes_last(kernels, a, axes) if a.ndim == ndim else kernels.with_class_axis(a)
        for a in arrays
    ]
    counts = [0 if a is None else len(axes) if a.ndim == ndim else 1 for a in arrays]

    def task(index: Index) -> None:
        block = [v if v is None else merge_classes(kernels, v[index], n) for v, n in zip(views, counts, strict=True)]
        into = None if out is None else out[index]
        found = kernel(kernels, static, type(arrays)(*block), shared, into)
        for view, y in zip(target_views, found, strict=True):
            if y is not into:
                view[index] = kernels.xp.reshape(kernels.cast(y, view.dtype), view[index].shape)

    kernels.for_each(task, indices)
    return results


def block_indices(backend: Backend, x: Array, axes: Axes) -> list[Index] | None:
    """Indices into the batch axes that cover the rows of ``x`` in blocks, or None for all of them at once."""
    entries = backend.block_entries(x)
    if entries is None or math.prod(x.shape) <= entries:
        return None
    batch, classes = batch_shape(x.shape, axes), class_count(x.shape, axes)
    rows = max(1, entries // classes)
    if math.prod(batch) <= rows:
        return None
    axis, tail = len(batch) - 1, 1
    while tail * batch[axis] <= rows:
        tail, axis = tail * batch[axis], axis - 1
    step = max(1, rows // tail)
    outer = itertools.product(*map(range, batch[:axis]))
    return [(*index, slice(i, i + step)) for index in outer for i in range(0, batch[axis], step)]


def accumulate_blocks(
    backend: Backend,
    function: Callable[..., tuple[list[Array], list[Array]]],
    sums: list[Array],
    arrays: Sequence[Array | None],
    rows: int | None,
    shared: Sequence[Array | None],
) -> tuple[list[Array], list[Array]]:
    """Sums over blocks of rows, and outputs for the rows, of arrays with rows along the first axis.

    ``function(sums, *block)`` adds the sums of a block to ``sums``, and returns the result and the outputs for the rows
    of the block. ``shared`` are the other arrays that it uses. If ``rows`` is None, all rows are one block;
    `Backend.loop` may also use a single block.
    """
    if rows is not None:
        return backend.for_kernels(*arrays, *sums, *shared).loop(function, sums, tuple(arrays), rows)
    return function(sums, *arrays)
