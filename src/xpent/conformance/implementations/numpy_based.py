"""SciPy and scikit-learn, on NumPy."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from xpent.conformance.implementation import Implementation, ValueAndGradient
from xpent.conformance.libraries import library

_LACKS = {
    "distributions": "takes labels",
    "integer logits": "takes logits of floating-point numbers",
    "bits of a row": "does not promise them",
    "gradient of targets": "takes labels",
}


def _reduced(losses: Any, reduction: str) -> Any:
    return losses if reduction == "none" else getattr(losses, reduction)()


def scipy_special() -> Implementation:
    """The logarithm that ``scipy.special.log_softmax`` gives to the label, as one writes it."""
    from scipy import special

    def cross_entropy(logits: Any, targets: Any, *, reduction: str = "mean") -> Any:
        log_p = special.log_softmax(logits, axis=-1)
        return _reduced(-np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0], reduction)

    functions: dict[str, Any] = {
        "cross_entropy": cross_entropy,
        "softmax": lambda x, *, axis=-1: special.softmax(x, axis=axis),
        "log_softmax": lambda x, *, axis=-1: special.log_softmax(x, axis=axis),
        "logsumexp": lambda x, *, axis=-1: special.logsumexp(x, axis=axis),
    }
    return Implementation("scipy", library("numpy"), functions, _LACKS, packages=("scipy",))


def scikit_learn() -> Implementation:
    """``sklearn._loss.HalfMultinomialLoss``, whose labels are numbers of the logits' dtype."""
    from sklearn._loss import HalfMultinomialLoss

    def arguments(logits: Any, targets: Any) -> dict[str, Any]:
        rows = logits.reshape(-1, logits.shape[-1])
        return {"raw_prediction": rows, "y_true": np.ascontiguousarray(targets, dtype=rows.dtype).reshape(-1)}

    def cross_entropy(logits: Any, targets: Any, *, reduction: str = "mean") -> Any:
        losses = HalfMultinomialLoss(n_classes=logits.shape[-1]).loss(**arguments(logits, targets))
        return _reduced(losses.reshape(targets.shape), reduction)

    def value_and_grad(logits: Any, targets: Any, *, reduction: str = "mean") -> Any:
        losses, gradient = HalfMultinomialLoss(n_classes=logits.shape[-1]).loss_gradient(**arguments(logits, targets))
        share = 1 / losses.size if reduction == "mean" and losses.size else 1
        return _reduced(losses.reshape(targets.shape), reduction), gradient.reshape(logits.shape) * share

    lacks = {
        **_LACKS,
        "far labels": "reads memory far outside the array, which ends the process",
        "one class": "takes at least two classes",
        "refusal of float labels": "takes labels as floats",
    }
    derivatives = ValueAndGradient(library("numpy"), value_and_grad)
    return Implementation(
        "scikit-learn", library("numpy"), {"cross_entropy": cross_entropy}, lacks, ("float64", "float32"),
        derivatives, {}, ("scikit-learn",),
    )  # fmt: skip


def scikit_learn_array_api() -> Implementation:
    """``sklearn._loss.loss.HalfMultinomialLossArrayAPI``, which serves ``array_api_dispatch``."""
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    from sklearn._loss.loss import HalfMultinomialLossArrayAPI

    def of(logits: Any, targets: Any) -> tuple[Any, dict[str, Any]]:
        rows = logits.reshape(-1, logits.shape[-1])
        loss = HalfMultinomialLossArrayAPI(n_classes=rows.shape[1], xp=np, device="cpu")
        return loss, {"y_true": targets.reshape(-1), "raw_prediction": rows}

    def cross_entropy(logits: Any, targets: Any, *, reduction: str = "mean") -> Any:
        loss, arguments = of(logits, targets)
        return _reduced(loss.loss(**arguments).reshape(targets.shape), reduction)

    def value_and_grad(logits: Any, targets: Any, *, reduction: str = "mean") -> Any:
        loss, arguments = of(logits, targets)
        losses, gradient = loss.loss_gradient(**arguments)
        share = 1 / losses.size if reduction == "mean" and losses.size else 1
        return _reduced(losses.reshape(targets.shape), reduction), gradient.reshape(logits.shape) * share

    derivatives = ValueAndGradient(library("numpy"), value_and_grad)
    return Implementation(
        "scikit-learn array API", library("numpy"), {"cross_entropy": cross_entropy}, _LACKS,
        ("float64", "float32"), derivatives, {}, ("scikit-learn",),
    )  # fmt: skip
