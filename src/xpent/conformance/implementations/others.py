"""SciPy, scikit-learn, optax and Keras."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np

from xpent.conformance import signatures
from xpent.conformance.case import Capability
from xpent.conformance.implementation import Implementation, ValueAndGradient
from xpent.conformance.libraries import Unsupported, library

_NUMPY_LACKS = {
    Capability.DISTRIBUTIONS: "supports only class indices",
    Capability.INTEGER_LOGITS: "requires floating-point logits",
    Capability.BATCH_INVARIANCE: "batch invariance is not documented",
    Capability.GRADIENT_OF_TARGETS: "supports only class indices",
}


def _reduced(losses: Any, reduction: str) -> Any:
    return losses if reduction == "none" else getattr(losses, reduction)()


def scipy_special() -> Implementation:
    """The negative of ``scipy.special.log_softmax`` at the label."""
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
    return Implementation("scipy", library("numpy"), functions, _NUMPY_LACKS, packages=("scipy",))


def scikit_learn() -> Implementation:
    """``sklearn._loss.HalfMultinomialLoss``, which takes labels in the dtype of the logits."""
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
        **_NUMPY_LACKS,
        Capability.LABELS_FAR_OUT_OF_RANGE: "reads memory outside the array, which may crash the process",
        Capability.ONE_CLASS: "requires at least two classes",
        Capability.REJECTS_FLOAT_LABELS: "takes labels as floating-point numbers",
    }
    derivatives = ValueAndGradient(library("numpy"), value_and_grad)
    return Implementation(
        "scikit-learn", library("numpy"), {"cross_entropy": cross_entropy}, lacks,
        dtypes=("float64", "float32"), derivatives=derivatives, packages=("scikit-learn",),
    )  # fmt: skip


def scikit_learn_array_api() -> Implementation:
    """``sklearn._loss.loss.HalfMultinomialLossArrayAPI``, which is used with ``array_api_dispatch``."""
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
        "scikit-learn array API", library("numpy"), {"cross_entropy": cross_entropy}, _NUMPY_LACKS,
        dtypes=("float64", "float32"), derivatives=derivatives, packages=("scikit-learn",),
    )  # fmt: skip


_OPTAX_LACKS = {**signatures.LACKS["optax"], Capability.BATCH_INVARIANCE: "batch invariance is not documented"}
_OPTAX_SOFT_LACKS = {
    Capability.INDICES: "supports only distributions",
    Capability.INTEGER_DISTRIBUTIONS: "requires floating-point distributions",
}


def _optax(name: str, function: str, lacks: dict[Capability, str]) -> Implementation:
    import optax

    source = (
        f"from optax.losses import {function} as cross_entropy\nfrom xpent.conformance import signatures\n"
        "cross_entropy = signatures.optax(cross_entropy)"
    )
    functions: dict[str, Any] = {"cross_entropy": signatures.optax(getattr(optax.losses, function))}
    return Implementation(
        name,
        library("jax"),
        functions,
        {**_OPTAX_LACKS, **lacks},
        source={"cross_entropy": source},
        packages=("optax", "jax"),
    )


def optax_integer() -> Implementation:
    """``optax.losses.softmax_cross_entropy_with_integer_labels``."""
    lacks = {
        Capability.DISTRIBUTIONS: "supports only class indices",
        Capability.UINT64_LABELS: "supports unsigned labels of at most 32 bits",
    }
    return _optax("optax integer", "softmax_cross_entropy_with_integer_labels", lacks)


def optax_soft() -> Implementation:
    """``optax.losses.softmax_cross_entropy``."""
    return _optax("optax soft", "softmax_cross_entropy", _OPTAX_SOFT_LACKS)


def optax_safe() -> Implementation:
    """``optax.losses.safe_softmax_cross_entropy``."""
    return _optax("optax safe", "safe_softmax_cross_entropy", _OPTAX_SOFT_LACKS)


_KERAS_LACKS = {
    Capability.SEVERAL_CLASS_AXES: "supports one class axis",
    Capability.INTEGER_LOGITS: "requires floating-point logits",
    Capability.ONE_ROW: "requires a batch",
    Capability.BATCH_INVARIANCE: "batch invariance is not documented",
    Capability.SMOOTHING_OF_UNMASKED: "smooths over all classes, including masked ones",
    Capability.SMOOTHED_INDICES: "supports label smoothing only for distributions",
    Capability.REJECTS_FLOAT_LABELS: "accepts labels of any dtype",
}


def _keras(backend: str) -> Implementation:
    """The losses of Keras 3 in the dtype of the logits. Keras has one backend per process."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("KERAS_HOME", tempfile.mkdtemp())  # importing Keras writes a file there
    import keras

    if keras.backend.backend() != backend:
        raise Unsupported(f"Keras runs on {keras.backend.backend()} in this process")

    def cross_entropy(
        logits: Any,
        targets: Any,
        *,
        axis: int = -1,
        sample_weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Any:
        how = {"none": "none", "sum": "sum", "mean": "mean_with_sample_weight"}[reduction]
        dtype = str(logits.dtype).removeprefix("torch.")
        options = {"from_logits": True, "axis": axis, "reduction": how, "dtype": dtype}
        if targets.ndim == logits.ndim:
            loss = keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing, **options)
        else:
            loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=ignore_index, **options)
        return loss(targets, logits, sample_weight=sample_weight)

    dtypes = ("float64", "float32", "float16") if backend == "numpy" else None
    return Implementation(
        f"keras {backend}",
        library(backend),
        {"cross_entropy": cross_entropy},
        _KERAS_LACKS,
        dtypes=dtypes,
        packages=("keras", backend),
    )


def keras_on_numpy() -> Implementation:
    """Keras on NumPy."""
    return _keras("numpy")


def keras_on_torch() -> Implementation:
    """Keras on PyTorch."""
    return _keras("torch")


def keras_on_jax() -> Implementation:
    """Keras on JAX."""
    return _keras("jax")
