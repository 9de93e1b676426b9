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
