"""JAX."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import jax

from xpent.conformance.dtypes import Numbers
from xpent.conformance.libraries.base import Argument, Arrays, Function, Library, Options, of_one


class Jax(Library):
    """JAX, with every function under ``jax.jit``."""

    imports = "import numpy as np\nimport jax\nimport jax.numpy as jnp\njax.config.update('jax_enable_x64', True)"
    ones, like_value = "jnp.ones_like(value)", ".astype(value.dtype)"
    lines: Mapping[str, tuple[str, ...]] = {
        "value": ("print(jax.jit(lambda {x}: {call})({x}))",),
        "vjp": (
            "value, pullback = jax.vjp(jax.jit(lambda {x}: {call}), {x})",
            "print(pullback({g})[0])",
        ),
        "jvp": ("print(jax.jvp(jax.jit(lambda {x}: {call}), ({x},), ({v},))[1])",),
        "hvp": ("print(jax.jvp(jax.grad(lambda {x}: {call}.sum()), ({x},), ({v},))[1])",),
    }

    def literal(self, values: str, dtype: str) -> str:
        """Source code of an array, from the source code of its values."""
        return f"jnp.asarray({values}, dtype=jnp.{dtype})"

    def enabled(self) -> AbstractContextManager[Any]:
        """Enable 64-bit types while a case runs, and not for other tests in the process."""
        return jax.enable_x64(True)  # type: ignore[no-any-return]

    @property
    def xp(self) -> Any:
        """``jax.numpy``."""
        return jax.numpy

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """An array on the device."""
        return jax.device_put(self.xp.asarray(values, dtype=dtype), jax.devices(self.device)[0])

    def forget(self) -> None:
        """Clear the cache of compiled functions."""
        _compiled.cache_clear()

    def call(self, function: Function, arrays: Arrays, options: Options) -> Any:
        """Call a function."""
        return self._jitted(_plain, function, arrays, options, 0, None)

    def vjp(
        self, function: Function, arrays: Arrays, options: Options, argument: Argument, cotangent: Any
    ) -> tuple[Any, Any]:
        """The value, and the gradient multiplied by a cotangent, by ``jax.vjp``."""
        return self._jitted(_jax_vjp, function, arrays, options, argument, cotangent)  # type: ignore[no-any-return]

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """The derivative along a tangent, by ``jax.jvp``."""
        return self._jitted(_jax_jvp, function, arrays, options, 0, tangent)

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """The derivative of the gradient along a tangent, by ``jax.jvp`` of ``jax.grad``."""
        return self._jitted(_jax_hvp, function, arrays, options, 0, tangent)

    def _jitted(self, how: Function, function: Function, arrays: Arrays, options: Options, *rest: Any) -> Any:
        constants = {name: value for name, value in options.items() if isinstance(value, jax.Array)}
        static = tuple((name, value) for name, value in options.items() if name not in constants)
        return _compiled(how, function, rest[0], static)(arrays, constants, rest[1])


@cache
def _compiled(how: Function, function: Function, argument: Argument, static: tuple[tuple[str, Any], ...]) -> Function:
    """A jitted function for all calls of the same kind, so that it is compiled once for each shape."""
    return jax.jit(lambda arrays, constants, v: how(function, arrays, {**constants, **dict(static)}, argument, v))


def _plain(function: Function, arrays: Arrays, options: Options, *_: Any) -> Any:
    return function(*arrays, **options)


def _jax_vjp(
    function: Function, arrays: Arrays, options: Options, argument: Argument, cotangent: Any
) -> tuple[Any, Any]:
    value, pullback = jax.vjp(*of_one(function, arrays, options, argument))
    return value, pullback(jax.numpy.ones_like(value) if cotangent is None else cotangent.astype(value.dtype))[0]


def _jax_jvp(function: Function, arrays: Arrays, options: Options, argument: Argument, tangent: Any) -> Any:
    of_x, x = of_one(function, arrays, options, argument)
    return jax.jvp(of_x, (x,), (tangent,))[1]


def _jax_hvp(function: Function, arrays: Arrays, options: Options, argument: Argument, tangent: Any) -> Any:
    of_x, x = of_one(function, arrays, options, argument)
    return jax.jvp(jax.grad(lambda x: of_x(x).sum()), (x,), (tangent,))[1]
