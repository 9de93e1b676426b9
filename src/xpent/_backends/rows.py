"""How rows are walked: at once where traced, recorded or on a GPU; on a CPU in blocks that stay in its caches."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from xpent._backends.arrays import (
    Array,
    DType,
    are_eager,
    cast,
    empty,
    is_array,
    is_jax,
    is_numpy,
    is_torch,
    matmul,
    visible,
)

Index = tuple[Any, ...]  # integers, slices and an ellipsis

# Entries of a block for each thread that works on it: smaller ones wait for the interpreter, larger ones for memory.
BLOCK = 2**19

# Entries of NumPy's own buffer. What is broadcast over rows is copied into it where two rows fit in, and to copy takes
# longer than the arithmetic.
BUFFER = 512

# Logits in a block of `fold`: with fewer, adding to the gradient of a weight takes longer than multiplying.
LOGITS = 2**24

# Entries of a product of matrices that is added to another array.
PRODUCT = 2**20

_pool: ThreadPoolExecutor | None = None


def blocks(batch_shape: tuple[int, ...], class_count: int, *arrays: Array) -> list[Index] | None:
    """Where the blocks lie that the rows of arrays are walked in, or None for all of them at once."""
    entries = _entries_of_block(arrays)
    rows = 0 if entries is None else max(1, entries // class_count)
    if entries is None or math.prod(batch_shape) <= rows:
        return None
    axis, tail = len(batch_shape) - 1, 1
    while tail * batch_shape[axis] <= rows:
        tail, axis = tail * batch_shape[axis], axis - 1
    length = batch_shape[axis]
    step = max(1, rows // tail)
    outer = itertools.product(*map(range, batch_shape[:axis]))
    return [(*index, slice(i, i + step)) for index in outer for i in range(0, length, step)]


def parts(x: Array) -> list[Index] | None:
    """Where the parts lie that a row too long for a block is walked in, or None for the whole of it at once."""
    length = x.shape[-1]
    # Nothing is asked of a length that is traced.
    entries = _entries_of_block((x,)) if are_eager(x) and length > BLOCK else None
    if entries is None or length <= entries or math.prod(x.shape) != length:
        return None
    return [(..., slice(i, i + entries)) for i in range(0, length, entries)]


def _entries_of_block(arrays: Sequence[Array]) -> int | None:
    """None where arrays are not walked."""
    x = arrays[0]
    if not are_eager(*arrays) or visible(x) is None or _are_fused(arrays):
        return None
    return BLOCK * (sys.modules["torch"].get_num_threads() if is_torch(x) else 1)


def at_once(
    function: Callable[..., Sequence[Array]],
    static: tuple[Any, ...],
    arrays: Sequence[Array | float | None],
    dtypes: tuple[DType, ...],
) -> list[Array]:
    """Outputs of ``function(*static, *arrays)`` in the dtypes given, in one kernel where PyTorch makes one for us."""
    if _are_fused(arrays):
        from xpent._backends import torch

        found: list[Array] = torch.fused(_outputs, (function, static, dtypes), arrays)
        return found
    return _outputs(function, static, dtypes, *arrays)


def _outputs(
    function: Callable[..., Sequence[Array]], static: tuple[Any, ...], dtypes: tuple[DType, ...], *arrays: Any
) -> list[Array]:
    return [cast(y, dtype) for y, dtype in zip(function(*static, *arrays), dtypes, strict=True)]


def _are_fused(arrays: Sequence[Any]) -> bool:
    if not is_torch(arrays[0]):
        return False
    from xpent._backends import torch

    return torch.fuses(arrays[0].device) and are_eager(*[array for array in arrays if is_array(array)])


def rows_of_block(x: Array, class_count: int, given: int | None) -> int:
    """Rows in a block of `fold`; if none are given, as many as divide those of ``x``, if that fills it to 4/5."""
    if given is not None or x.shape[0] == 0:
        return given or 1
    count: int = x.shape[0]
    # XLA keeps three arrays of a block where others keep one.
    most = max(1, (3 * LOGITS // 8 if is_jax(x) else LOGITS) // class_count)
    fewest = math.ceil(count / most)
    return math.ceil(count / next((k for k in range(fewest, 5 * fewest // 4 + 1) if count % k == 0), fewest))


def fold(
    function: Callable[..., tuple[list[Array], list[Array]]],
    sums: list[Array],
    x: Array,
    others: list[Array | None],
    rows: int,
    shared: list[Array | None],
) -> tuple[list[Array], list[Array]]:
    """Sums over blocks of rows, and outputs for the rows, of ``x`` and others that have rows first.

    ``function(sums, *block)`` returns what the sums have grown to, and the outputs for the rows of the block; it may
    use ``shared`` arrays. What PyTorch records, compiles or maps is one block, for it keeps no loop.
    """
    arrays, count = (x, *others), x.shape[0]
    if count > rows and is_jax(x):
        from xpent._backends import jax

        folded: tuple[list[Array], list[Array]] = jax.fold(function, sums, arrays, rows)
        return folded
    if count <= rows or not are_eager(*[a for a in (*arrays, *sums, *shared) if a is not None]):
        return function(sums, *arrays)
    results: list[Array] = []
    for i in range(0, count, rows):
        block = slice(i, i + rows)
        sums, outputs = function(sums, *[a if a is None else a[block] for a in arrays])
        results = results or [empty((count, *y.shape[1:]), y.dtype, y) for y in outputs]
        for result, y in zip(results, outputs, strict=True):
            result[block] = y
    return sums, results


def add_product(total: Array, a: Array, b: Array) -> Array:
    """total + a @ b for matrices, in ``total`` itself where that is possible, without another array of its size."""
    step = max(1, PRODUCT // b.shape[1])
    if is_jax(total):
        from xpent._backends import jax

        return jax.add_product(total, a, b, step)
    if not are_eager(total, a, b):
        return total + matmul(a, b)
    if is_torch(total):
        return total.addmm_(a, b)
    for i in range(0, a.shape[0], step):
        total[i : i + step] += matmul(a[i : i + step], b)
    return total


def walk(task: Callable[[Index], None], indices: list[Index], x: Array) -> None:
    """Run a task for every block; on NumPy, whose functions use one thread each, several at a time."""
    count = min(_thread_count(), len(indices)) if is_numpy(x) else 1
    todo = deque(indices)

    def work() -> None:
        with _small_buffer(x):
            while todo:
                try:
                    index = todo.popleft()
                except IndexError:  # another thread took the last one
                    return
                task(index)

    helpers: list[Future[None]] = []
    try:
        for _ in range(count - 1):
            with contextlib.suppress(RuntimeError):  # no thread is started when the interpreter shuts down
                helpers.append(_threads().submit(contextvars.copy_context().run, work))
        work()
    finally:
        todo.clear()
        started = [helper for helper in helpers if not helper.cancel()]
        wait(started)
    for helper in started:
        helper.result()


@contextlib.contextmanager
def _small_buffer(x: Array) -> Iterator[None]:
    if not is_numpy(x):
        yield
        return
    numpy = sys.modules["numpy"]
    with numpy.errstate():  # which puts the size back, too
        numpy.setbufsize(BUFFER)
        yield


def _thread_count() -> int:
    """XPENT_NUM_THREADS, or the number of CPUs that this process may use."""
    given = os.environ.get("XPENT_NUM_THREADS")
    if given is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not given.isdecimal() or int(given) == 0:
        raise ValueError(f"XPENT_NUM_THREADS must be a positive integer, got {given!r}")
    return int(given)


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(_thread_count(), os.cpu_count() or 1), thread_name_prefix="xpent")
    return _pool


def _forget_threads() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)  # a child process has none of its parent's threads
