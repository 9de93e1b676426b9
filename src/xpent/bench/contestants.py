"""The implementations to measure. Each maps arrays to a function without arguments that computes the result."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import xpent

Run = Callable[[], Any]
FUNCTIONS = ("loss", "loss_and_gradient", "softmax", "log_softmax", "logsumexp")
LINEAR = "linear"  # loss and gradients of a linear layer with cross-entropy, from features, weight and labels
LIMIT = "copy"
LIBRARIES = ("numpy", "torch", "jax")


@dataclass(frozen=True, eq=False)
class Contestant:
    """An implementation of some of the functions. Their arguments are arrays of its library, with labels last."""

    name: str
    library: str
    functions: dict[str, Callable[..., Run]]
    needs: str = ""  # the package it requires in addition to its library
    kernel_dtypes: tuple[str, ...] = ()  # the supported dtypes of a kernel for NVIDIA GPUs

    @property
    def is_ours(self) -> bool:
        """Whether it is xpent."""
        return self.name.startswith("xpent")

    @property
    def is_limit(self) -> bool:
        """Whether it is the plain copy, which is a lower bound of the time."""
        return self.name == LIMIT

    @property
    def is_installed(self) -> bool:
        """Whether all required packages are installed."""
        return all(importlib.util.find_spec(name) for name in (self.library, self.needs) if name)


def contestants(libraries: Sequence[str] = LIBRARIES) -> list[Contestant]:
    """The installed implementations of these libraries, starting with the plain copy."""
    makers = {"numpy": _with_numpy, "torch": _with_torch, "jax": _with_jax}
    found = [library for library in libraries if importlib.util.find_spec(library)]
    known = [contestant for library in found for contestant in makers[library]()]
    return [contestant for contestant in known if contestant.is_installed]


def _call(function: Callable[..., Any]) -> Callable[[Any, Any], Run]:
    """Adapt a function that takes only the logits."""
    return lambda x, _: lambda: function(x)


def _with_numpy() -> list[Contestant]:
    import numpy as np

    def copy(x: Any, _: Any) -> Run:
        buffer = np.empty_like(x)
        return lambda: np.copyto(buffer, x)

    def scipy(name: str) -> Callable[[Any, Any], Run]:
        def prepare(x: Any, _: Any) -> Run:
            from scipy import special

            return lambda: getattr(special, name)(x, axis=-1)

        return prepare

    def scipy_loss(x: Any, labels: Any) -> Run:
        from scipy import special

        rows = np.arange(x.shape[0])
        return lambda: -special.log_softmax(x, axis=-1)[rows, labels].mean()

    def scikit_learn(x: Any, labels: Any) -> Run:
        from sklearn._loss.loss import HalfMultinomialLoss

        loss, y = HalfMultinomialLoss(n_classes=x.shape[-1]), labels.astype(x.dtype)
        return lambda: loss.loss_gradient(y, x, n_threads=len(os.sched_getaffinity(0)))

    def two_steps(features: Any, weight: Any, labels: Any) -> Run:
        def run() -> Any:
            loss, g = value_and_grad(features @ weight.T, labels)
            return loss, (g @ weight, g.T @ features)

        return run

    ours = {name: _call(getattr(xpent, name)) for name in ("softmax", "log_softmax", "logsumexp")}
    ours["loss"] = lambda x, labels: lambda: xpent.cross_entropy(x, labels)
    value_and_grad = xpent.value_and_grad(xpent.cross_entropy)
    ours["loss_and_gradient"] = lambda x, labels: lambda: value_and_grad(x, labels)
    of_layer = xpent.value_and_grad(xpent.linear_cross_entropy, (0, 1))
    ours[LINEAR] = lambda *arrays: lambda: of_layer(*arrays)
    theirs = {name: scipy(name) for name in ("softmax", "log_softmax", "logsumexp")}
    return [
        Contestant(LIMIT, "numpy", dict.fromkeys(FUNCTIONS, copy)),
        Contestant("xpent numpy", "numpy", ours),
        Contestant("scipy", "numpy", {**theirs, "loss": scipy_loss}, "scipy"),
        Contestant("scikit-learn", "numpy", {"loss_and_gradient": scikit_learn}, "sklearn"),
        Contestant("two-step numpy", "numpy", {LINEAR: two_steps}),
    ]


def _with_torch() -> list[Contestant]:
    import torch
    from torch.nn import functional

    def forward(function: Callable[..., Any]) -> Callable[[Any, Any], Run]:
        def prepare(x: Any, labels: Any) -> Run:
            torch.compiler.reset()  # the number of shapes per compiled function is limited

            def run() -> None:
                with torch.no_grad():
                    function(x, labels)
                _finish(x)

            return run

        return prepare

    def backward(function: Callable[..., Any]) -> Callable[[Any, Any], Run]:
        def prepare(*arrays: Any) -> Run:
            torch.compiler.reset()
            *inputs, labels = arrays
            inputs = [x.detach().requires_grad_() for x in inputs]

            def run() -> Any:
                loss = function(*inputs, labels)
                loss.backward()
                _finish(labels)
                gradients = [x.grad for x in inputs]
                for x in inputs:
                    x.grad = None  # free the memory before other implementations run
                return loss.detach(), gradients

            return run

        return prepare

    def _finish(x: Any) -> None:
        if x.device.type == "cuda":
            torch.cuda.synchronize(x.device)

    def all_of(cross_entropy: Any, softmax: Any, log_softmax: Any, logsumexp: Any) -> dict[str, Any]:
        of_logits = {"softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp}
        return {
            "loss": forward(cross_entropy),
            "loss_and_gradient": backward(cross_entropy),
            **{name: forward(lambda x, _, function=function: function(x)) for name, function in of_logits.items()},
        }

    ours = (xpent.cross_entropy, xpent.softmax, xpent.log_softmax, xpent.logsumexp)
    theirs = (
        functional.cross_entropy,
        lambda x: functional.softmax(x, -1),
        lambda x: functional.log_softmax(x, -1),
        lambda x: torch.logsumexp(x, -1),
    )
    # These are not compiled: compiled functions store all logits, and the memory of compilation would be included.
    of_layer: dict[str, Callable[..., Any]] = {
        "xpent torch": xpent.linear_cross_entropy,
        "torch": lambda x, weight, y: functional.cross_entropy(functional.linear(x, weight), y),
    }
    linear = {name: {LINEAR: backward(function)} for name, function in of_layer.items()}
    makers = {"": lambda function: function, " compiled": lambda function: torch.compile(function, dynamic=False)}
    return [
        Contestant(f"{name}{how}", "torch", {**all_of(*map(make, functions)), **linear.get(f"{name}{how}", {})})
        for how, make in makers.items()
        for name, functions in (("xpent torch", ours), ("torch", theirs))
    ] + _linear_with_torch(backward)


def _linear_with_torch(backward: Callable[[Callable[..., Any]], Callable[..., Run]]) -> list[Contestant]:
    """Implementations that do not store all logits: that of PyTorch 2.13 and later, and kernels."""
    from torch import nn

    def chunked(features: Any, weight: Any, labels: Any) -> Any:
        options = nn.LinearCrossEntropyOptions()
        return nn.functional.linear_cross_entropy(features, weight, labels, options=options)

    def liger(features: Any, weight: Any, labels: Any) -> Any:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        return liger_fused_linear_cross_entropy(features, weight, labels)

    def cut(features: Any, weight: Any, labels: Any) -> Any:
        import cut_cross_entropy

        return cut_cross_entropy.linear_cross_entropy(features, weight, labels)

    builtin = [Contestant("torch chunked", "torch", {LINEAR: backward(chunked)})]
    return [
        *(builtin if hasattr(nn, "LinearCrossEntropyOptions") else ()),
        Contestant("liger", "torch", {LINEAR: backward(liger)}, "liger_kernel", ("float32", "float16", "bfloat16")),
        Contestant("cut-cross-entropy", "torch", {LINEAR: backward(cut)}, "cut_cross_entropy", ("float16", "bfloat16")),
    ]


def _with_jax() -> list[Contestant]:
    import jax

    def jitted(function: Callable[..., Any], *, takes_labels: bool = False) -> Callable[[Any, Any], Run]:
        compiled = jax.jit(function)

        def prepare(x: Any, labels: Any) -> Run:
            arguments = (x, labels) if takes_labels else (x,)
            return lambda: jax.block_until_ready(compiled(*arguments))  # type: ignore[no-untyped-call]

        return prepare

    def optax_loss(x: Any, labels: Any) -> Any:
        import optax

        return optax.softmax_cross_entropy_with_integer_labels(x, labels).mean()

    def linear(function: Callable[..., Any]) -> Callable[..., Run]:
        compiled = jax.jit(jax.value_and_grad(function, (0, 1)))

        def prepare(*arrays: Any) -> Run:
            ahead = compiled.lower(*arrays).compile()  # compile now, so that peak_memory excludes compilation
            return lambda: jax.block_until_ready(ahead(*arrays))  # type: ignore[no-untyped-call]

        return prepare

    def losses(function: Callable[..., Any]) -> dict[str, Any]:
        return {
            "loss": jitted(function, takes_labels=True),
            "loss_and_gradient": jitted(jax.value_and_grad(function), takes_labels=True),
        }

    def of_logits(library: Any) -> dict[str, Any]:
        names = ("softmax", "log_softmax", "logsumexp")
        return {name: jitted(functools.partial(getattr(library, name), axis=-1)) for name in names}

    ours = {**losses(xpent.cross_entropy), **of_logits(xpent), LINEAR: linear(xpent.linear_cross_entropy)}
    theirs = {**losses(optax_loss), LINEAR: linear(lambda x, weight, labels: optax_loss(x @ weight.T, labels))}
    return [
        Contestant("xpent jax", "jax", ours),
        Contestant("optax", "jax", theirs, "optax"),
        Contestant("jax.nn", "jax", of_logits(jax.nn)),
    ]
