"""PyTorch, Liger-Kernel and cut-cross-entropy; the last two need an NVIDIA GPU."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from xpent.conformance import signatures
from xpent.conformance.case import Capability
from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import Unsupported, library

_LABELS = ("int8", "int16", "int32", "uint16", "uint32", "uint64")
_LACKS = {
    **signatures.LACKS["torch"],
    **{Capability(f"{dtype} labels"): "supports int64 and uint8 labels" for dtype in _LABELS},
    Capability.INTEGER_DISTRIBUTIONS: "requires floating-point distributions",
    Capability.BATCH_INVARIANCE: "batch invariance is not documented",
    Capability.GRADIENT_OF_TARGETS: "is not checked for PyTorch",
}


def eager() -> Implementation:
    """``torch.nn.functional.cross_entropy``, ``softmax`` and ``log_softmax``, and ``torch.logsumexp``."""
    import torch
    from torch.nn import functional

    def along(function: Any) -> Any:
        return lambda x, *, axis=-1: function(x, dim=axis)

    functions = {
        "cross_entropy": signatures.torch(functional.cross_entropy),
        "softmax": along(functional.softmax),
        "log_softmax": along(functional.log_softmax),
        "logsumexp": along(torch.logsumexp),
    }
    source = (
        "from torch.nn.functional import cross_entropy\nfrom xpent.conformance import signatures\n"
        "cross_entropy = signatures.torch(cross_entropy)"
    )
    return Implementation("torch", library("torch"), functions, _LACKS, source={"cross_entropy": source})


def compiled() -> Implementation:
    """``torch.compile(torch.nn.functional.cross_entropy)``, in two dtypes only, to save time."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    torch._dynamo.config.recompile_limit = 1000
    logging.getLogger("torch").setLevel(logging.CRITICAL)  # invalid calls log long tracebacks
    function = torch.compile(torch.nn.functional.cross_entropy, dynamic=True)
    lacks = {
        **_LACKS,
        Capability.UINT8_LABELS: "supports int64 labels",
        Capability.SECOND_DERIVATIVE: "torch.compile does not support double backward",
        Capability.FORWARD_MODE: "torch.compile does not support forward mode outside the compiled function",
    }
    categories = ("axes", "memory layout", "class weights", "all options")
    excludes = dict.fromkeys(categories, "omitted, to save compile time")
    adapted = signatures.torch(functools.wraps(torch.nn.functional.cross_entropy)(function))
    functions = {"cross_entropy": adapted}
    return Implementation("torch compiled", library("torch"), functions, lacks, excludes, ("float32", "bfloat16"))


def _linear(name: str, options: Any, lacks: dict[Capability, str]) -> Implementation:
    import torch

    def linear_cross_entropy(
        features: Any,
        weight: Any,
        targets: Any,
        *,
        bias: Any = None,
        class_weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ) -> Any:
        return torch.nn.functional.linear_cross_entropy(
            features, weight, targets, linear_bias=bias, weight=class_weight, ignore_index=ignore_index,
            label_smoothing=label_smoothing, reduction=reduction, options=options,
        )  # fmt: skip

    lacks = {**_LACKS, Capability.SEVERAL_BATCH_AXES: "requires features of shape (N, D)", **lacks}
    functions = {"linear_cross_entropy": linear_cross_entropy}
    return Implementation(name, library("torch"), functions, lacks)


def linear() -> Implementation:
    """``torch.nn.functional.linear_cross_entropy``."""
    return _linear("torch linear", None, {})


def chunked() -> Implementation:
    """``torch.nn.functional.linear_cross_entropy`` in chunks."""
    import torch

    lacks = {
        Capability.DISTRIBUTIONS: "does not support distributions in chunks",
        Capability.LABEL_SMOOTHING: "does not support label smoothing in chunks",
    }
    options = torch.nn.LinearCrossEntropyOptions()
    return _linear("torch linear chunked", options, lacks)


_KERNELS_LACK = {
    **_LACKS,
    Capability.DISTRIBUTIONS: "supports only class indices",
    Capability.AXIS: "requires classes on the last axis",
    Capability.SECOND_DERIVATIVE: "computes its gradient in the forward pass",
    Capability.FORWARD_MODE: "has no forward mode",
}
_KERNELS_EXCLUDE = {"labels out of range": "a device-side assertion crashes the process"}


def _needs_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise Unsupported("no GPU is available")


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
    lacks = {
        **_KERNELS_LACK,
        Capability.SEVERAL_BATCH_AXES: "requires logits of shape (N, C)",
        Capability.ONE_ROW: "requires logits of shape (N, C)",
    }
    dtypes = ("float32", "float16", "bfloat16")
    return Implementation("liger", library("torch", "cuda"), functions, lacks, _KERNELS_EXCLUDE, dtypes)


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
    return Implementation(
        "cut-cross-entropy", library("torch", "cuda"), functions, _KERNELS_LACK, _KERNELS_EXCLUDE,
        ("float16", "bfloat16"),
    )  # fmt: skip
