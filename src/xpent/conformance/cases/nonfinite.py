"""Masked classes, fully masked rows, non-finite rows and inactive rows."""

from __future__ import annotations

import numpy as np

from xpent.conformance.case import Capability, Case
from xpent.conformance.inputs import INF, LABELS, NAN, Q, X, one_hot, replaced

_label = np.arange(5) == LABELS[:, None]
_is_masked = ~_label & (np.arange(5) == (LABELS[:, None] + 2) % 5)  # one class of each row, which is not its label
_masked = np.where(_is_masked, -INF, X)
_weight = np.where(np.arange(8) == 3, 0.0, 1.0)
_masked_share = np.sum(np.where(_is_masked, Q, 0.0), axis=-1, keepdims=True)
_Q_of_unmasked = np.where(_is_masked, 0.0, Q) + np.where(_label, _masked_share, 0.0)
_MASKED = "masked classes"
_SOFT = (Capability.DISTRIBUTIONS,)

CASES = [
    Case("masked-class", _MASKED, "A class with logit -inf is masked: its gradient is 0 (tf#11756).",
         (_masked, LABELS)),
    Case("masked-others", _MASKED, "Every class but the target is masked: loss 0, gradient 0 (flash-attention#1930).",
         (np.where(_label, X, -INF), LABELS)),
    Case("masked-target", _MASKED,
         "The target is masked: the loss is inf, the gradient is -1 at the target and p_j elsewhere.",
         (np.where(_label & (np.arange(8) < 3)[:, None], -INF, X), LABELS)),
    Case("masked-class-of-one-hot",
         _MASKED, "A masked class with target 0 contributes 0, not 0 * inf = NaN (optax#896, ModelCenter#14).",
         (_masked, one_hot(LABELS)), needs=_SOFT),
    Case("masked-class-of-distributions", _MASKED,
         "A masked class with probability 0 contributes 0, not 0 * inf = NaN (optax#896).",
         (_masked, _Q_of_unmasked), needs=_SOFT),
    Case("masked-target-of-distributions", _MASKED, "A masked class has target probability: the loss is inf.",
         (np.where(_is_masked & (np.arange(8) < 3)[:, None], -INF, X), Q), needs=_SOFT),
    Case("masked-class-with-smoothing", _MASKED,
         "Label smoothing is over the unmasked classes; over all classes the loss is inf (pytext#1698).",
         (_masked, LABELS), {"label_smoothing": 0.125},
         needs=(Capability.INDICES, Capability.SMOOTHED_INDICES, Capability.SMOOTHING_OF_UNMASKED)),
    Case("masked-class-derivatives", _MASKED, "With masked classes, second derivatives are finite (optax#1762).",
         (_masked, LABELS), quantities=("forward mode", "second derivative"), dtypes=("float64", "float32")),
    Case("fully-masked-row", "fully masked rows",
         "Every class is masked: the loss is inf, the gradient is -1 at the target; other rows are unaffected.",
         (replaced(X, 2, -INF), LABELS)),
    Case("fully-masked-row-derivatives", "fully masked rows",
         "Every class is masked: second derivatives are 0 (optax#1762).",
         (replaced(X, 2, -INF), LABELS), quantities=("second derivative",), dtypes=("float64", "float32")),
    Case("plus-inf-in-its-row", "non-finite rows", "A row with +inf is NaN; other rows are unaffected.",
         (replaced(X, 2, [0, INF, 1, 2, 3]), LABELS)),
    Case("nan-in-its-row", "non-finite rows", "A row with NaN is NaN; other rows are unaffected (pytorch#195829).",
         (replaced(X, 2, [0, NAN, 1, 2, 3]), LABELS)),
    Case("nan-beside-minus-inf", "non-finite rows", "A row with NaN and -inf is NaN (pytorch#195829).",
         (replaced(X, 2, [-INF, NAN, -INF, 2, 3]), np.where(np.arange(8) == 2, 4, LABELS))),
    *(
        Case(f"{name}-in-an-ignored-row", "ignored rows",
             "An ignored row contributes 0, whatever its logits are (pytorch#11551, kospeech#37).",
             (replaced(X, 3, row), replaced(LABELS, 3, -100)), {"ignore_index": -100})
        for name, row in (("nan", [0, NAN, 1, 2, 3]), ("inf", [0, INF, 1, 2, 3]), ("minus-inf", -INF),
                          ("numbers", [0, 1, 2, 3, 4.0]))
    ),
    Case("ignored-class", "ignored rows", "ignore_index may be the index of a class.",
         (X, LABELS), {"ignore_index": int(LABELS[0])}),
    Case("mean-without-ignored-rows", "ignored rows",
         "The mean divides by the number of rows that are not ignored (TransformerEngine#336).",
         (X, np.where(np.arange(8) % 3 == 0, -100, LABELS)), {"ignore_index": -100, "reduction": "mean"}),
    Case("nan-in-a-row-of-weight-0", "ignored rows",
         "A row with weight 0 contributes 0, not 0 * NaN = NaN (mlx#1311).",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), LABELS), {"sample_weight": _weight}),
    Case("nan-in-a-row-of-class-weight-0", "ignored rows",
         "A row whose class has weight 0 contributes 0, not 0 * NaN = NaN.",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), LABELS),
         {"class_weight": np.where(np.arange(5) == LABELS[3], 0.0, 1.0)}),
    Case("all-ignored", "mean over no rows",
         "All rows are ignored: the mean is 0, not 0 / 0 = NaN (pytorch#116349, Automodel#3796).",
         (X, np.full(8, -100)), {"ignore_index": -100, "reduction": "mean"}),
    Case("all-weights-0", "mean over no rows", "All weights are 0: the mean is 0.",
         (X, LABELS), {"sample_weight": np.zeros(8), "reduction": "mean"}),
    Case("empty-batch-mean", "mean over no rows", "No rows: the mean is 0, the gradient is empty (pytorch#134431).",
         (X[:0], LABELS[:0]), {"reduction": "mean"}),
    Case("empty-batch-losses", "empty batch",
         "No rows: the array of losses is empty.", (X[:0], LABELS[:0]), {"reduction": "none"}),
    Case("empty-batch-sum", "empty batch", "No rows: the sum is 0.", (X[:0], LABELS[:0]), {"reduction": "sum"}),
    Case("masked-class-of-weight-0", _MASKED,
         "A masked class with class weight 0 contributes 0, not 0 * inf = NaN.",
         (np.where(np.arange(5) == 4, -INF, X), Q), {"class_weight": np.asarray([1, 0.5, 2, 1, 0])}, needs=_SOFT),
    Case("masked-target-of-a-mean", _MASKED, "An infinite loss makes the mean infinite; gradients are finite.",
         (np.where(_label & (np.arange(8) < 3)[:, None], -INF, X), LABELS), {"reduction": "mean"}),
    Case("nan-in-its-row-of-a-mean", "non-finite rows",
         "A NaN makes the mean NaN; the gradient is NaN only in the row with the NaN.",
         (replaced(X, 2, [0, NAN, 1, 2, 3]), LABELS), {"reduction": "mean"}),
    Case("nan-in-an-ignored-row-derivatives", "ignored rows", "Forward and second derivatives of an ignored row are 0.",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), replaced(LABELS, 3, -100)), {"ignore_index": -100},
         quantities=("forward mode", "second derivative"), dtypes=("float64", "float32")),
]  # fmt: skip
