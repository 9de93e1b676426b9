"""What is checked: every installed library on every device, with its own functions and its own differentiation."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

from xpent.conformance.oracle import Numbers

LIBRARIES = ("numpy", "torch", "jax")


@dataclass(frozen=True)
class Implementation:
    """An array library on a device, with functions of its own that mean what xpent's mean."""

    library: str
    device: str
    own_name: str
    own: dict[str, Callable[..., Any]]
    asarray: Callable[[Numbers], Any]
    to_numpy: Callable[[Any], Numbers]
    transforms: ModuleType | None  # has vjp, jvp and grad, as torch.func and jax have
    compile: Callable[[Callable[..., Any]], Callable[..., Any]]

    @property
    def name(self) -> str:
        """Library, version and device."""
        return f"{self.library} {version(self.library)} on {self.device}"


def installed(libraries: tuple[str, ...]) -> tuple[list[Implementation], list[str]]:
    """The implementations found, and the names of the libraries that are not installed."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    makers = {"numpy": _numpy, "torch": _torch, "jax": _jax}
    return [found for name in libraries if name not in missing for found in makers[name]()], missing


def _numpy() -> Iterator[Implementation]:
    import scipy.special

    own = {
        "softmax": lambda x: scipy.special.softmax(x, axis=-1),
        "log_softmax": lambda x: scipy.special.log_softmax(x, axis=-1),
        "logsumexp": lambda x: scipy.special.logsumexp(x, axis=-1),
    }
    yield Implementation(
        "numpy", "cpu", "scipy.special", _with_cross_entropy(own), np.asarray, np.asarray, None, _eager
    )


def _torch() -> Iterator[Implementation]:
    import torch
    import torch.func

    own = {
        "softmax": lambda x: torch.nn.functional.softmax(x, dim=-1),
        "log_softmax": lambda x: torch.nn.functional.log_softmax(x, dim=-1),
        "logsumexp": lambda x: torch.logsumexp(x, dim=-1),
    }

    def cross_entropy(logits: Any, targets: Any, *, reduction: str) -> Any:
        return torch.nn.functional.cross_entropy(logits, targets, reduction=reduction)

    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        yield Implementation(
            "torch",
            device,
            "torch.nn.functional",
            _with_cross_entropy(own, cross_entropy),
            partial(_to_torch, device),
            lambda x: x.detach().cpu().numpy(),
            torch.func,
            _eager,
        )


def _to_torch(device: str, x: Numbers) -> Any:
    import torch

    return torch.asarray(np.array(x), device=device)


def _jax() -> Iterator[Implementation]:
    import jax

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    own = {
        "softmax": jax.nn.softmax,
        "log_softmax": jax.nn.log_softmax,
        "logsumexp": lambda x: jax.nn.logsumexp(x, axis=-1),
    }
    optax = importlib.import_module("optax") if importlib.util.find_spec("optax") else None

    def cross_entropy(logits: Any, targets: Any, *, reduction: str) -> Any:
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, targets)  # type: ignore[union-attr]
        return losses if reduction == "none" else getattr(losses, reduction)()

    for device in (jax.devices("cpu")[0], *(d for d in jax.devices()[:1] if d.platform != "cpu")):
        yield Implementation(
            "jax",
            device.platform,
            "jax.nn and optax" if optax else "jax.nn",
            _with_cross_entropy(own, cross_entropy if optax else None),
            partial(jax.device_put, device=device),
            np.asarray,
            jax,
            jax.jit,
        )


def _eager(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _with_cross_entropy(
    own: dict[str, Callable[..., Any]], with_indices: Callable[..., Any] | None = None
) -> dict[str, Callable[..., Any]]:
    """Add cross-entropy: the library's own for plain indices, else the textbook formula on its own log_softmax."""

    def cross_entropy(logits: Any, targets: Any, *, reduction: str = "mean", **options: Any) -> Any:
        if with_indices is not None and targets.ndim == 1 and not options:
            return with_indices(logits, targets, reduction=reduction)
        return _textbook(own, logits, targets, reduction=reduction, **options)

    return {**own, "cross_entropy": cross_entropy}


def _textbook(
    own: dict[str, Callable[..., Any]],
    logits: Any,
    targets: Any,
    *,
    reduction: str,
    class_weight: Any = None,
    sample_weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: Any = None,
) -> Any:
    xp = array_api_compat.array_namespace(logits)
    x = logits if where is None else xp.where(where, logits, -math.inf)
    if targets.ndim == 1:
        index = xp.arange(x.shape[-1], device=array_api_compat.device(targets)) == targets[:, None]
        q, counted = xp.astype(index, x.dtype), targets != ignore_index
    else:
        q, counted = targets, None
    w = xp.ones_like(x[0, :]) if class_weight is None else class_weight
    row_weight = xp.ones_like(x[:, 0]) if class_weight is None else xp.sum(q * w, axis=-1)
    s = xp.ones_like(x[:, 0]) if sample_weight is None else sample_weight
    s = s if counted is None else xp.where(counted, s, 0.0)
    possible = xp.astype(x != -math.inf, x.dtype)
    q = (1 - label_smoothing) * q + label_smoothing * possible / xp.sum(possible, axis=-1, keepdims=True)
    log_p = xp.where(q > 0, own["log_softmax"](x), 0.0)
    losses = s * (z_loss * own["logsumexp"](x) ** 2 - xp.sum(q * w * log_p, axis=-1))
    if reduction == "none":
        return losses
    return xp.sum(losses) / xp.sum(s * row_weight) if reduction == "mean" else xp.sum(losses)
