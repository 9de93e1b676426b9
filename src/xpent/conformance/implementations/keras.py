"""Keras 3, on one of its backends in a process; its losses are told to compute in the dtype of the logits."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import Unsupported, library

_LACKS = {
    "several axes": "has one axis of classes",
    "integer logits": "takes logits of floating-point numbers",
    "one row": "takes a batch",
    "bits of a row": "does not promise them",
    "smoothing over possible classes": "spreads smoothing over all classes",
    "label_smoothing of indices": "smooths distributions alone",
    "refusal of float labels": "takes labels of any dtype",
}


def _on(backend: str) -> Implementation:
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
        _LACKS,
        dtypes,
        packages=("keras", backend),
    )


def on_numpy() -> Implementation:
    """On NumPy."""
    return _on("numpy")


def on_torch() -> Implementation:
    """On PyTorch."""
    return _on("torch")


def on_jax() -> Implementation:
    """On JAX."""
    return _on("jax")
