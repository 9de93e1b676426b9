"""Labels and distributions, weights, smoothing and reductions."""

from __future__ import annotations

import numpy as np

from xpent.conformance.case import Capability, Case, Due
from xpent.conformance.inputs import CLASS_WEIGHT, LABELS, SAMPLE_WEIGHT, Q, X, logits, one_hot, replaced

_REJECTED = "A label outside [0, C) raises an error or makes its row NaN, never the loss of another class"
_HARD, _SOFT = (Capability.INDICES,), (Capability.DISTRIBUTIONS,)
_SMOOTHED = (Capability.INDICES, Capability.SMOOTHED_INDICES)
_FAR = (Capability.INDICES, Capability.LABELS_FAR_OUT_OF_RANGE)
_FAR_UINT8 = (*_FAR, Capability.UINT8_LABELS)

CASES = [
    *(
        Case(f"{dtype}-labels", "label dtypes",
             "Labels of any integer dtype mean the same (pytorch#45540, foolbox#666).",
             (X, LABELS.astype(dtype)), dtypes=("float32",),
             needs=(Capability.INDICES, *([] if dtype == "int64" else [Capability(f"{dtype} labels")])))
        for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    ),
    Case("uint8-labels-to-255", "label dtypes", "Labels up to the largest of their dtype; -1 wraps to 255 in it.",
         (logits(4, 300, seed=3), np.asarray([0, 127, 128, 255], dtype=np.uint8)), dtypes=("float32",),
         needs=(Capability.INDICES, Capability.UINT8_LABELS)),
    Case("int8-labels-of-300-classes", "label dtypes", "More classes than the labels' dtype can count.",
         (logits(4, 300, seed=3), np.asarray([0, 1, 126, 127], dtype=np.int8)), dtypes=("float32",),
         needs=(Capability.INDICES, Capability.INT8_LABELS)),
    *(
        Case(f"label-{name}", "labels out of range", f"{_REJECTED}{why}",
             (X, replaced(LABELS, 3, label)), due=Due.ERROR_OR_NAN, dtypes=("float32", "bfloat16"),
             needs=needs)
        for name, label, needs, why in (
            ("minus-1", -1, (Capability.INDICES,), "; -1 wraps to the last class where it is used as an index."),
            ("minus-C", -5, (Capability.INDICES,), "; -C wraps to the first class."),
            ("C", 5, (Capability.INDICES,), "; C reads the first logit of the next row (keras#23664, optax#1185)."),
            ("C-plus-1", 6, (Capability.INDICES,), " (optax#1185, tensorflow#126005)."),
            ("minus-100", -100, (*_FAR, Capability.NO_DEFAULT_IGNORE_INDEX),
             ", and -100 is ignored only where that is asked for (pytorch#12670)."),
            ("a-billion", 10**9, _FAR, "; far ones leave the array (PaddlePaddle#36891)."),
        )
    ),
    Case("label-C-in-the-last-row", "labels out of range", f"{_REJECTED}; after the last row there is no memory.",
         (X, replaced(LABELS, 7, 5)), due=Due.ERROR_OR_NAN, dtypes=("float32",)),
    Case("label-255-of-uint8", "labels out of range", f"{_REJECTED}: 255 is not -1.",
         (X, replaced(LABELS, 3, 255).astype(np.uint8)), needs=_FAR_UINT8, due=Due.ERROR_OR_NAN,
         dtypes=("float32",)),
    Case("label-255-beside-ignore-index-minus-1", "labels out of range", f"{_REJECTED}: 255 is not the -1 to ignore.",
         (X, replaced(LABELS, 3, 255).astype(np.uint8)), {"ignore_index": -1}, needs=_FAR_UINT8,
         due=Due.ERROR_OR_NAN, dtypes=("float32",)),
    Case("label-2-to-the-32", "labels out of range", f"{_REJECTED}; cut to 32 bits it would be class 0.",
         (X, replaced(LABELS, 3, 2**32)), needs=_FAR, due=Due.ERROR_OR_NAN, dtypes=("float32",)),
    Case("minus-1-beside-ignore-index", "labels out of range", f"{_REJECTED}; only ignore_index is ignored.",
         (X, replaced(replaced(LABELS, 3, -100), 5, -1)), {"ignore_index": -100}, due=Due.ERROR_OR_NAN,
         dtypes=("float32",)),
    Case("class-weight", "class weights", "Each row counts with the weight of its class.", (X, LABELS),
         {"class_weight": CLASS_WEIGHT}),
    Case("class-weight-mean", "class weights",
         "The mean divides by the sum of the weights of the labels (pytorch#65329).",
         (X, LABELS), {"class_weight": CLASS_WEIGHT, "reduction": "mean"}),
    Case("class-weight-mean-of-one-hot", "class weights",
         "Indices and one-hot targets agree, in the mean, too (pytorch#107680).",
         (X, one_hot(LABELS)), {"class_weight": CLASS_WEIGHT, "reduction": "mean"}, needs=_SOFT),
    Case("class-weight-mean-with-ignored", "class weights",
         "Neither loss nor weight of an ignored row is counted (pytorch#69339).",
         (X, replaced(LABELS, 3, -100)), {"class_weight": CLASS_WEIGHT, "ignore_index": -100, "reduction": "mean"}),
    Case("class-weight-of-0", "class weights", "A class of weight 0 counts nothing.",
         (X, LABELS), {"class_weight": replaced(CLASS_WEIGHT, LABELS[0], 0.0), "reduction": "mean"}),
    Case("class-weight-of-distributions", "class weights", "Every class of a distribution counts with its weight.",
         (X, Q), {"class_weight": CLASS_WEIGHT}, needs=_SOFT),
    Case("sample-weight", "sample weights", "Each row counts with its weight.", (X, LABELS),
         {"sample_weight": SAMPLE_WEIGHT}),
    Case("sample-weight-mean", "sample weights", "The mean divides by the sum of the weights.",
         (X, LABELS), {"sample_weight": SAMPLE_WEIGHT, "reduction": "mean"}),
    Case("sample-and-class-weight-mean", "sample weights", "Both weights multiply, in the denominator, too.",
         (X, LABELS), {"class_weight": CLASS_WEIGHT, "sample_weight": SAMPLE_WEIGHT, "reduction": "mean"}),
    Case("smoothing", "label smoothing",
         "The label keeps 1 - eps + eps/C, the others get eps/C (pytorch#148884, aprender#2199).",
         (X, LABELS), {"label_smoothing": 0.125}, needs=_SMOOTHED),
    Case("smoothing-of-1", "label smoothing", "eps = 1 leaves a uniform target.", (X, LABELS),
         {"label_smoothing": 1.0}, needs=_SMOOTHED),
    Case("smoothing-mean-with-ignored", "label smoothing", "The uniform part counts no ignored row (pytorch#73205).",
         (X, replaced(LABELS, 3, -100)), {"label_smoothing": 0.125, "ignore_index": -100, "reduction": "mean"},
         needs=_SMOOTHED),
    Case("smoothing-with-class-weight", "label smoothing",
         "Class weights multiply the smoothed target, the mean divides by the labels' (pytorch#104776).",
         (X, LABELS), {"label_smoothing": 0.125, "class_weight": CLASS_WEIGHT, "reduction": "mean"},
         needs=_SMOOTHED),
    Case("smoothing-of-distributions", "label smoothing", "Distributions are smoothed as labels are.", (X, Q),
         {"label_smoothing": 0.125}, needs=_SOFT),
    Case("distributions", "soft targets", "A distribution over the classes.", (X, Q), needs=_SOFT),
    Case("one-hot", "soft targets", "A one-hot row is a label.", (X, one_hot(LABELS)), needs=_SOFT),
    Case("one-hot-of-integers", "soft targets", "Integers and booleans are promoted.",
         (X, one_hot(LABELS).astype(np.int64)), dtypes=("float32",),
         needs=(*_SOFT, Capability.INTEGER_DISTRIBUTIONS)),
    Case("mean-of-distributions", "soft targets", "The mean divides by the number of rows.", (X, Q),
         {"reduction": "mean"}, needs=_SOFT),
    Case("integer-logits", "label dtypes", "Integers are promoted.",
         (np.rint(X).astype(np.int64), LABELS), quantities=("value",), dtypes=("float32",),
         needs=(Capability.INDICES, Capability.INTEGER_LOGITS)),
    Case("gradient-of-distributions", "soft targets", "The gradient by a distribution is -log softmax.",
         (X, Q), needs=_SOFT, quantities=("gradient of targets",)),
    Case("targets-that-sum-to-2", "unnormalized targets",
         "Targets need not sum to 1: the gradient is p_j sum(q) - q_j (tensorflow#2327, meganeura#102).",
         (X, 2 * Q), needs=_SOFT),
    Case("targets-that-are-0", "unnormalized targets",
         "A row whose targets are all 0 has loss 0 and gradient 0 (tensorflow#60314).",
         (X, replaced(Q, 2, 0.0)), needs=_SOFT),
    Case("losses-of-rows", "reductions", "'none' returns one loss per row (Liger-Kernel#421).", (X, LABELS),
         {"reduction": "none"}),
    Case("sum-of-rows", "reductions", "'sum' adds them.", (X, LABELS), {"reduction": "sum"}),
    Case("mean-of-rows", "reductions", "'mean' divides by their number.", (X, LABELS), {"reduction": "mean"}),
    Case("mean-of-sequences", "reductions", "'mean' divides by the number of rows on all axes.",
         (X.reshape(2, 4, 5), LABELS.reshape(2, 4)), {"reduction": "mean"},
         needs=(Capability.INDICES, Capability.SEVERAL_BATCH_AXES)),
    *(
        Case(f"normalizer-of-a-{reduction}", "reductions",
             "The normalizer divides the sum, with 'mean' and 'sum' alike.",
             (X, LABELS), {"normalizer": 48.0, "reduction": reduction})
        for reduction in ("mean", "sum")
    ),
    Case("z-loss", "z-loss", "z lse**2 is added to a row, 2 z lse p_j to its gradient.", (X, LABELS),
         {"z_loss": 0.125}),
    Case("z-loss-of-one-hot", "z-loss", "The same for distributions.", (X, one_hot(LABELS)),
         {"z_loss": 0.125}, needs=_SOFT),
    Case("z-loss-at-an-offset", "z-loss", "The log-sum-exp itself, not that of the shifted logits.", (X + 64, LABELS),
         {"z_loss": 0.125}),
    Case("z-loss-of-an-ignored-row", "z-loss", "An ignored row has no z-loss.",
         (X, replaced(LABELS, 3, -100)), {"z_loss": 0.125, "ignore_index": -100}),
]  # fmt: skip

_unmasked = (np.random.default_rng(6).uniform(size=X.shape) < 0.7) | one_hot(LABELS).astype(bool)
CASES += [
    Case("where", "where", "A class where `where` is False is masked.", (X, LABELS), {"where": _unmasked}),
    Case("where-target-is-masked", "where", "A masked target has loss inf.",
         (X, LABELS), {"where": (~one_hot(LABELS).astype(bool)) | (np.arange(8) < 5)[:, None]}),
    Case("where-nan-is-masked", "where", "The logit of a masked class may be NaN (jax#17117).",
         (np.where(_unmasked, X, np.nan), LABELS), {"where": _unmasked}),
    Case("where-with-smoothing", "where", "Smoothing spreads over the unmasked classes.",
         (X, LABELS), {"where": _unmasked, "label_smoothing": 0.125}, needs=_SMOOTHED),
    Case("where-broadcast", "where", "A mask is broadcast.", (X, LABELS % 4),
         {"where": np.asarray([True, True, True, True, False])}),
    *(
        Case(name, "invalid arguments", why, inputs, options, needs=needs, due=Due.ERROR, dtypes=("float32",))
        for name, why, inputs, options, needs in (
            ("unknown-reduction", "A reduction that does not exist must not be taken for the mean.", (X, LABELS),
             {"reduction": "average"}, _HARD),
            ("smoothing-above-1", "label_smoothing must lie in [0, 1].", (X, LABELS), {"label_smoothing": 1.5},
             _SMOOTHED),
            ("smoothing-below-0", "label_smoothing must lie in [0, 1].", (X, LABELS), {"label_smoothing": -0.5},
             _SMOOTHED),
            ("too-few-labels", "There is one label for each row.", (X, LABELS[:5]), {}, _HARD),
            ("one-label-for-all-rows", "A label is not broadcast.", (X, LABELS[:1]), {}, _HARD),
            ("labels-in-a-column", "Labels (N, 1) against rows (N,) would be broadcast to (N, N).",
             (X, LABELS[:, None]), {}, _HARD),
            ("too-few-classes-in-targets", "A distribution has the shape of the logits.", (X, Q[:, :4]), {}, _SOFT),
            ("too-few-class-weights", "There is one weight for each class.", (X, LABELS),
             {"class_weight": CLASS_WEIGHT[:4]}, _HARD),
            ("too-many-class-weights", "More weights than classes must not go unnoticed.", (X, LABELS),
             {"class_weight": np.ones(6)}, _HARD),
            ("too-few-sample-weights", "There is one weight for each row.", (X, LABELS),
             {"sample_weight": SAMPLE_WEIGHT[:1]}, _HARD),
            ("labels-of-floats", "An index is an integer (eshkol#552).", (X, LABELS.astype(float)), {},
             (*_HARD, Capability.REJECTS_FLOAT_LABELS)),
            ("no-classes", "C = 0 has no probabilities (pytorch#73165).", (X[:, :0], LABELS), {}, _HARD),
        )
    ),
]  # fmt: skip
