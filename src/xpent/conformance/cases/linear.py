"""linear_cross_entropy, with features and weights for which the logits are exact in every dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpent.conformance.case import Capability, Case, Result
from xpent.conformance.inputs import NAN, distributions, replaced, weights

DEPTH = 4
_ALL = ("value", "gradient", "gradient of weight")
_FLOATS = ("float32", "bfloat16")


def _layer(rows: int, classes: int, seed: int = 11) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features and weights are multiples of 1/2 in [-1, 1]; logits are multiples of 1/4 in [-4, 4]."""
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-2, 3, size=(n, DEPTH)) / 2 for n in (rows, classes))
    return x, w, rng.integers(classes, size=rows)


_x, _w, _t = _layer(8, 7)
_q = distributions(12, 8, 7)
_bias = np.arange(-3, 4) / 4
_ignored = replaced(_t, 3, -100)
_BLOCKS = (1, 31, 32, 33, 67, 127, 129, 259)


def _case(name: str, why: str, arrays: tuple[np.ndarray, ...] = (_x, _w, _t), **rest: Any) -> Case:
    rest = {"quantities": _ALL, "dtypes": _FLOATS, **rest}
    return Case(f"linear-{name}", "linear", why, arrays, function="linear_cross_entropy", **rest)


CASES = [
    _case("rows", "A batch of rows without options.", dtypes=("float64", "float32", "float16", "bfloat16")),
    _case("mean", "The mean of the losses.", options={"reduction": "mean"}),
    _case("sequences", "Features (batch, time, D) with labels (batch, time).",
          (_x.reshape(2, 4, -1), _w, _t.reshape(2, 4)), needs=(Capability.INDICES, Capability.SEVERAL_BATCH_AXES)),
    _case("bias", "The bias is added, and its gradient is returned (ml-cross-entropy#52).", options={"bias": _bias},
          quantities=(*_ALL, "gradient of bias")),
    _case("soft-targets", "Distributions as targets.", (_x, _w, _q), needs=(Capability.DISTRIBUTIONS,)),
    _case("class-weight", "The mean divides by the sum of the weights of the labels.",
          options={"class_weight": weights(7), "reduction": "mean"}),
    _case("sample-weight", "The loss of each row is multiplied by its weight.",
          options={"sample_weight": weights(8), "reduction": "mean"}),
    _case("smoothing", "Label smoothing is not ignored (Liger-Kernel#243).", options={"label_smoothing": 0.125},
          needs=(Capability.INDICES, Capability.SMOOTHED_INDICES)),
    _case("z-loss", "z_loss lse**2 is added to the loss.", options={"z_loss": 0.125}),
    _case("softcap", "Logits become c tanh(x / c), also in the gradient (ml-cross-entropy#48, unsloth-zoo#593).",
          options={"softcap": 2.0}),
    _case("confident-rows", "A margin of 64: loss and gradients are about exp(-64), not 0.",
          (32 * np.eye(7, DEPTH) - 32 * np.eye(7, DEPTH, k=-1), 2 * np.eye(7, DEPTH), np.arange(7))),
    _case("ignored", "Ignored rows are excluded from the mean.", (_x, _w, _ignored),
          options={"ignore_index": -100, "reduction": "mean"}),
    _case("nan-in-an-ignored-row", "An ignored row does not contribute to the loss or to the gradient of the weight.",
          (replaced(_x, 3, NAN), _w, _ignored), options={"ignore_index": -100}),
    _case("all-ignored", "All rows are ignored: the mean and all gradients are 0 (Liger-Kernel#177, Automodel#3796).",
          (_x, _w, np.full(8, -100)), options={"ignore_index": -100, "reduction": "mean"}),
    _case("cotangent-per-row", "Every row has its own cotangent (Liger-Kernel#1298, Liger-Kernel#968).",
          options={"reduction": "none"}, cotangent=np.arange(-3.0, 5.0)),
    _case("cotangent-of-a-mean", "The gradients are multiplied by the cotangent.", options={"reduction": "mean"},
          cotangent=4.0),
    _case("empty-batch", "No rows: the sum is 0.", (_x[:0], _w, _t[:0]), options={"reduction": "sum"}),
    *(
        _case(f"label-{name}", "A label outside [0, C) raises an error or makes its row NaN (ml-cross-entropy#59).",
              (_x, _w, replaced(_t, 3, label)), result=Result.ERROR_OR_NAN, dtypes=("float32",),
              needs=(Capability.INDICES, *([Capability.NO_DEFAULT_IGNORE_INDEX] if label == -100 else [])))
        for name, label in (("minus-1", -1), ("C", 7), ("minus-100", -100))
    ),
    *(
        _case(f"{classes}-classes", "A number of classes near a common block size (verl#2899).",
              _layer(3, classes), dtypes=("float32",))
        for classes in _BLOCKS
    ),
    *(
        _case(f"{rows}-rows", "A number of rows near a common block size.",
              _layer(rows, 5), dtypes=("float32",))
        for rows in _BLOCKS
    ),
    _case("67-rows-of-259-classes", "Neither the number of rows nor of classes is a multiple of a common block size.",
          _layer(67, 259), options={"reduction": "mean"}),
]  # fmt: skip
