"""Losses of class indices where common formulas lose digits or overflow."""

from __future__ import annotations

import numpy as np

from xpent.conformance.case import Capability, Case, Generated
from xpent.conformance.dtypes import DTYPES
from xpent.conformance.inputs import LABELS, X, logits, one_hot, with_margin, with_margins

WIDE = ("float64", "float32", "bfloat16")  # the dtypes that can represent 1e8
_margins, _margin_labels = with_margins(10)
_second_largest = np.sort(X)[:, -2:-1]

CASES = [
    Case("rows", "ordinary", "Logits of moderate size, and labels that do not have the largest logit.",
         (X, LABELS)),
    Case(
        "worked-example", "confident", "Losses 0.14507794 and 17.01904505; lse - x_t loses a digit at p = 0.86.",
        (np.asarray([[1.0, 3, 5, 7], [1, -9, 4, 8]]), np.asarray([3, 1])),
    ),
    Case("one-row", "ordinary", "Logits of shape (C,) with a label of shape ().", (X[0], np.asarray(LABELS[0])),
         needs=(Capability.INDICES, Capability.ONE_ROW)),
    Case(
        "sequences", "ordinary", "Logits (batch, time, C) with labels (batch, time).",
        (X.reshape(2, 4, 5), LABELS.reshape(2, 4)), needs=(Capability.INDICES, Capability.SEVERAL_BATCH_AXES),
    ),
    *(
        Case(
            f"offset{offset:+.0e}".replace("e+0", "e"), "offset",
            "A constant added to all logits does not change the loss, but exp(x) overflows and lse - x_t cancels: "
            "equal logits of 1e8 gave loss 0 in torch (pytorch#11752), MLX (mlx#4169, mlx#4188), optax (optax#1792).",
            (X + offset, LABELS), dtypes=DTYPES if abs(offset) < 6e4 else WIDE,
        )
        for offset in (1e3, -1e3, 1e4, -1e4, 1e8, -1e8)
    ),
    Case(
        "offset+1e8-equal", "offset", "Equal logits of 1e8: the loss is log C, not 0 (pytorch#11752, optax#1792).",
        (np.full(X.shape, 1e8), LABELS), dtypes=WIDE,
    ),
    Case(
        "offsets-differ-by-row", "offset", "The maximum must be that of each row, not that of the batch (crysx_nn#7).",
        (X + np.asarray([0.0, 1e3, -1e3, 1e4, -1e4, 500, -500, 100])[:, None], LABELS),
    ),
    *(
        Case(
            f"margin-{margin}", "confident",
            "A confident, correct prediction: loss and gradient are about exp(-margin). lse - x_t and p_t - 1 lose all "
            "digits and return 0 from a margin of 20 on (Liger-Kernel#1329, Liger-Kernel#1341, Liger-Kernel#1419, "
            "jax#40384).",
            with_margin(margin),
        )
        for margin in (4, 8, 12, 16, 20, 40, 100)
    ),
    *(
        Case(
            f"margins-{classes}-classes", "confident",
            "Margins of the label from -100 to 100, at offsets 0, 1e3 and 1e4.",
            Generated("with_margins", (classes,)),
        )
        for classes in (2, 3, 10, 1000)
    ),
    Case("margins-of-one-hot", "confident", "One-hot targets are as accurate as indices.",
         (_margins, one_hot(_margin_labels, 10)), needs=(Capability.DISTRIBUTIONS,)),
    Case(
        "two-equal", "ties", "Two classes share the largest logit: each has its own gradient (jax#13529).",
        (np.minimum(X, _second_largest), LABELS),
    ),
    Case("two-equal-target-among", "ties", "Two classes share the largest logit, and one of them is the target.",
         (np.minimum(X, _second_largest), np.argmax(X, axis=-1))),
    Case("all-equal", "ties", "All logits are equal: the loss is log C.", (np.full(X.shape, 0.75), LABELS)),
    Case("all-zero", "ties", "All logits are zero, as at the start of training.", (np.zeros(X.shape), LABELS)),
    *(
        Case(f"confident-and-wrong-{margin}", "confident and wrong",
             "A confident, wrong prediction: the loss is the margin, the gradient at the target is -1, and "
             "neither is clipped (keras#7563).", with_margin(-margin))
        for margin in (20, 100, 1000, 30000)
    ),
    Case(
        "wide-row", "confident and wrong", "Most exponentials underflow: log(softmax) would be -inf (Theano#3162).",
        (np.linspace(0.0, 40.0, 8)[:, None] * np.asarray([0.0, -1, -20, -50, -500]), np.asarray([1, 2, 3, 4] * 2)),
    ),
    Case("1-class", "number of classes", "A single class: loss 0, gradient 0.",
         (X[:, :1], np.zeros(8, dtype=np.int64)), needs=(Capability.INDICES, Capability.ONE_CLASS)),
    Case("2-classes", "number of classes", "Two classes.",
         (X[:, :2], np.argmin(X[:, :2], axis=-1))),
    Case("50257-classes", "number of classes",
         "The size of GPT-2's vocabulary, which is not a multiple of common block sizes.",
         Generated("with_few_values", (1, 50_257))),
    Case("128256-classes", "number of classes", "The size of Llama 3's vocabulary, which exceeds 2**16 (unsloth#19).",
         Generated("with_few_values", (1, 128_256))),
    Case(
        "100000-classes-in-float16", "half precision",
        "A sum of 100,000 exponentials exceeds float16's largest number, 65504.",
        Generated("one_below_zero", (100_000,)), dtypes=("float16",),
    ),
    Case(
        "label-above-256-in-bfloat16", "half precision",
        "Labels must not be cast to bfloat16, which represents all integers only to 256 (keras#15012, keras#15014).",
        (logits(4, 300, seed=3), np.asarray([257, 259, 261, 299])), dtypes=("bfloat16",),
    ),
    Case(
        "label-above-2048-in-float16", "half precision",
        "Labels must not be cast to float16, which represents all integers only to 2048 (keras#15012, keras#15014).",
        (logits(4, 2100), np.asarray([2049, 2051, 2053, 2099])), dtypes=("float16",),
    ),
    Case(
        "mean-of-66000-rows-in-float16", "half precision",
        "The number of rows or the sum of losses exceeds 65504 (pytorch#85791, PaddlePaddle#74070, jax#40409).",
        Generated("repeated", (8250,)), {"reduction": "mean"}, dtypes=("float16",),
    ),
]  # fmt: skip
