"""Impossible classes, broken rows, and rows that are not counted."""

from __future__ import annotations

import numpy as np

from xpent.conformance.case import Case
from xpent.conformance.cases.rows import INF, LABELS, NAN, Q, X, one_hot, replaced

_label = np.arange(5) == LABELS[:, None]
_out = ~_label & (np.arange(5) == (LABELS[:, None] + 2) % 5)  # one class of each row that is not its label
_masked = np.where(_out, -INF, X)
_weight = np.where(np.arange(8) == 3, 0.0, 1.0)
_Q_out = np.where(_out, 0.0, Q) + np.where(_label, np.sum(np.where(_out, Q, 0.0), axis=-1, keepdims=True), 0.0)
_IMPOSSIBLE = "-inf logits"

CASES = [
    Case("impossible-class",
         _IMPOSSIBLE, "A class at -inf that is not the target is impossible: its gradient is 0 (tf#11756).",
         (_masked, LABELS)),
    Case("impossible-others", _IMPOSSIBLE, "Only the target is possible: loss 0, gradient 0 (flash-attention#1930).",
         (np.where(_label, X, -INF), LABELS)),
    Case("impossible-target", _IMPOSSIBLE, "The target is impossible: loss inf, its gradient -1, p_j elsewhere.",
         (np.where(_label & (np.arange(8) < 3)[:, None], -INF, X), LABELS)),
    Case("impossible-class-of-one-hot",
         _IMPOSSIBLE, "0 * inf counts as 0: no target, no loss (optax#896, ModelCenter#14).",
         (_masked, one_hot(LABELS))),
    Case("impossible-class-of-distributions", _IMPOSSIBLE, "0 * inf counts as 0 in a distribution (optax#896).",
         (_masked, _Q_out)),
    Case("impossible-target-of-distributions", _IMPOSSIBLE, "Probability on an impossible class: loss inf.",
         (np.where(_out & (np.arange(8) < 3)[:, None], -INF, X), Q)),
    Case("impossible-class-with-smoothing", _IMPOSSIBLE,
         "Smoothing spreads over the possible classes only; over all, the loss is inf (pytext#1698).",
         (_masked, LABELS), {"label_smoothing": 0.125}, needs=frozenset({"smoothing over possible classes"})),
    Case("impossible-class-derivatives", _IMPOSSIBLE, "Derivatives of the gradient stay finite, too (optax#1762).",
         (_masked, LABELS), quantities=("forward mode", "second derivative"), dtypes=("float64", "float32")),
    Case("row-of-minus-inf", "broken rows", "No class is possible: that row is NaN, no other notices.",
         (replaced(X, 2, -INF), LABELS)),
    Case("plus-inf-in-its-row", "broken rows", "inf - inf: that row is NaN, no other notices.",
         (replaced(X, 2, [0, INF, 1, 2, 3]), LABELS)),
    Case("nan-in-its-row", "broken rows", "A NaN is not lost, and does not leave its row (pytorch#195829).",
         (replaced(X, 2, [0, NAN, 1, 2, 3]), LABELS)),
    Case("nan-beside-minus-inf", "broken rows", "A guard for -inf must not swallow NaN (pytorch#195829).",
         (replaced(X, 2, [-INF, NAN, -INF, 2, 3]), np.where(np.arange(8) == 2, 4, LABELS))),
    *(
        Case(f"{name}-in-an-ignored-row", "ignored rows",
             "A row that is ignored counts nothing, whatever its logits (pytorch#11551, kospeech#37).",
             (replaced(X, 3, row), replaced(LABELS, 3, -100)), {"ignore_index": -100})
        for name, row in (("nan", [0, NAN, 1, 2, 3]), ("inf", [0, INF, 1, 2, 3]), ("minus-inf", -INF), ("numbers",
        [0, 1, 2, 3, 4.0]))
    ),
    Case("ignored-class", "ignored rows", "A class index may be the one to ignore, inside the range, too.",
         (X, LABELS), {"ignore_index": int(LABELS[0])}),
    Case("mean-without-ignored-rows", "ignored rows",
         "The mean divides by the rows that count (TransformerEngine#336).",
         (X, np.where(np.arange(8) % 3 == 0, -100, LABELS)), {"ignore_index": -100, "reduction": "mean"}),
    Case("nan-in-a-row-of-weight-0", "ignored rows",
         "A weight of 0 is no factor but an exclusion: 0 * NaN is NaN (mlx#1311).",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), LABELS), {"sample_weight": _weight}),
    Case("nan-in-a-row-of-class-weight-0", "ignored rows", "A class of weight 0 excludes its rows, too.",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), LABELS),
         {"class_weight": np.where(np.arange(5) == LABELS[3], 0.0, 1.0)}),
    Case("all-ignored", "mean of nothing",
         "All rows ignored: the mean is 0, and a NaN would reach every parameter (pytorch#116349, Automodel#3796).",
         (X, np.full(8, -100)), {"ignore_index": -100, "reduction": "mean"}),
    Case("all-weights-0", "mean of nothing", "All weights are 0: the mean is 0.",
         (X, LABELS), {"sample_weight": np.zeros(8), "reduction": "mean"}),
    Case("empty-batch-mean", "mean of nothing", "No rows: the mean is 0, the gradient has no entries (pytorch#134431).",
         (X[:0], LABELS[:0]), {"reduction": "mean"}),
    Case("empty-batch-losses", "empty batch", "No rows: no losses.", (X[:0], LABELS[:0]), {"reduction": "none"}),
    Case("empty-batch-sum", "empty batch", "No rows: the sum is 0.", (X[:0], LABELS[:0]), {"reduction": "sum"}),
    Case("impossible-class-of-weight-0", _IMPOSSIBLE,
         "A class whose weight is 0 may be impossible: 0 * inf counts as 0.",
         (np.where(np.arange(5) == 4, -INF, X), Q), {"class_weight": np.asarray([1, 0.5, 2, 1, 0])}),
    Case("impossible-target-of-a-mean", _IMPOSSIBLE, "An infinite loss makes the mean infinite; gradients stay finite.",
         (np.where(_label & (np.arange(8) < 3)[:, None], -INF, X), LABELS), {"reduction": "mean"}),
    Case("nan-in-its-row-of-a-mean", "broken rows", "The mean is NaN; the gradient is where the NaN is.",
         (replaced(X, 2, [0, NAN, 1, 2, 3]), LABELS), {"reduction": "mean"}),
    Case("nan-in-an-ignored-row-derivatives", "ignored rows", "Derivatives of the gradient leak nothing, either.",
         (replaced(X, 3, [0, NAN, 1, 2, 3]), replaced(LABELS, 3, -100)), {"ignore_index": -100},
         quantities=("forward mode", "second derivative"), dtypes=("float64", "float32")),
]  # fmt: skip
