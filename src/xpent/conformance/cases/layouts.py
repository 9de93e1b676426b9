"""Class axes, memory layouts, sizes near multiples of block sizes, side effects and repeatability."""

from __future__ import annotations

import numpy as np

from xpent.conformance.case import Capability, Case, Generated
from xpent.conformance.inputs import CLASS_WEIGHT, LABELS, X, distributions, logits, uncertain

_x = logits(2, 3, 4, 5, seed=183)  # the maximum along each axis is unique
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
        Case(f"axis-{axis}", "axes", "The classes may be on any axis (mlx#2641).", (_x, _along(axis)),
             {"axis": axis}, needs=_SEQUENCES, dtypes=_FLOATS)
        for axis in (0, 1, 2, -2, 3)
    ),
    Case("axes-1-and-3", "axes", "Several class axes: a label is an index into the flattened axes.",
         (_x, uncertain(_pair[0]).reshape(_pair[1])), {"axis": (1, 3)}, needs=_SEVERAL_AXES, dtypes=_FLOATS),
    Case("axes-3-and-1", "axes", "Several class axes are flattened in the given order.",
         (_x, uncertain(np.moveaxis(_x, (3, 1), (2, 3)).reshape(2, 4, 15))), {"axis": (3, 1)},
         needs=_SEVERAL_AXES, dtypes=_FLOATS),
    Case("axis-0-of-a-square", "axes", "As many rows as classes: the class axis cannot be inferred from the shapes.",
         (_x[0, 0, :, :4], uncertain(_x[0, 0, :, :4].T)), {"axis": 0}, dtypes=_FLOATS),
    Case("axis-of-ignored-rows", "axes",
         "Semantic segmentation: one label per pixel, ignored pixels and class weights.",
         (np.moveaxis(_x, -1, 1), np.where(np.arange(4) == 2, -100, uncertain(_x))),
         {"axis": 1, "ignore_index": -100, "class_weight": CLASS_WEIGHT, "reduction": "mean"},
         needs=_SEQUENCES, dtypes=_FLOATS),
    Case("sample-weight-of-sequences", "axes", "Sample weights have the shape of the labels.",
         (_x, uncertain(_x)), {"sample_weight": np.arange(1.0, 25).reshape(2, 3, 4) / 8}, needs=_SEQUENCES,
         dtypes=_FLOATS),
    Case("axis-of-distributions", "axes", "Distributions have the shape of the logits.",
         (_x, np.moveaxis(distributions(8, 40, 3).reshape(2, 4, 5, 3), -1, 1)), {"axis": 1},
         needs=(Capability.DISTRIBUTIONS, Capability.SEVERAL_BATCH_AXES), dtypes=_FLOATS),
    Case("axis-of-class-weights", "axes", "Class weights with classes on axis 1.",
         (np.moveaxis(_x, -1, 1), uncertain(_x)), {"axis": 1, "class_weight": CLASS_WEIGHT},
         needs=_SEQUENCES, dtypes=_FLOATS),
    *(
        Case(f"{layout}-arrays", "memory layout",
             "The logits are not contiguous (TransformerEngine#2734, unsloth#10713, pytorch#67167).",
             (np.broadcast_to(X[:1], X.shape) if layout == "broadcast" else X, LABELS), layout=layout)
        for layout in ("Fortran", "strided", "reversed", "broadcast")
    ),
    *(
        Case(f"{layout}-sequences", "memory layout", "The labels are not contiguous (TransformerEngine#2734).",
             (X.reshape(2, 4, 5), LABELS.reshape(2, 4)), needs=_SEQUENCES, layout=layout)
        for layout in ("Fortran", "reversed")
    ),
    *(
        Case(f"{classes}-classes-of-blocks", "block sizes",
             "Padding of a block must not contribute to the log-sum-exp (verl#2899, verl#5349, "
             "unsloth#10616).",
             Generated("sized", (3, classes)), dtypes=_FLOATS)
        for classes in _BLOCKS
    ),
    *(
        Case(f"{rows}-rows-of-blocks", "block sizes",
             "Every row is computed, including those of the last block (tt-metal#53209).",
             Generated("sized", (rows, 3)), dtypes=("float32",))
        for rows in (1, *_BLOCKS)
    ),
    Case("mean-of-67-rows-of-67-classes", "block sizes",
         "A mean over a number of rows that is not a multiple of a common block size.",
         Generated("sized", (67, 67)), {"reduction": "mean"}, dtypes=_FLOATS),
    Case("inputs-unchanged", "side effects", "Arguments are not modified (unsloth#5002, Liger-Kernel#343).",
         (X, LABELS), check="inputs unchanged"),
    Case("inputs-unchanged-with-masked-classes", "side effects",
         "Arguments with masked classes are not modified (Megatron-LM#1594).",
         (np.where(np.arange(5) == 4, -np.inf, X), LABELS % 4), check="inputs unchanged"),
    Case("no-warnings", "side effects", "Valid input causes no warning.", (X, LABELS), check="no warnings"),
    Case("no-warnings-from-masked-classes", "side effects", "Masked classes cause no warning.",
         (np.where(np.arange(5) == 4, -np.inf, X), LABELS % 4), check="no warnings", dtypes=("float32",)),
    Case("no-warnings-from-confident-rows", "side effects", "Exponentials that underflow cause no warning.",
         (1000 * X, LABELS), check="no warnings", dtypes=("float32",)),
    Case("same-bits-again", "repeatability",
         "Repeated calls return bit-identical results (pytorch#17350, pytorch#46024).",
         Generated("sized", (67, 129)), check="same bits repeated", dtypes=_FLOATS),
    Case("same-bits-shuffled", "repeatability",
         "The result of a row does not depend on its position in the batch, to the last bit.",
         Generated("sized", (67, 129)), {"reduction": "none"}, check="same bits shuffled", needs=_INVARIANT),
    Case("same-bits-split", "repeatability",
         "The result of a row does not depend on the other rows, to the last bit (vllm#32480).",
         Generated("sized", (67, 129)), {"reduction": "none"}, check="same bits split", needs=_INVARIANT),
]  # fmt: skip
