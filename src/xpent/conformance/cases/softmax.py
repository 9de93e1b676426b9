"""softmax, log_softmax and logsumexp, with their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpent.conformance.case import Capability, Case
from xpent.conformance.dtypes import DTYPES
from xpent.conformance.inputs import INF, NAN, X, logits, replaced, with_margins

_x3 = logits(2, 5, 4)
_IS_MASKED = np.arange(5) == np.arange(8)[:, None] % 5  # one class of each row


def _cases(function: str) -> list[Case]:
    shape = (8,) if function == "logsumexp" else X.shape
    g = logits(*shape, seed=9) / 2
    rows = with_margins(10)[0][::2]
    named: tuple[tuple[str, str, np.ndarray, dict[str, Any], tuple[str, ...]], ...] = (
        ("", "Logits of moderate size.", X, {}, DERIVATIVES),
        ("-of-confident-rows", "Margins from -100 to 100 at offsets 0, 1e3 and 1e4.", rows, {}, DERIVATIVES),
        ("-at-1e8", "A constant added to all logits changes only the log-sum-exp (onnx-mlir#365, coremltools#2690).",
         X + 1e8, {}, PLAIN),
        ("-of-masked-classes", "A class with logit -inf has p = 0, log p = -inf and gradient 0.",
         np.where(_IS_MASKED, -INF, X), {}, PLAIN),
        ("-of-non-finite-rows", "NaN and +inf affect only their row (mlx#576, tinygrad#17822).",
         replaced(replaced(X, 2, [0, NAN, 1, 2, 3]), 4, [0, INF, 1, 2, 3]), {}, ("value",)),
        ("-of-a-fully-masked-row",
         "All classes are masked: softmax is 0, log_softmax and logsumexp are -inf (tensorflow#11692, pytorch#31829).",
         replaced(X, 2, -INF), {}, ("value", "gradient")),
        ("-along-the-middle", "Classes on axis 1 of three.", _x3, {"axis": 1}, PLAIN),
        ("-along-two-axes", "Classes on two axes.", _x3, {"axis": (0, 2)}, PLAIN),
        ("-of-all", "Classes on all axes.", _x3, {"axis": None}, PLAIN),
        ("-where", "A class where `where` is False is masked, whatever its logit (jax#17117).",
         np.where(_IS_MASKED, 1e4, X), {"where": ~_IS_MASKED}, PLAIN),
    )  # fmt: skip
    cotangents = {"": g}
    if function == "log_softmax":  # log p of masked classes is constant
        cotangents |= dict.fromkeys(("-of-masked-classes", "-where"), np.where(_IS_MASKED, 0.0, g))
    dtypes = {"-at-1e8": ("float64", "float32", "bfloat16"), "-of-confident-rows": ("float64", "float32")}
    return [
        Case(f"{function}{name}", function, why, (x,), options, function,
             needs=() if isinstance(options.get("axis", -1), int) else (Capability.SEVERAL_CLASS_AXES,),
             quantities=quantities, dtypes=dtypes.get(name, DTYPES), cotangent=cotangents.get(name))
        for name, why, x, options, quantities in named
    ]  # fmt: skip


PLAIN = ("value", "gradient")
DERIVATIVES = ("value", "gradient", "forward mode")
CASES = [case for function in ("softmax", "log_softmax", "logsumexp") for case in _cases(function)]
