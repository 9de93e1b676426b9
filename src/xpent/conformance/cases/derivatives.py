"""Cotangents, forward mode and second derivatives."""

from __future__ import annotations

import numpy as np

from xpent.conformance.case import Capability, Case
from xpent.conformance.inputs import CLASS_WEIGHT, LABELS, SAMPLE_WEIGHT, Q, X, one_hot, with_margin

_PER_ROW = np.asarray([1.0, -2.0, 0.0, 3.0, 0.5, -0.25, 8.0, -2.25])  # first entry and sum are those of eight ones
_ALL = {
    "class_weight": CLASS_WEIGHT, "sample_weight": SAMPLE_WEIGHT, "label_smoothing": 0.125, "z_loss": 0.0625,
    "ignore_index": int(LABELS[0]), "where": one_hot(LABELS).astype(bool) | (X < 2), "reduction": "mean",
}  # fmt: skip
_HIGHER = ("float64", "float32")
_HARD, _SOFT = (Capability.INDICES,), (Capability.DISTRIBUTIONS,)
_SMOOTHED = (Capability.INDICES, Capability.SMOOTHED_INDICES)

CASES = [
    Case("value-with-gradient", "cotangents",
         "The value is the same if the gradient is also computed (Liger-Kernel#930).",
         (X, LABELS), quantities=("value with gradient",)),
    Case("cotangent-of-a-sum", "cotangents",
         "The gradient is multiplied by the cotangent (Liger-Kernel#680, aiter#5165).",
         (X, LABELS), {"reduction": "sum"}, cotangent=-2.5),
    Case("cotangent-of-a-mean", "cotangents", "The gradient is multiplied by the cotangent (unsloth-zoo#434).",
         (X, LABELS), {"reduction": "mean"}, cotangent=4.0),
    Case("cotangent-per-row", "cotangents",
         "Every row has its own cotangent (Liger-Kernel#968, Liger-Kernel#1298, DirectML#740).",
         (X, LABELS), {"reduction": "none"}, cotangent=_PER_ROW),
    Case("cotangent-per-row-of-distributions", "cotangents",
         "Every row has its own cotangent, with distributions.", (X, Q),
         {"reduction": "none"}, needs=_SOFT, cotangent=_PER_ROW),
    Case("cotangent-0", "cotangents", "A zero cotangent gives a zero gradient.", (X, LABELS), {"reduction": "sum"},
         cotangent=0.0),
    *(
        Case(f"{quantity.replace(' ', '-')}{name}",
             "forward mode" if quantity == "forward mode" else "second derivative",
             why, inputs, options, needs=needs, quantities=(quantity,), dtypes=_HIGHER)
        for quantity, about in (
            ("forward mode", "Forward mode agrees with reverse mode (t5x#351, optax#1762)"),
            ("second derivative", "A second derivative is correct or raises an error (tensorflow#7403)"),
        )
        for name, why, inputs, options, needs in (
            ("", f"{about}.", (X, LABELS), {}, _HARD),
            ("-of-a-mean", f"{about}, for a mean.", (X, LABELS), {"reduction": "mean"}, _HARD),
            ("-of-distributions", f"{about}, with distributions.", (X, Q), {}, _SOFT),
            ("-of-smoothed-labels", f"{about}, with label smoothing.", (X, LABELS), {"label_smoothing": 0.125},
             _SMOOTHED),
            ("-of-confident-rows", f"{about}, for confident predictions.", with_margin(30), {}, _HARD),
            ("-with-every-option", f"{about}, with all options.", (X, LABELS), _ALL, _SMOOTHED),
        )
    ),
    Case("every-option", "all options", "All options together.", (X, LABELS), _ALL, needs=_SMOOTHED),
    Case("every-option-of-distributions", "all options", "All options together, with distributions.", (X, Q),
         {k: v for k, v in _ALL.items() if k not in ("ignore_index", "where")},
         needs=_SOFT, quantities=("value", "gradient", "gradient of targets")),
]  # fmt: skip
