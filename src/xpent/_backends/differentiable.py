"""From a rule (value, vjp, jvp) to a function of the array's own framework."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, ParamSpec, Protocol

from xpent._backends.arrays import Array, is_array, is_jax, is_torch, quiet

Wanted = tuple[int, ...]
P = ParamSpec("P")


@dataclass(frozen=True, eq=False)
class Rule:
    """A function of arrays together with its derivatives, each written by hand.

    Positional arguments are the primals, which can be differentiated; keywords are options and arrays that are
    constants. Calling a rule, inside `quiet`, evaluates it so that the framework of its arrays can differentiate it,
    and the bodies of ``vjp`` and ``jvp`` call rules in turn: that is what makes every higher order right.

    ``value(*primals, **keywords)``
        the output, an array or a tuple of arrays.
    ``vjp(cotangents, needed, *primals, **keywords)``
        the cotangents of the primals whose positions are in ``needed``, given a tuple of one per output, None for
        zero.
    ``jvp(tangents, *primals, **keywords)``
        the output and its tangent, linear in the tangents, of which one is given per primal, None where it does
        not move.
    ``value_and_gradient``
        a rule with one more keyword, ``wanted``, and the outputs (value, one gradient for each position in
        ``wanted``), in the dtype computed in. The gradient is that of the sum of the values.
    ``keeps_gradients(wanted, *primals, **options)``
        whether these gradients of one number are worth making and keeping when the value is asked for and they will be.
    """

    value: Callable[..., Any]
    vjp: Callable[..., tuple[Array, ...]]
    jvp: Callable[..., tuple[Any, Any]]
    value_and_gradient: Rule | None = None
    keeps_gradients: Callable[..., bool] = lambda *_, **__: False

    gradient: Rule | None = field(init=False)  # value_and_gradient without the value

    def __post_init__(self) -> None:
        both = self.value_and_gradient
        object.__setattr__(self, "gradient", None if both is None else _gradient_only(both))

    def __call__(self, *primals: Array, **keywords: Any) -> Any:
        if is_torch(primals[0]):
            from xpent._backends import torch

            return torch.apply(self, primals, *_constants_and_options(keywords))
        if is_jax(primals[0]):
            from xpent._backends import jax

            return jax.apply(self, primals, *_constants_and_options(keywords))
        return self.value(*primals, **keywords)


def _constants_and_options(keywords: dict[str, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
    constants = {name: value for name, value in keywords.items() if is_array(value)}
    return constants, {name: value for name, value in keywords.items() if name not in constants}


def _gradient_only(rule: Rule) -> Rule:
    def value(*primals: Array, **keywords: Any) -> tuple[Array, ...]:
        gradients: tuple[Array, ...] = rule.value(*primals, **keywords)[1:]
        return gradients

    def vjp(cotangents: tuple[Array, ...], needed: Wanted, *primals: Array, **keywords: Any) -> tuple[Array, ...]:
        return rule.vjp((None, *cotangents), needed, *primals, **keywords)

    def jvp(tangents: Any, *primals: Array, **keywords: Any) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        values, moved = rule.jvp(tangents, *primals, **keywords)
        return values[1:], moved[1:]

    return Rule(value, vjp, jvp)


class Call(NamedTuple):
    """A rule and the checked arguments it is to be called with."""

    rule: Rule
    primals: tuple[Array, ...]
    keywords: dict[str, Any]
    is_scalar: bool = False
    structure: Callable[[Any], Any] = lambda outputs: outputs

    def evaluate(self) -> Any:
        with quiet(self.primals[0]):
            return self.structure(self.rule(*self.primals, **self.keywords))


class Differentiable(Protocol[P]):
    """A public function that can also say, as a `Call`, what it is about to compute."""

    __name__: str
    bind: Callable[P, Call]

    def __call__(self, *primals: P.args, **options: P.kwargs) -> Any:
        """Compute it."""


def evaluating(bind: Callable[P, Call]) -> Differentiable[P]:
    """Make a function that evaluates what ``bind`` returns for its arguments."""

    @functools.wraps(bind)
    def function(*primals: P.args, **options: P.kwargs) -> Any:
        return bind(*primals, **options).evaluate()

    function.bind = bind  # type: ignore[attr-defined]
    return function  # type: ignore[return-value]


def differentiable(bind: Callable[P, Call]) -> Differentiable[P]:
    """Make a public function of one that checks its arguments and returns the `Call` to evaluate."""
    function = evaluating(bind)
    signature = inspect.signature(bind).replace(return_annotation="Array")
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function
