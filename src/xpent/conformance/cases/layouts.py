"""Where the classes lie, how arrays lie in memory, sizes around those of blocks, and what a call must not do."""

from __future__ import annotations

import numpy as np

from xpent.conformance.case import Capability, Case, Generated
from xpent.conformance.inputs import CLASS_WEIGHT, LABELS, X, distributions, logits, uncertain

_x = logits(2, 3, 4, 5, seed=183)  # no two classes share a maximum, along any axis
_FLOATS = ("float32", "bfloat16")


def _along(axis: int) -> np.ndarray:
    return uncertain(np.moveaxis(_x, axis, -1))


_pair = (np.moveaxis(_x, (1, 3), (2, 3)).reshape(2, 4, 15), (2, 4))

_BLOCKS = sorted({size for b in (32, 1024) for size in (b - 1, b, b + 1, 2 * b + 3)})
_SEQUENCES = (Capability.INDICES, Capability.SEVERAL_BATCH_AXES)
_SEVERAL_AXES = (*_SEQUENCES, Capability.SEVERAL_CLASS_AXES)
_INVARIANT = (Capability.INDICES, Capability.BATCH_INVARIANCE)

CASES = [
    *(
        Case(f"axis-{axis}", "axes", "The classes may lie along any axis (mlx#2641).", (_x, _along(axis)),
             {"axis": axis}, needs=_SEQUENCES, dtypes=_FLOATS)
        for axis in (0, 1, 2, -2, 3)
    ),
    Case("axes-1-and-3", "axes", "Several axes of classes; a label is the flat index.",
         (_x, uncertain(_pair[0]).reshape(_pair[1])), {"axis": (1, 3)}, needs=_SEVERAL_AXES, dtypes=_FLOATS),
    Case("axes-3-and-1", "axes", "Several axes are flattened in the order given.",
         (_x, uncertain(np.moveaxis(_x, (3, 1), (2, 3)).reshape(2, 4, 15))), {"axis": (3, 1)},
         needs=_SEVERAL_AXES, dtypes=_FLOATS),
    Case("axis-0-of-a-square", "axes", "As many rows as classes: the axis cannot be told from the shapes.",
         (_x[0, 0, :, :4], uncertain(_x[0, 0, :, :4].T)), {"axis": 0}, dtypes=_FLOATS),
    Case("axis-of-ignored-rows", "axes", "Images: labels of pixels, some ignored, each class with a weight.",
         (np.moveaxis(_x, -1, 1), np.where(np.arange(4) == 2, -100, uncertain(_x))),
         {"axis": 1, "ignore_index": -100, "class_weight": CLASS_WEIGHT, "reduction": "mean"},
         needs=_SEQUENCES, dtypes=_FLOATS),
    Case("sample-weight-of-sequences", "axes", "Sample weights have the shape of the labels.",
         (_x, uncertain(_x)), {"sample_weight": np.arange(1.0, 25).reshape(2, 3, 4) / 8}, needs=_SEQUENCES,
         dtypes=_FLOATS),
    Case("axis-of-distributions", "axes", "Distributions have the shape of the logits.",
         (_x, np.moveaxis(distributions(8, 40, 3).reshape(2, 4, 5, 3), -1, 1)), {"axis": 1},
         needs=(Capability.DISTRIBUTIONS, Capability.SEVERAL_BATCH_AXES), dtypes=_FLOATS),
    Case("axis-of-class-weights", "axes", "Weights belong to the classes, wherever they lie.",
         (np.moveaxis(_x, -1, 1), uncertain(_x)), {"axis": 1, "class_weight": CLASS_WEIGHT},
         needs=_SEQUENCES, dtypes=_FLOATS),
    *(
        Case(f"{layout}-arrays", "memory layout",
             "Strides are not what a fresh array has (TransformerEngine#2734, unsloth#10713, pytorch#67167).",
             (np.broadcast_to(X[:1], X.shape) if layout == "broadcast" else X, LABELS), layout=layout)
        for layout in ("Fortran", "strided", "reversed", "broadcast")
    ),
    *(
        Case(f"{layout}-sequences", "memory layout", "Labels have strides, too (TransformerEngine#2734).",
             (X.reshape(2, 4, 5), LABELS.reshape(2, 4)), needs=_SEQUENCES, layout=layout)
        for layout in ("Fortran", "reversed")
    ),
    *(
        Case(f"{classes}-classes-of-blocks", "block sizes",
             "Padding of a block must not count, in the log-sum-exp least of all (verl#2899, verl#5349, "
             "unsloth#10616).",
             Generated("sized", (3, classes)), dtypes=_FLOATS)
        for classes in _BLOCKS
    ),
    *(
        Case(f"{rows}-rows-of-blocks", "block sizes",
             "Every row is computed once, the last ones included (tt-metal#53209).",
             Generated("sized", (rows, 3)), dtypes=("float32",))
        for rows in (1, *_BLOCKS)
    ),
    Case("mean-of-67-rows-of-67-classes", "block sizes", "A mean over rows that do not fill a block.",
         Generated("sized", (67, 67)), {"reduction": "mean"}, dtypes=_FLOATS),
    Case("inputs-unchanged", "side effects", "Arguments are not written to (unsloth#5002, Liger-Kernel#343).",
         (X, LABELS), check="inputs unchanged"),
    Case("inputs-unchanged-with-masked-classes", "side effects", "Arguments are not written to (Megatron-LM#1594).",
         (np.where(np.arange(5) == 4, -np.inf, X), LABELS % 4), check="inputs unchanged"),
    Case("no-warnings", "side effects", "Valid input gives no warning.", (X, LABELS), check="no warnings"),
    Case("no-warnings-from-masked-classes", "side effects", "-inf is valid input.",
         (np.where(np.arange(5) == 4, -np.inf, X), LABELS % 4), check="no warnings", dtypes=("float32",)),
    Case("no-warnings-from-confident-rows", "side effects", "Exponentials that underflow are harmless here.",
         (1000 * X, LABELS), check="no warnings", dtypes=("float32",)),
    Case("same-bits-again", "repeatability", "The same call gives the same bits (pytorch#17350, pytorch#46024).",
         Generated("sized", (67, 129)), check="same bits repeated", dtypes=_FLOATS),
    Case("same-bits-shuffled", "repeatability", "A row's bits do not depend on its position in the batch.",
         Generated("sized", (67, 129)), {"reduction": "none"}, check="same bits shuffled", needs=_INVARIANT),
    Case("same-bits-split", "repeatability", "A row's bits do not depend on the batch around it (vllm#32480).",
         Generated("sized", (67, 129)), {"reduction": "none"}, check="same bits split", needs=_INVARIANT),
]  # fmt: skip
