"""Kernels for NVIDIA GPUs: Liger-Kernel and cut-cross-entropy."""

from __future__ import annotations

from typing import Any

from xpent.conformance import signatures
from xpent.conformance.implementation import Implementation
from xpent.conformance.implementations.pytorch import LACKS
from xpent.conformance.libraries import Unsupported, library

_LACKS = {
    **LACKS,
    "distributions": "takes labels",
    "axis": "has its classes last",
    "second derivative": "computes its gradient in the forward pass",
    "forward mode": "has no forward mode",
    "category labels out of range": "an assertion on the device ends the process",
}


def _needs_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise Unsupported("no GPU is visible")


def liger() -> Implementation:
    """``liger_cross_entropy`` and ``liger_fused_linear_cross_entropy``."""
    _needs_a_gpu()
    from liger_kernel.transformers.functional import liger_cross_entropy, liger_fused_linear_cross_entropy

    def linear_cross_entropy(
        features: Any, weight: Any, targets: Any, *, bias: Any = None, softcap: float | None = None,
        class_weight: Any = None, ignore_index: int = -100, label_smoothing: float = 0.0, z_loss: float = 0.0,
        reduction: str = "mean",
    ) -> Any:  # fmt: skip
        return liger_fused_linear_cross_entropy(
            features, weight, targets, bias=bias, softcap=softcap, ce_weight=class_weight, ignore_index=ignore_index,
            label_smoothing=label_smoothing, lse_square_scale=z_loss, reduction=reduction,
        )  # fmt: skip

    functions = {"cross_entropy": signatures.torch(liger_cross_entropy), "linear_cross_entropy": linear_cross_entropy}
    lacks = {**_LACKS, "several batch axes": "takes rows (N, C)", "one row": "takes rows (N, C)"}
    dtypes = ("float32", "float16", "bfloat16")
    return Implementation("liger", library("torch", "cuda"), functions, lacks, dtypes)


def cut_cross_entropy() -> Implementation:
    """``cut_cross_entropy.linear_cross_entropy``."""
    _needs_a_gpu()
    import cut_cross_entropy as cce

    def linear_cross_entropy(
        features: Any, weight: Any, targets: Any, *, softcap: float | None = None, ignore_index: int = -100,
        reduction: str = "mean",
    ) -> Any:  # fmt: skip
        return cce.linear_cross_entropy(
            features, weight, targets, softcap=softcap, ignore_index=ignore_index, reduction=reduction
        )

    functions = {"linear_cross_entropy": linear_cross_entropy}
    return Implementation("cut-cross-entropy", library("torch", "cuda"), functions, _LACKS, ("float16", "bfloat16"))
