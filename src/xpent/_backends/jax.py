"""JAX: compiled functions that can be combined with jax.grad, jvp, vmap and jit in any order."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.sharding import AxisType, PartitionSpec

from xpent._backends.base import Array, Backend, DType
from xpent._backends.numpy import NUMPY

# The number of entries of a matrix product that `add_product` computes at a time.
PRODUCT = 2**20


class JaxBackend(Backend):
    """JAX arrays, concrete or traced."""

    has_devices = False  # JAX transfers arrays itself, and tracers have no device
    differentiates = True
    transposes_jvp = True
    block_logits, block_rows = 2**23, 128  # XLA stores two arrays per block, other libraries one

    def __init__(self) -> None:
        super().__init__(jnp)
        self.of_data = NUMPY  # under jit even operations on a concrete array are traced

    def converts(self, other: Backend) -> bool:
        return other in (self, NUMPY)

    def own(self, values: Any) -> Any:
        return jax.tree.map(jnp.asarray, values)

    def accumulation_dtype(self, dtype: DType) -> DType:
        return super().accumulation_dtype(jax.dtypes.canonicalize_dtype(dtype))

    def product_dtype(self, *arrays: Array) -> DType | None:
        dtypes = {jax.dtypes.canonicalize_dtype(x.dtype) for x in arrays}
        return dtypes.pop() if len(dtypes) == 1 else None

    def cast(self, x: Array, dtype: DType) -> Array:
        return super().cast(x, jax.dtypes.canonicalize_dtype(dtype))

    def device(self, x: Array) -> Any:
        return None

    def inspectable(self, x: Array) -> Array | None:
        if isinstance(x, np.ndarray | np.generic):
            return x
        if isinstance(x, jax.core.Tracer) or not x.is_fully_addressable:
            return None
        return np.asarray(x) if all(device.platform == "cpu" for device in x.devices()) else None

    def item(self, x: Array) -> Any:
        return x.item()

    def is_known_true(self, x: Array) -> bool:
        data = self.inspectable(x)
        return data is not None and bool(data.all())

    def scalar(self, number: float, like: Array) -> Array:
        return jnp.full((), number, dtype=self.accumulation_dtype(like.dtype))

    def subtract(self, x: Array, y: Array, out: Array | None = None) -> Array:
        # Equal to x - y, but XLA would reuse x - y, or the broadcast y, in the sums of exponentials and store it.
        return (0.5 * x - 0.5 * y) * 2.0

    def shift(self, m: Array) -> Array:
        m = _finite(m)
        return m + 0.0 * m

    def first_maximum(self, x: Array) -> tuple[Array, None]:
        return self.largest(x), None

    def exponentials(self, x: Array, index: Array, out: Array | None = None) -> tuple[Array, Array, Array, Array]:
        largest = self.largest(x)
        # A scatter is faster than a comparison, which would have to be stored.
        set_zero = self.put if _is_explicit(x) else _scatter
        e = set_zero(jnp.exp(x - _finite(largest)), index, 0.0)
        return e, *self._sums(x, index, largest, self.total(e))

    def exponential_sums(self, x: Array, index: Array) -> tuple[Array, Array, Array]:
        if not _are_known(x.shape[-1:]) or x.shape[-1] > 2**24:  # class indices must be exact in float32
            return super().exponential_sums(x, index)
        largest = self.largest(x)
        total = _sum_of(_exp_except_at, x, _finite(largest), self.class_indices(x), index)
        return self._sums(x, index, largest, total)

    def _sums(self, x: Array, index: Array, largest: Array, sum_of_others: Array) -> tuple[Array, Array, Array]:
        """The results of `exponential_sums`, from the sum of exp(x - m) over the classes other than the index."""
        m = _finite(largest)
        z = self.take(x, index) - m
        total, t = self.with_masked(sum_of_others, largest), jnp.exp(z)
        # On a CPU, XLA flushes subnormal numbers to zero, which is accurate for one exponential but not for a sum of
        # many. If the sum is that small, only the term at the index can exceed 3/4.
        is_small = total < x.shape[-1] * self.smallest_term(x.dtype)
        r = jax.lax.cond(
            jnp.any(is_small),
            lambda: jnp.where(is_small, _sum_of(_small_scaled_exp, x, m) * 2.0**-64, total),
            lambda: total,
        )
        return r, t, self.log_ratio(r, t, z)

    def exp_and_rest(self, d: Array, index: None, out: Array | None = None) -> tuple[Array, Array]:
        return jnp.exp(d), self.rest_sum(d, jnp.zeros_like(self.one_of_row(d)), None)

    def rest_sum(self, x: Array, shift: Array, index: None, d: Array | None = None) -> Array:
        total = _sum_of(lambda x, shift: jnp.exp(x - shift), x, shift)

        def without_largest() -> Array:
            # The largest term is 1, up to rounding, since XLA may compute x and its maximum differently. Terms above
            # 3/4 are omitted; if their sum is less than 3/2, the largest is the only one of them.
            rest = _sum_of(_small_scaled_exp, x, shift) * 2.0**-64
            return jnp.where(total - rest < 1.5, rest, total - 1.0)

        # In other rows total - 1 does not cancel.
        return jax.lax.cond(jnp.any(total < 2.0), without_largest, lambda: total - 1.0)

    def softmax(self, x: Array, out: Array | None = None) -> Array:
        e = jnp.exp(x - _finite(self.largest(x)))
        return e / jnp.maximum(self.total(e), 0.5)  # at least 1, or 0 in a fully masked row

    def errstate(self) -> contextlib.AbstractContextManager[Any]:
        allowed: contextlib.AbstractContextManager[Any] = jax.numpy_rank_promotion("allow")
        return allowed

    def times_gradient(self, v: Array, y: Array) -> Array:
        # JAX transposes this, so it must be linear in v. If y is not finite, v is multiplied by the largest number so
        # often that every number but 0 becomes infinite. XLA must not treat the largest number as a constant.
        is_finite, ones = jnp.isfinite(y), jnp.ones_like(y)
        largest = jax.lax.optimization_barrier(jnp.asarray(jnp.finfo(y.dtype).max, dtype=y.dtype))  # type: ignore[no-untyped-call]
        large = jnp.where(is_finite, ones, largest)
        sign = jnp.where(y > 0.0, ones, jnp.where(y < 0.0, -ones, 0.0))  # inf * 0 is NaN, as it is for y
        # All factors depend only on y, so that the transpose multiplies by the same numbers.
        return v * large * large * jnp.where(is_finite, y, sign) * large * large

    def take(self, x: Array, index: Array) -> Array:
        return self.compared(x, index) if _is_explicit(x) else super().take(x, index)

    def one_of_row(self, x: Array) -> Array:
        return self.largest(x) if _is_explicit(x) else super().one_of_row(x)

    def gather(self, table: Array, index: Array) -> Array:
        if not _is_explicit(index):
            return super().gather(table, index)
        return table.at[index].get(out_sharding=jax.typeof(index).sharding)

    def matmul(self, a: Array, b: Array) -> Array:
        if not (_is_explicit(a) or _is_explicit(b)):
            return jnp.matmul(a, b)
        (rows, _), (_, columns) = jax.typeof(a).sharding.spec, jax.typeof(b).sharding.spec
        columns = None if _axes_among(rows) & _axes_among(columns) else columns
        return jnp.matmul(a, b, out_sharding=PartitionSpec(rows, columns))  # type: ignore[no-untyped-call]

    def product_of_rows(self, x: Array, b: Array) -> Array:
        # At second order the scan of `loop` drops the derivatives of the rule, and JAX would compute 0 * NaN here.
        is_finite = jnp.isfinite(x)
        product = self.matmul(jnp.where(is_finite, x, jnp.zeros_like(x)), b)

        def with_non_finite_rows(product: Array) -> Array:
            rest = jnp.where(jnp.all(is_finite, axis=-1, keepdims=True), 0.0, self.matmul(x, b) - product)
            return product + jax.lax.stop_gradient(rest)

        return jax.lax.cond(jnp.all(is_finite), lambda product: product, with_non_finite_rows, product)

    def add(self, x: Array, y: Array) -> Array:
        if _is_explicit(x) and _is_explicit(y):
            spec = PartitionSpec(jax.typeof(x).sharding.spec[-1])  # type: ignore[no-untyped-call]
            y = jax.sharding.reshard(y, spec)  # type: ignore[no-untyped-call]
        return x + y

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        if _is_explicit(a) or not _are_known(total.shape):
            return super().add_product(total, a, b)
        rows = max(1, PRODUCT // b.shape[1])
        b = self.cast(b, a.dtype)

        def add(start: Any, length: int, total: Array) -> Array:
            part = jax.lax.dynamic_slice_in_dim(total, start, length)
            part += jax.lax.dynamic_slice_in_dim(a, start, length, axis=1).T @ b
            return jax.lax.dynamic_update_slice_in_dim(total, part, start, 0)

        total, (count, rest) = _varying(total, a, b), divmod(total.shape[0], rows)
        if count:
            total = jax.lax.fori_loop(0, count, lambda i, total: add(i * rows, rows, total), total)
        return add(count * rows, rest, total) if rest else total

    def rows_of_block(self, count: int, classes: int, depth: int, given: int | None) -> int | None:
        return super().rows_of_block(count, classes, depth, given) if _are_known((count, classes, depth)) else None

    def loop(self, function: Any, sums: Any, arrays: tuple[Any, ...], rows: int) -> Any:
        # scan stays a loop when compiled; checkpoint keeps no array of a block for the backward pass.
        step = jax.checkpoint(lambda sums, block: function(sums, *block))
        if _is_explicit(arrays[0]):
            return self._sharded_loop(step, sums, arrays, rows)
        sums = [_varying(total, *arrays) for total in sums]
        count, rest = divmod(arrays[0].shape[0], rows)
        whole = jax.tree.map(lambda a: jnp.reshape(a[: count * rows], (count, rows, *a.shape[1:])), arrays)
        sums, outputs = jax.lax.scan(step, sums, whole)
        outputs = jax.tree.map(lambda y: jnp.reshape(y, (count * rows, *y.shape[2:])), outputs)
        if rest:
            sums, last = step(sums, jax.tree.map(lambda a: a[count * rows :], arrays))
            outputs = jax.tree.map(lambda y, z: jnp.concatenate([y, z]), outputs, last)
        return sums, outputs

    def _sharded_loop(self, step: Any, sums: Any, arrays: tuple[Any, ...], rows: int) -> Any:
        # Every block has the same number of rows from each shard, so that no row moves to another device.
        length, sharding = arrays[0].shape[0], jax.typeof(arrays[0]).sharding
        shards = math.prod([sharding.mesh.shape[axis] for axis in _axes_among(sharding.spec[0])])
        fewest = math.ceil(length / rows)
        count = next((n for n in range(fewest, 2 * fewest) if length % (n * shards) == 0), 1)
        blocks = jax.tree.map(
            lambda a: jnp.moveaxis(jnp.reshape(a, (length // count, count, *a.shape[1:])), 1, 0), arrays
        )
        found, _ = jax.eval_shape(step, sums, jax.tree.map(lambda a: a[0], blocks))
        sums = [
            jax.sharding.reshard(total, y.sharding)  # type: ignore[no-untyped-call]
            for total, y in zip(sums, found, strict=True)
        ]
        sums, outputs = jax.lax.scan(step, sums, blocks)
        return sums, jax.tree.map(lambda y: jnp.reshape(jnp.moveaxis(y, 0, 1), (length, *y.shape[2:])), outputs)

    def apply(self, rule: Any, primals: tuple[Array, ...], constants: Any, options: Any) -> Any:
        return _compiled(rule, options)(primals, constants)


JAX = JaxBackend()


@functools.lru_cache(maxsize=1024)
def _compiled(rule: Any, options: Any) -> Any:
    # In reverse mode JAX transposes the jvp, so rule.jvp must be linear in the tangents.
    @jax.custom_jvp
    def evaluate(primals: Any, constants: Any) -> Any:
        with JAX.errstate():
            return rule.value(JAX, primals, constants, options)

    def jvp(arguments: Any, tangents: Any) -> Any:
        primals, constants = JAX.own(arguments)  # jax.grad passes NumPy arrays unchanged
        for name, tangent in zip(tangents[1]._fields, tangents[1], strict=True):
            if tangent is not None and not isinstance(tangent, SymbolicZero):
                raise TypeError(f"{name} is a constant: it has no gradient here; use jax.lax.stop_gradient({name})")
        of_primals = tuple(None if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents[0])
        with JAX.errstate():
            return rule.jvp(JAX, of_primals, primals, constants, options)

    evaluate.defjvp(jvp, symbolic_zeros=True)
    return jax.jit(evaluate, inline=True)


def _is_explicit(x: Array) -> bool:
    """Whether the sharding of an array is part of its type; indexing and products cannot always infer it."""
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


def _finite(m: Array) -> Array:
    """Replace -inf by the lowest finite number. XLA fuses this better than a comparison."""
    return jnp.maximum(m, jnp.finfo(m.dtype).min)  # type: ignore[no-untyped-call]


def _scatter(x: Array, index: Array, value: float) -> Array:
    """Set the entry at the index of each row, by a scatter."""
    rows = jnp.reshape(x, (-1, x.shape[-1]))
    at_index = rows.at[jnp.arange(rows.shape[0]), jnp.reshape(index, (-1,))]
    rows = at_index.set(value, mode="promise_in_bounds", unique_indices=True, indices_are_sorted=True)
    return jnp.reshape(rows, x.shape)


def _are_known(sizes: tuple[Any, ...]) -> bool:
    """Whether sizes are ints. In jax.export they may be symbolic, and loops cannot depend on their values."""
    return all(isinstance(size, int) for size in sizes)


def _axes_among(entry: Any) -> set[str]:
    """The mesh axes in an entry of a PartitionSpec."""
    return set() if entry is None else {entry} if isinstance(entry, str) else set(entry)


def _small_scaled_exp(x: Array, shift: Array) -> Array:
    """2**64 exp(x - shift), and 0 for x - shift above log(3/4)."""
    e = JAX.scaled_exp(x - shift)
    return e * (1.0 - jnp.floor(e * 2.0**-64 + 0.25))  # XLA does not fuse jnp.where with the sum


def _exp_except_at(x: Array, shift: Array, classes: Array, index: Array) -> Array:
    """exp(x - shift), and 0 at the index. XLA would store the result of a comparison instead of fusing it."""
    distance = classes.astype(jnp.float32) - index.astype(jnp.float32)
    return jnp.exp(x - shift) * jnp.minimum(jnp.abs(distance), 1.0).astype(x.dtype)


def _sum_of(function: Any, x: Array, *others: Array) -> Array:
    """The sum over each row of a function of x and others, which XLA computes without storing the terms.

    Each of the others has one entry per row, of shape (..., 1), or one per class.
    """
    length = x.shape[-1]
    group = None if _is_explicit(x) or not _are_known((length,)) else _group(length)
    if group is None:
        return jnp.sum(function(x, *others), axis=-1, keepdims=True)
    parts = (length // group, group)
    groups = [a[..., None] if a.shape[-1] == 1 else jnp.reshape(a, (*a.shape[:-1], *parts)) for a in (x, *others)]
    sums = 0.5 * jnp.sum(function(*groups), axis=-1)  # the factor keeps XLA from merging both sums
    return 2.0 * jnp.sum(sums, axis=-1, keepdims=True)


@functools.cache
def _group(length: int) -> int | None:
    """Entries per partial sum: in XLA, sums of functions of more than 40000 entries take three times as long."""
    if length <= 2**15:
        return None
    return next((n for n in range(2**14, 1000, -1) if length % n == 0), None)


def _varying(total: Array, *arrays: Array | None) -> Array:
    """The same values, marked as varying over the devices over which these arrays vary under shard_map."""
    for array in arrays:
        if array is not None and not _is_explicit(array):
            first = jnp.reshape(array, (-1,))[:1]
            total = total + jnp.sum(first != first).astype(total.dtype) * 0
    return total
