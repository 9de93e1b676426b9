"""A rule: a function of arrays with hand-written derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xpent._backends.base import Array, Backend

Argnums = tuple[int, ...]


class Residuals(NamedTuple):
    """What the forward pass of a rule keeps for the backward pass."""

    saved: tuple[Array, ...] = ()
    gradients: tuple[Array, ...] | None = None  # of a scalar value, one for each of argnums


@dataclass(frozen=True, eq=False)
class Rule:
    """A function of arrays with hand-written derivatives.

    The first argument of all members is the backend. The last three are the primals (a tuple of arrays that can be
    differentiated), the constants (a named tuple of arrays, numbers and None that cannot be differentiated) and the
    options (a hashable named tuple). Calling a rule evaluates it so that the library of the arrays differentiates it
    through these members. The bodies of ``vjp`` and ``jvp`` call rules in turn, which makes derivatives of every order
    available.

    ``value(backend, primals, constants, options)``
        An array or a tuple of arrays.
    ``vjp(backend, cotangents, argnums, primals, constants, options)``
        The cotangents of the primals at positions ``argnums``, given one cotangent for each output, None for zero.
    ``jvp(backend, tangents, primals, constants, options)``
        The value and its tangent, linear in the tangents, one for each primal, None for zero.
    ``forward(backend, argnums, primals, constants, options)``
        The value, and `Residuals`, of primals of which those at positions ``argnums`` will be differentiated.
    ``backward(backend, saved, cotangents, argnums, primals, constants, options)``
        As ``vjp``, if the result will not be differentiated; ``saved`` is what ``forward`` saved, or an empty tuple.
    ``value_and_grad``
        A rule with the outputs (value, one gradient for each position in ``options.argnums``). The gradients are those
        of the sum of the value, in the computation dtype.
    """

    value: Callable[..., Any]
    vjp: Callable[..., tuple[Array, ...]]
    jvp: Callable[..., tuple[Any, Any]]
    forward: Callable[..., tuple[Any, Residuals]]
    backward: Callable[..., tuple[Array, ...]]
    value_and_grad: Rule | None = None

    gradient: Rule | None = field(init=False)  # value_and_grad without the value

    def __post_init__(self) -> None:
        both = self.value_and_grad
        object.__setattr__(self, "gradient", None if both is None else _gradient_only(both))

    def __call__(self, backend: Backend, primals: tuple[Array, ...], constants: Any, options: Any) -> Any:
        return backend.apply(self, primals, constants, options)


def without_residuals(
    value: Callable[..., Any], vjp: Callable[..., tuple[Array, ...]], jvp: Callable[..., tuple[Any, Any]]
) -> Rule:
    """A rule whose backward pass computes everything from the primals."""

    def forward(
        backend: Backend, _: Argnums, primals: tuple[Array, ...], constants: Any, options: Any
    ) -> tuple[Any, Residuals]:
        return value(backend, primals, constants, options), Residuals()

    def backward(backend: Backend, _: tuple[Array, ...], *arguments: Any) -> tuple[Array, ...]:
        return vjp(backend, *arguments)

    return Rule(value, vjp, jvp, forward, backward)


def _gradient_only(rule: Rule) -> Rule:
    """The rule of the gradients alone, from the rule of (value, gradients)."""

    def value(backend: Backend, primals: tuple[Array, ...], constants: Any, options: Any) -> tuple[Array, ...]:
        gradients: tuple[Array, ...] = rule.value(backend, primals, constants, options)[1:]
        return gradients

    def vjp(backend: Backend, cotangents: tuple[Array, ...], *arguments: Any) -> tuple[Array, ...]:
        return rule.vjp(backend, (None, *cotangents), *arguments)

    def jvp(backend: Backend, *arguments: Any) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        values, tangents = rule.jvp(backend, *arguments)
        return values[1:], tangents[1:]

    return without_residuals(value, vjp, jvp)
