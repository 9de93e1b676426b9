"""The bridge to JAX: grad, jvp, vmap and jit in every nesting."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from xpent._backends.arrays import Array


def visible(x: jax.Array) -> Any:
    """The data as a NumPy array if it lies on a CPU of this process, else None.

    Under jit even what is done with a concrete JAX array is traced.
    """
    if isinstance(x, jax.core.Tracer) or not x.is_fully_addressable:
        return None
    return np.asarray(x) if all(device.platform == "cpu" for device in x.devices()) else None


def apply(rule: Any, primals: tuple[Array, ...], constants: dict[str, Array], options: dict[str, Any]) -> Any:
    """Evaluate a rule, compiled, so that JAX differentiates it through its own derivatives."""
    return _compiled(rule, tuple(options.items()))(primals, constants)


@functools.lru_cache(maxsize=1024)
def _compiled(rule: Any, options: tuple[tuple[str, Any], ...]) -> Any:
    # JAX transposes the jvp to go backward, so rule.jvp must be linear in the tangents.
    @jax.custom_jvp
    def evaluate(primals: Any, constants: Any) -> Any:
        return rule.value(*primals, **constants, **dict(options))

    def jvp(arguments: Any, tangents: Any) -> Any:
        primals, constants = jax.tree.map(jnp.asarray, arguments)  # jax.grad leaves arrays of NumPy as they are
        for name, tangent in tangents[1].items():
            if not isinstance(tangent, SymbolicZero):
                raise TypeError(f"{name} is a constant: it has no gradient here; use jax.lax.stop_gradient({name})")
        moved = tuple(None if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents[0])
        return rule.jvp(moved, *primals, **constants, **dict(options))

    evaluate.defjvp(jvp, symbolic_zeros=True)
    return jax.jit(evaluate, inline=True)


def fold(function: Any, sums: Any, arrays: tuple[Any, ...], rows: int) -> Any:
    """A loop over blocks of rows that stays a loop when compiled, and keeps nothing of them for the way back."""
    step = jax.checkpoint(lambda sums, block: function(sums, *block))
    sums = [_varying(total, *arrays) for total in sums]
    count, rest = divmod(arrays[0].shape[0], rows)
    whole = jax.tree.map(lambda a: jnp.reshape(a[: count * rows], (count, rows, *a.shape[1:])), arrays)
    sums, outputs = jax.lax.scan(step, sums, whole)
    outputs = jax.tree.map(lambda y: jnp.reshape(y, (count * rows, *y.shape[2:])), outputs)
    if rest:
        sums, last = step(sums, jax.tree.map(lambda a: a[count * rows :], arrays))
        outputs = jax.tree.map(lambda y, z: jnp.concatenate([y, z]), outputs, last)
    return sums, outputs


def add_product(total: jax.Array, a: jax.Array, b: jax.Array, rows: int) -> jax.Array:
    """total + a @ b, so many rows at a time."""

    def add(start: Any, length: int, total: jax.Array) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(total, start, length)
        part += jax.lax.dynamic_slice_in_dim(a, start, length) @ b
        return jax.lax.dynamic_update_slice_in_dim(total, part, start, 0)

    total, (count, rest) = _varying(total, a, b), divmod(total.shape[0], rows)
    if count:
        total = jax.lax.fori_loop(0, count, lambda i, total: add(i * rows, rows, total), total)
    return add(count * rows, rest, total) if rest else total


def _varying(total: jax.Array, *arrays: jax.Array | None) -> jax.Array:
    """The same, of the type of what depends on these arrays: under shard_map they may differ from device to device."""
    for array in arrays:
        if array is not None:
            first = jnp.reshape(array, (-1,))[:1]
            total = total + jnp.sum(first != first).astype(total.dtype) * 0
    return total
