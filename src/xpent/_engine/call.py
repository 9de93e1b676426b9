"""Calls: a rule and checked arguments, and the public functions that make and evaluate them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, Protocol

from xpent._backends.base import Array, Backend
from xpent._engine.rule import Rule

P = ParamSpec("P")


class Call(NamedTuple):
    """A rule and the checked arguments to evaluate it with."""

    backend: Backend
    rule: Rule
    primals: tuple[Array, ...]
    constants: Any
    options: Any
    is_scalar: bool = False
    structure: Callable[[Any], Any] | None = None  # from the outputs of the rule to what is returned

    def evaluate(self) -> Any:
        with self.backend.errstate():
            outputs = self.backend.apply(self.rule, self.primals, self.constants, self.options)
        return outputs if self.structure is None else self.structure(outputs)


class Differentiable(Protocol[P]):
    """A public function, whose attribute ``bind`` returns the `Call` instead of evaluating it."""

    __name__: str
    bind: Callable[P, Call]

    def __call__(self, *primals: P.args, **options: P.kwargs) -> Any:
        """Evaluate the call."""


def evaluating(bind: Callable[P, Call]) -> Differentiable[P]:
    """Make a function that evaluates the call that ``bind`` returns for its arguments."""

    @functools.wraps(bind)
    def function(*primals: P.args, **options: P.kwargs) -> Any:
        return bind(*primals, **options).evaluate()

    function.bind = bind  # type: ignore[attr-defined]
    return function  # type: ignore[return-value]


def differentiable(bind: Callable[P, Call]) -> Differentiable[P]:
    """Make a public function of one that checks its arguments and returns the call."""
    function = evaluating(bind)
    signature = inspect.signature(bind).replace(return_annotation="Array")
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function
