"""PyTorch's own."""

from __future__ import annotations

import logging
import os
from typing import Any

from xpent.conformance import signatures
from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import library

_LABELS = ("int8", "int16", "int32", "uint16", "uint32", "uint64")
LACKS = {
    **signatures.LACKS["torch"],
    **{f"{dtype} labels": "takes labels of int64 and uint8" for dtype in _LABELS},
    "integer distributions": "takes distributions of floating-point numbers",
    "bits of a row": "does not promise them",
    "gradient of targets": "is asked for the gradient of the logits",
}


def eager() -> Implementation:
    """``torch.nn.functional.cross_entropy`` and its neighbours."""
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
    return Implementation("torch", library("torch"), functions, LACKS, source={"cross_entropy": source})


def compiled() -> Implementation:
    """``torch.compile(torch.nn.functional.cross_entropy)``, in one dtype of each width, for the sake of time."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    torch._dynamo.config.recompile_limit = 1000
    logging.getLogger("torch").setLevel(logging.CRITICAL)  # wrong calls are traced back at length
    function = torch.compile(torch.nn.functional.cross_entropy, dynamic=True)
    lacks = {
        **LACKS,
        "uint8 labels": "takes labels of int64",
        "second derivative": "torch.compile does not differentiate twice",
        "forward mode": "torch.compile has no forward mode outside it",
        **{
            f"category {name}": "left out: compiling takes long"
            for name in ("axes", "memory", "class weights", "all options")
        },
    }
    adapted = {"cross_entropy": _like(signatures.torch(torch.nn.functional.cross_entropy), signatures.torch(function))}
    return Implementation("torch compiled", library("torch"), adapted, lacks, ("float32", "bfloat16"))


def _like(original: Any, function: Any) -> Any:
    function.__signature__ = original.__signature__
    return function


def _linear(name: str, options: Any, lacks: dict[str, str]) -> Implementation:
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

    lacks = {**LACKS, "several batch axes": "takes features (N, D)", **lacks}
    functions = {"linear_cross_entropy": linear_cross_entropy}
    return Implementation(name, library("torch"), functions, lacks)


def linear() -> Implementation:
    """``torch.nn.functional.linear_cross_entropy``."""
    return _linear("torch linear", None, {})


def chunked() -> Implementation:
    """``torch.nn.functional.linear_cross_entropy`` in chunks."""
    import torch

    lacks = {
        "distributions": "does not chunk distributions",
        "label_smoothing": "does not chunk smoothed labels",
    }
    options = torch.nn.LinearCrossEntropyOptions()
    return _linear("torch linear chunked", options, lacks)
