"""NumPy: arrays are written to, blocks are computed on several threads."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from xpent._backends.base import Array, DType
from xpent._backends.blocked import BlockedBackend

_KINDS = {"f": "real floating", "i": "integral", "u": "integral", "b": "bool"}
_REAL = frozenset("fiub")

# Entries of a block. Smaller blocks are limited by the GIL, larger ones by memory bandwidth.
BLOCK = 2**19

# Entries of NumPy's own buffer. Operands that are broadcast over rows are copied into it if two rows fit, which takes
# longer than the arithmetic.
BUFFER = 512

# Entries of a product of matrices that is added to another array.
PRODUCT = 2**20

_pool: ThreadPoolExecutor | None = None


class NumpyBackend(BlockedBackend):
    """NumPy arrays."""

    has_devices = False

    def __init__(self) -> None:
        super().__init__(np)

    def isdtype(self, dtype: DType, *kinds: str) -> bool:
        return (_KINDS.get(dtype.kind) or (_is_bfloat16(dtype) and "real floating")) in kinds

    def is_floating(self, x: Array) -> bool:
        return x.dtype.kind == "f" or _is_bfloat16(x.dtype)

    def is_real(self, x: Array) -> bool:
        return x.dtype.kind in _REAL or _is_bfloat16(x.dtype)

    def accumulation_dtype(self, dtype: DType) -> DType:
        if dtype.kind != "f":
            return np.dtype("f4" if dtype.kind == "V" else "f8")
        return dtype if dtype.itemsize >= 4 else np.dtype("f4")

    def as_index(self, x: Array) -> Array:
        return x if x.dtype == np.intp else x.astype(np.intp)

    def call_key(self, arrays: tuple[Any, ...]) -> Any:
        if not all(type(x) is np.ndarray for x in arrays):
            return None
        return tuple([(x.dtype, x.shape) for x in arrays])

    def device(self, x: Array) -> Any:
        return None

    def inspectable(self, x: Array) -> Array:
        return x

    def is_known_true(self, x: Array) -> bool:
        return bool(np.logical_and.reduce(x, axis=None))

    def all_within(self, index: Array, count: int) -> bool:
        if index.dtype.kind == "i":  # negative numbers are the largest unsigned ones
            index = index.view(f"u{index.dtype.itemsize}")
        return bool(np.maximum.reduce(index, axis=None) < count)

    def cast(self, x: Array, dtype: DType) -> Array:
        if x.dtype == dtype:
            return x
        if dtype == np.float16 and x.dtype == np.float32:
            return _to_half(x)
        return x.astype(dtype)

    def as_computed(self, x: Array) -> Array:
        dtype = x.dtype
        return x if dtype.kind == "f" and dtype.itemsize >= 4 else self.cast(x, self.accumulation_dtype(dtype))

    @functools.cache  # noqa: B019
    def smallest_term(self, dtype: DType) -> float:
        return super().smallest_term(dtype)

    def zeros(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        return np.zeros(shape, dtype)

    def empty(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        return np.empty(shape, dtype)

    def permute_dims(self, x: Array, order: tuple[int, ...]) -> Array:
        return x.transpose(order)

    def contiguous(self, x: Array) -> Array:
        # The order of a sum follows the layout, and equal rows must have equal sums.
        if type(x) is np.ndarray and x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative:
            return x
        return np.require(x, x.dtype.newbyteorder("="), ["C", "A", "E"])

    def class_indices(self, x: Array) -> Array:
        return np.arange(x.shape[-1])

    def gather(self, table: Array, index: Array) -> Array:
        return table[index]

    def any_of_row(self, x: Array) -> Array:
        return np.logical_or.reduce(x, axis=-1, keepdims=True)

    def sum_all(self, x: Array) -> Array:
        return np.add.reduce(x, axis=None)

    def total(self, x: Array) -> Array:
        return np.add.reduce(x, axis=-1, keepdims=True)

    def largest(self, x: Array) -> Array:
        return np.maximum.reduce(x, axis=-1, keepdims=True)

    def shift(self, m: Array) -> Array:
        return m if math.isfinite(np.add.reduce(m, axis=None)) else super().shift(m)

    def take(self, x: Array, index: Array) -> Array:
        if x.ndim == 2:
            return x[_row_numbers(len(x)), index]
        return np.take_along_axis(x, index, -1)

    def put(self, x: Array, index: Array, value: Array | float) -> Array:
        if x.ndim == 2:
            x[_row_numbers(len(x)), index] = value
        else:
            np.put_along_axis(x, index, value, -1)
        return x

    def zero_rows(self, x: Array, is_active: Array) -> Array:
        x[~is_active[..., 0]] = 0.0
        return x

    def subtract(self, x: Array, y: Array, out: Array | None = None) -> Array:
        return np.subtract(x, y, out=out)

    def multiply(self, x: Array, y: Array | float) -> Array:
        return np.multiply(x, y, out=x)

    def divide(self, x: Array, y: Array) -> Array:
        return np.divide(x, y, out=x)

    def add(self, x: Array, y: Array) -> Array:
        return np.add(x, y, out=x)

    def exp(self, x: Array, out: Array | None = None) -> Array:
        return np.exp(x, out=out)

    def exp_and_rest(self, d: Array, index: Array, out: Array | None = None) -> tuple[Array, Array]:
        largest = self.take(d, index)
        e = self.put(np.exp(d, out=out), index, 0.0)
        rest = _guarded(self.total(e), d, np.zeros_like(largest), index)
        return self.put(e, index, np.exp(largest)), rest

    def _exponentials_of_rows(self, x: Array, index: Array, out: Array | None) -> tuple[Array, Array, Array, Array]:
        m = np.maximum.reduce(x, axis=-1, keepdims=True)
        z = self.take(x, index) - m
        # `_guarded` reads x, so x is not overwritten.
        e = np.subtract(x, m, out=None if out is None or np.may_share_memory(out, x) else out)
        self.put(np.exp(e, out=e), index, 0.0)
        r, t = _guarded(self.total(e), x, m, index), np.exp(z)
        if z.size and np.minimum.reduce(z, axis=None) > -64.0:
            return e, r, t, np.log1p(r / t)
        is_masked = m == -np.inf
        if np.logical_or.reduce(is_masked, axis=None):  # x - m is NaN there
            e[is_masked[..., 0]] = 0.0
            r[is_masked], t[is_masked], z[is_masked] = 1.0, 0.0, -np.inf
        return e, r, t, self.log_ratio(r, t, z)

    def softmax(self, x: Array, out: Array | None = None) -> Array:
        if self.parts(x) is not None:
            return super().softmax(x, out)
        m = self.largest(x)
        e = self.exp(self.subtract(x, m, out), out)
        total = self.total(e)
        if not math.isfinite(np.add.reduce(total, axis=None)):
            is_masked = (m == -np.inf)[..., 0]
            e[is_masked], total[is_masked] = 0.0, 1.0
        return self.divide(e, total)

    def errstate(self) -> contextlib.AbstractContextManager[Any]:
        return np.errstate(all="ignore")

    def block_entries(self, x: Array) -> int:
        return BLOCK

    def for_each(self, task: Callable[[Any], None], items: Sequence[Any]) -> None:
        todo = deque(items)

        def work() -> None:
            with _small_buffer():
                while todo:
                    try:
                        item = todo.popleft()
                    except IndexError:  # another thread took the last one
                        return
                    task(item)

        helpers: list[Future[None]] = []
        try:
            for _ in range(min(_thread_count(), len(items)) - 1):
                with contextlib.suppress(RuntimeError):  # no thread can be started while the interpreter shuts down
                    helpers.append(_threads().submit(contextvars.copy_context().run, work))
            work()
        finally:
            todo.clear()
            started = [helper for helper in helpers if not helper.cancel()]
            wait(started)
        for helper in started:
            helper.result()

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        step = max(1, PRODUCT // b.shape[1])
        b = self.cast(b, a.dtype)
        for i in range(0, a.shape[1], step):
            total[i : i + step] += np.matmul(a[:, i : i + step].T, b)
        return total


@functools.lru_cache(maxsize=8)
def _row_numbers(count: int) -> Array:
    return np.arange(count)[:, None]


def _is_bfloat16(dtype: DType) -> bool:
    """Whether a dtype is that of the package ml_dtypes, which NumPy treats as a void dtype."""
    return bool(dtype.kind == "V" and dtype.name == "bfloat16")


@contextlib.contextmanager
def _small_buffer() -> Iterator[None]:
    with np.errstate():  # restores the size of the buffer, too
        np.setbufsize(BUFFER)
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


def _guarded(total: Array, x: Array, shift: Array, index: Array) -> Array:
    """Sums of exp(x - shift) without the index; those whose terms are subnormal are computed again."""
    is_small = total < x.shape[-1] * NUMPY.smallest_term(x.dtype)
    if np.logical_or.reduce(is_small, axis=None):
        rows = is_small[..., 0]
        e = NUMPY.put(NUMPY.scaled_exp(x[rows] - shift[rows]), index[rows], 0.0)
        total[rows] = NUMPY.total(e) * 2.0**-64
    return total


def _to_half(x: Array) -> Array:
    """float32 to float16, rounded to nearest even.

    NumPy's own conversion takes 60 to 90 ns for a number that is subnormal in float16, as most entries of a gradient
    are, and 3 ns for others.
    """
    flat = np.ravel(x)
    magnitude = np.abs(flat)
    normal = np.flatnonzero(~(magnitude < _SMALLEST_NORMAL_HALF))
    # Adding 0.5 rounds a number below 2**-14 to the spacing of subnormal float16 numbers, 2**-24.
    magnitude += np.float32(0.5)
    bits = (magnitude.view(np.uint32) - np.float32(0.5).view(np.uint32)).astype(np.uint16)
    bits |= (flat.view(np.uint32) >> np.uint32(16)).astype(np.uint16) & np.uint16(0x8000)
    half = bits.view(np.float16)
    half[normal] = flat[normal].astype(np.float16)
    return half.reshape(np.shape(x))


_SMALLEST_NORMAL_HALF = np.float32(2.0**-14)

NUMPY = NumpyBackend()
