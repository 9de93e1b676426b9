"""Masked classes, fully masked rows, non-finite rows, and rows that are not counted."""

from __future__ import annotations

import numpy as np

from xpent.conformance.case import Capability, Case
from xpent.conformance.inputs import INF, LABELS, NAN, Q, X, one_hot, replaced

_label = np.arange(5) == LABELS[:, None]
_out = ~_label & (np.arange(5) == (LABELS[:, None] + 2) % 5)  # one class of each row that is not its label
_masked = np.where(_out, -INF, X)
_weight = np.where(np.arange(8) == 3, 0.0, 1.0)
_Q_out = np.where(_out, 0.0, Q) + np.where(_label, np.sum(np.where(_out, Q, 0.0), axis=-1, keepdims=True), 0.0)
_MASKED = "masked classes"
_SOFT = (Capability.DISTRIBUTIONS,)

CASES = [
    Case("masked-class", _MASKED, "A class at -inf that is not the target is masked: its gradient is 0 (tf#11756).",
         (_masked, LABELS)),
    Case("masked-others", _MASKED, "Every class but the target is masked: loss 0, gradient 0 (flash-attention#1930).",
         (np.where(_label, X, -INF), LABELS)),
    Case("masked-target", _MASKED, "The target is masked: loss inf, gradient -1 there, p_j elsewhere.",
         (np.where(_label & (np.arange(8) < 3)[:, None], -INF, X), LABELS)),
    Case("masked-class-of-one-hot",
         _MASKED, "0 * inf counts as 0: no target, no loss (optax#896, ModelCenter#14).",
         (_masked, one_hot(LABELS)), needs=_SOFT),
    Case("masked-class-of-distributions", _MASKED, "0 * inf counts as 0 in a distribution (optax#896).",
         (_masked, _Q_out), needs=_SOFT),
    Case("masked-target-of-distributions", _MASKED, "Probability on a masked class: loss inf.",
         (np.where(_out & (np.arange(8) < 3)[:, None], -INF, X), Q), needs=_SOFT),
    Case("masked-class-with-smoothing", _MASKED,
         "Smoothing spreads over the unmasked classes only; over all, the loss is inf (pytext#1698).",
         (_masked, LABELS), {"label_smoothing": 0.125},
         needs=(Capability.INDICES, Capability.SMOOTHED_INDICES, Capability.SMOOTHING_OF_UNMASKED)),
    Case("masked-class-derivatives", _MASKED, "Derivatives of the gradient stay finite as well (optax#1762).",
         (_masked, LABELS), quantities=("forward mode", "second derivative"), dtypes=("float64", "float32")),
    Case("fully-masked-row", "fully masked rows",
         "Every class is masked: the loss is inf, the gradient -1 at the target; no other row notices.",
         (replaced(X, 2, -INF), LABELS)),
    Case("fully-masked-row-derivatives", "fully masked rows",
         "Every class is masked: the derivatives of the gradient are 0 (optax#1762).",
         (replaced(X, 2, -INF), LABELS), quantities=("second derivative",), dtypes=("float64", "float32")),
    Case("plus-inf-in-its-row", "non-finite rows", "inf - inf: that row is NaN, and no other.",
         (replaced(X, 2, [0, INF, 1, 2, 3]), LABELS)),
    Case("nan-in-its-row", "non-finite rows", "A NaN is not lost, and stays in its row (pytorch#195829).",
         (replaced(X, 2, [0, NAN, 1, 2, 3]), LABELS)),
    Case("nan-beside-minus-inf", "non-finite rows", "A guard for -inf must not swallow NaN (pytorch#195829).",
         (replaced(X, 2, [-INF, NAN, -INF, 2, 3]), np.where(np.arange(8) == 2, 4, LABELS))),
    *(
        Case(f"{name}-in-an-ignored-row", "ignored rows",
             "An ignored row contributes nothing, whatever its logits (pytorch#11551, kospeech#37).",
             (replaced(X, 3, row), replaced(LABELS, 3, -100)), {"ignore_index": -100})
        for name, row in (("nan", [0, NAN, 1, 2, 3]), ("inf", [0, INF, 1, 2, 3]), ("minus-inf", -INF),
                          ("numbers", [0, 1, 2, 3, 4.0]))
    ),
    Case("ignored-class", "ignored rows", "The index to ignore may be that of a class.",
         (X, LABELS), {"ignore_index": int(LABELS[0])}),
    Case("mean-without-ignored-rows", "ignored rows",
         "The mean divides by the number of rows that are not ignored (TransformerEngine#336).",
         (X, np.where(np.arange(8) % 3 == 0, -100, LABELS)), {"ignore_index": -100, "reduction": "mean"}),
    Case("nan-in-a-row-of-weight-0", "ignored rows",
         "A weight of 0 excludes a row: multiplied, 0 * NaN is NaN (mlx#1311).",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), LABELS), {"sample_weight": _weight}),
    Case("nan-in-a-row-of-class-weight-0", "ignored rows", "A class of weight 0 excludes its rows as well.",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), LABELS),
         {"class_weight": np.where(np.arange(5) == LABELS[3], 0.0, 1.0)}),
    Case("all-ignored", "mean over no rows",
         "All rows ignored: the mean is 0, and a NaN would reach every parameter (pytorch#116349, Automodel#3796).",
         (X, np.full(8, -100)), {"ignore_index": -100, "reduction": "mean"}),
    Case("all-weights-0", "mean over no rows", "All weights are 0: the mean is 0.",
         (X, LABELS), {"sample_weight": np.zeros(8), "reduction": "mean"}),
    Case("empty-batch-mean", "mean over no rows", "No rows: the mean is 0, the gradient is empty (pytorch#134431).",
         (X[:0], LABELS[:0]), {"reduction": "mean"}),
    Case("empty-batch-losses", "empty batch", "No rows: no losses.", (X[:0], LABELS[:0]), {"reduction": "none"}),
    Case("empty-batch-sum", "empty batch", "No rows: the sum is 0.", (X[:0], LABELS[:0]), {"reduction": "sum"}),
    Case("masked-class-of-weight-0", _MASKED,
         "A class whose weight is 0 may be masked: 0 * inf counts as 0.",
         (np.where(np.arange(5) == 4, -INF, X), Q), {"class_weight": np.asarray([1, 0.5, 2, 1, 0])}, needs=_SOFT),
    Case("masked-target-of-a-mean", _MASKED, "An infinite loss makes the mean infinite; gradients stay finite.",
         (np.where(_label & (np.arange(8) < 3)[:, None], -INF, X), LABELS), {"reduction": "mean"}),
    Case("nan-in-its-row-of-a-mean", "non-finite rows", "The mean is NaN; the gradient is where the NaN is.",
         (replaced(X, 2, [0, NAN, 1, 2, 3]), LABELS), {"reduction": "mean"}),
    Case("nan-in-an-ignored-row-derivatives", "ignored rows", "Second derivatives of an ignored row are 0 as well.",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), replaced(LABELS, 3, -100)), {"ignore_index": -100},
         quantities=("forward mode", "second derivative"), dtypes=("float64", "float32")),
]  # fmt: skip
