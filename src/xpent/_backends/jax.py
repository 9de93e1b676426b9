"""The bridge to JAX: grad, jvp, vmap and jit in every nesting."""

from __future__ import annotations

from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

from xpent._backends.arrays import Array


def is_visible(x: jax.Array) -> bool:
    """Whether the data can be looked at for free: a concrete array on the CPU of this process."""
    return (
        not isinstance(x, jax.core.Tracer)
        and x.is_fully_addressable
        and all(device.platform == "cpu" for device in x.devices())
    )


def apply(rule: Any, primals: tuple[Array, ...], constants: dict[str, Array], options: dict[str, Any]) -> Any:
    """Evaluate a rule so that JAX differentiates it through its own derivatives.

    JAX transposes the jvp to go backward, so rule.jvp must be linear in the tangents.
    """

    @jax.custom_jvp
    def evaluate(primals: Any, constants: Any) -> Any:
        return rule.value(*primals, **constants, **options)

    def jvp(arguments: Any, tangents: Any) -> Any:
        primals, constants = arguments
        for name, tangent in tangents[1].items():
            if not isinstance(tangent, SymbolicZero):
                raise TypeError(f"{name} is a constant: it has no gradient here; use jax.lax.stop_gradient({name})")
        moved = tuple(None if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents[0])
        return rule.jvp(moved, *primals, **constants, **options)

    evaluate.defjvp(jvp, symbolic_zeros=True)
    return evaluate(primals, constants)
