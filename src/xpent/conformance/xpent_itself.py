"""xpent on every library: the one file of the kit that imports what it judges."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache
from typing import Any

from array_api_compat import array_namespace

import xpent
from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import Arrays, Function, Library, Moved, Options, library

FUNCTIONS = {name: getattr(xpent, name) for name in ("cross_entropy", "softmax", "log_softmax", "logsumexp")}


class ByHand:
    """The derivatives that xpent.vjp, jvp and grad return."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def vjp(self, function: Function, arrays: Arrays, options: Options, moved: Moved, cotangent: Any) -> Any:
        """Value and gradient, by ``xpent.vjp``."""
        g = () if cotangent is None else (cotangent,)
        return self.library.call(_vjp(function, moved), (*arrays, *g), options)

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative along a tangent, by ``xpent.jvp``."""
        return self.library.call(_jvp(function), (*arrays, tangent), options)

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative of the gradient along a tangent, by ``xpent.jvp`` of ``xpent.grad``."""
        return self.library.call(_jvp(_grad(function)), (*arrays, tangent), options)


@cache
def _vjp(function: Function, moved: int) -> Function:
    count = 2 if function is xpent.cross_entropy else 1

    def vjp(*arrays: Any, **options: Any) -> Any:
        value, pullback = xpent.vjp(function, *arrays[:count], **options)
        g = arrays[count] if len(arrays) > count else array_namespace(value).ones_like(value)
        return value, pullback(g)[moved]

    return vjp


_grad = cache(xpent.grad)


@cache
def _jvp(function: Function) -> Function:
    def jvp(*arrays: Any, **options: Any) -> Any:
        *primals, v = arrays
        return xpent.jvp(function, tuple(primals), (v, *(None for _ in primals[1:])), **options)[1]

    return jvp
