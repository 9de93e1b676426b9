"""Where the classes lie, how arrays lie in memory, sizes around those of blocks, and what a call must not do."""

from __future__ import annotations

import numpy as np

from xpent.conformance import checks
from xpent.conformance.case import Case
from xpent.conformance.cases.rows import CLASS_WEIGHT, LABELS, X, distributions, logits, uncertain
from xpent.conformance.dtypes import DTYPES

_x = logits(2, 3, 4, 5, seed=183)  # no two classes share a maximum, along any axis
_FLOATS = ("float32", "bfloat16")


def _along(axis: int) -> np.ndarray:
    return uncertain(np.moveaxis(_x, axis, -1))


_pair = (np.moveaxis(_x, (1, 3), (2, 3)).reshape(2, 4, 15), (2, 4))

_BLOCKS = sorted({size for b in (32, 1024) for size in (b - 1, b, b + 1, 2 * b + 3)})


def _sized(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels are unlikely, and every other one is the last class, which ends a block or begins one."""
    x = np.random.default_rng(rows + classes).integers(-4, 5, size=(rows, classes)) / 4 - 4
    labels = np.where(np.arange(rows) % 2 == 0, classes - 1, np.argmin(x, axis=-1))
    x[np.arange(rows), labels] = -5.5
    return x, labels


CASES = [
    *(
        Case(f"axis-{axis}", "axes", "The classes may lie along any axis (mlx#2641).", (_x, _along(axis)),
             {"axis": axis}, dtypes=_FLOATS)
        for axis in (0, 1, 2, -2, 3)
    ),
    Case("axes-1-and-3", "axes", "Several axes of classes; a label is the flat index.",
         (_x, uncertain(_pair[0]).reshape(_pair[1])), {"axis": (1, 3)}, dtypes=_FLOATS),
    Case("axes-3-and-1", "axes", "In the order given.",
         (_x, uncertain(np.moveaxis(_x, (3, 1), (2, 3)).reshape(2, 4, 15))), {"axis": (3, 1)}, dtypes=_FLOATS),
    Case("axis-0-of-a-square", "axes", "As many rows as classes: the axis cannot be told from the shapes.",
         (_x[0, 0, :, :4], uncertain(_x[0, 0, :, :4].T)), {"axis": 0}, dtypes=_FLOATS),
    Case("axis-of-ignored-rows", "axes", "Images: labels of pixels, some ignored, each class with a weight.",
         (np.moveaxis(_x, -1, 1), np.where(np.arange(4) == 2, -100, uncertain(_x))),
         {"axis": 1, "ignore_index": -100, "class_weight": CLASS_WEIGHT, "reduction": "mean"}, dtypes=_FLOATS),
    Case("sample-weight-of-sequences", "axes", "Sample weights lie as the labels do.",
         (_x, uncertain(_x)), {"sample_weight": np.arange(1.0, 25).reshape(2, 3, 4) / 8}, dtypes=_FLOATS),
    Case("axis-of-distributions", "axes", "Distributions lie as the logits do.",
         (_x, np.moveaxis(distributions(8, 40, 3).reshape(2, 4, 5, 3), -1, 1)), {"axis": 1}, dtypes=_FLOATS),
    Case("axis-of-class-weights", "axes", "Weights belong to the classes, wherever they lie.",
         (np.moveaxis(_x, -1, 1), uncertain(_x)), {"axis": 1, "class_weight": CLASS_WEIGHT}, dtypes=_FLOATS),
    *(
        Case(f"{layout}-arrays", "memory",
             "Strides are not what a fresh array has (TransformerEngine#2734, unsloth#10713, pytorch#67167).",
             (np.broadcast_to(X[:1], X.shape) if layout == "broadcast" else X, LABELS), layout=layout)
        for layout in ("Fortran", "strided", "reversed", "broadcast")
    ),
    *(
        Case(f"{layout}-sequences", "memory", "Labels have strides, too (TransformerEngine#2734).",
             (X.reshape(2, 4, 5), LABELS.reshape(2, 4)), layout=layout)
        for layout in ("Fortran", "reversed")
    ),
    *(
        Case(f"{classes}-classes-of-blocks", "block sizes",
             "Padding of a block must not count, in the normaliser least of all (verl#2899, verl#5349, unsloth#10616).",
             _sized(3, classes), dtypes=_FLOATS)
        for classes in _BLOCKS
    ),
    *(
        Case(f"{rows}-rows-of-blocks", "block sizes",
             "Every row is computed once, the last ones, too (tt-metal#53209).",
             _sized(rows, 3), dtypes=("float32",))
        for rows in (1, *_BLOCKS)
    ),
    Case("mean-of-67-rows-of-67-classes", "block sizes", "A mean over rows that fill no block.", _sized(67, 67),
         {"reduction": "mean"}, dtypes=_FLOATS),
    Case("inputs-unchanged", "behaviour", "Arguments are not written to (unsloth#5002, Liger-Kernel#343).", (X, LABELS),
         check=checks.leaves_inputs_alone),
    Case("inputs-unchanged-with-impossible-classes", "behaviour", "Arguments are not written to (Megatron-LM#1594).",
         (np.where(np.arange(5) == 4, -np.inf, X), LABELS % 4), check=checks.leaves_inputs_alone),
    Case("no-warnings", "behaviour", "Valid input gives no warning.", (X, LABELS), check=checks.silent),
    Case("no-warnings-from-impossible-classes", "behaviour", "-inf is valid input.",
         (np.where(np.arange(5) == 4, -np.inf, X), LABELS % 4), check=checks.silent, dtypes=("float32",)),
    Case("no-warnings-from-sure-rows", "behaviour", "Underflow is no accident here.", (1000 * X, LABELS),
         check=checks.silent, dtypes=("float32",)),
    Case("same-bits-again", "repeatability", "The same call gives the same bits (pytorch#17350, pytorch#46024).",
         _sized(67, 129), check=checks.same_when_repeated, dtypes=_FLOATS),
    Case("same-bits-shuffled", "repeatability", "A row's bits do not depend on where it stands.",
         _sized(67, 129), {"reduction": "none"}, check=checks.same_when_shuffled, dtypes=DTYPES,
         needs=frozenset({"bits of a row"})),
    Case("same-bits-cut", "repeatability", "A row's bits do not depend on the batch around it (vllm#32480).",
         _sized(67, 129), {"reduction": "none"}, check=checks.same_when_cut, dtypes=DTYPES,
         needs=frozenset({"bits of a row"})),
]  # fmt: skip
