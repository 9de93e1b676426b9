"""xpent on every library. No other module of the suite imports the functions of xpent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from array_api_compat import array_namespace

import xpent
from xpent.conformance.case import Capability
from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import Argument, Arrays, Function, Library, Options, Unsupported, library

FUNCTIONS: dict[str, Any] = {
    name: getattr(xpent, name)
    for name in ("cross_entropy", "linear_cross_entropy", "softmax", "log_softmax", "logsumexp")
}


class HandWritten:
    """The hand-written derivatives: `xpent.vjp`, `xpent.jvp` and `xpent.grad`."""

    lines: Mapping[str, tuple[str, ...]] = {
        "vjp": (
            "value, pullback = xpent.vjp({function}, {arrays}{options})",
            "print(pullback({g}))",
        ),
        "jvp": ("print(xpent.jvp({function}, ({arrays},), ({v}{nones}){options})[1])",),
        "hvp": ("print(xpent.jvp(xpent.grad({function}), ({arrays},), ({v}{nones}){options})[1])",),
    }

    def __init__(self, library: Library) -> None:
        self.library = library

    def vjp(self, function: Function, arrays: Arrays, options: Options, argument: Argument, cotangent: Any) -> Any:
        """The value, and the gradient multiplied by a cotangent, by ``xpent.vjp``."""
        g = () if cotangent is None else (cotangent,)
        return self.library.call(_vjp(function, argument), (*arrays, *g), options)

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """The derivative along a tangent, by ``xpent.jvp``."""
        return self.library.call(_jvp(function), (*arrays, tangent), options)

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """The derivative of the gradient along a tangent, by ``xpent.jvp`` of ``xpent.grad``."""
        return self.library.call(_jvp(_grad(function)), (*arrays, tangent), options)


@cache
def _vjp(function: Any, argument: Any) -> Function:
    count = {xpent.cross_entropy: 2, xpent.linear_cross_entropy: 3}.get(function, 1)
    position = -1 if isinstance(argument, str) else argument  # the bias is the last primal

    def vjp(*arrays: Any, **options: Any) -> Any:
        value, pullback = xpent.vjp(function, *arrays[:count], **options)
        g = arrays[count] if len(arrays) > count else array_namespace(value).ones_like(value)
        return value, pullback(g)[position]

    return vjp


@cache
def _grad(function: Any) -> Function:
    return xpent.grad(function)


@cache
def _jvp(function: Any) -> Function:
    def jvp(*arrays: Any, **options: Any) -> Any:
        *primals, v = arrays
        return xpent.jvp(function, tuple(primals), (v, *(None for _ in primals[1:])), **options)[1]

    return jvp


_LACKS = {Capability.BATCH_INVARIANCE: "batch invariance is documented only for NumPy"}
_SOURCE = {name: f"import xpent\nfrom xpent import {name}" for name in FUNCTIONS}


def _on(name: str, library: Library, lacks: dict[Capability, str], *, hand_written: bool = True) -> Implementation:
    derivatives = HandWritten(library) if hand_written else None
    return Implementation(
        name,
        library,
        FUNCTIONS,
        lacks,
        derivatives=derivatives,
        source=_SOURCE,
        packages=("xpent", library.name),
        masked_rows_are_nan=False,
    )


def on_numpy() -> Implementation:
    """xpent on NumPy, with its hand-written derivatives."""
    return _on("xpent numpy", library("numpy"), {})


def on_torch() -> Implementation:
    """xpent on PyTorch, with its hand-written derivatives."""
    return _on("xpent torch", library("torch"), _LACKS)


def in_torch() -> Implementation:
    """xpent on PyTorch, differentiated by autograd."""
    return _on("xpent torch autograd", library("torch"), _LACKS, hand_written=False)


def on_cuda() -> Implementation:
    """xpent on PyTorch with a GPU, differentiated by autograd."""
    import torch

    if not torch.cuda.is_available():
        raise Unsupported("no GPU is available")
    return _on("xpent torch cuda", library("torch", "cuda"), _LACKS, hand_written=False)


def on_jax() -> Implementation:
    """xpent on JAX, with its hand-written derivatives."""
    return _on("xpent jax", library("jax"), _LACKS)


def in_jax() -> Implementation:
    """xpent on JAX, differentiated by JAX."""
    return _on("xpent jax autodiff", library("jax"), _LACKS, hand_written=False)
