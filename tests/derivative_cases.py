"""Calls of every function with all relevant options, and textbook formulas for automatic differentiation."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import textbook

import xpent

RNG = np.random.default_rng(2)
X, X3 = RNG.normal(size=(3, 4)), RNG.normal(size=(2, 3, 2))
LABELS, LABELS3, FLAT_LABELS = np.array([3, 0, 1]), np.array([[2, 0], [1, 1]]), np.array([0, 3, 1])
Q, Q3, ONE_HOT = RNG.uniform(0.1, 1, size=X.shape), RNG.uniform(0.1, 1, size=X3.shape), np.eye(4, dtype=int)[[0, 1, 3]]
WHERE = np.array([[True, True, False, True], [True, False, False, True], [True, True, True, True]])
CLASS_WEIGHT, FLAT_WEIGHT = RNG.uniform(0.1, 1, size=4), RNG.uniform(0.1, 1, size=4)
FEATURES, FEATURES3 = RNG.normal(size=(5, 3)), RNG.normal(size=(2, 3, 3))
WEIGHT, BIAS = RNG.normal(size=(4, 3)), RNG.normal(size=4)
SEQUENCES, LABELS5, Q5 = np.array([[3, 0, 1], [1, 1, 2]]), np.array([3, 0, 1, 3, 2]), RNG.uniform(0.1, 1, size=(5, 4))
SAMPLE_WEIGHT, SAMPLE_WEIGHT3 = np.array([0.5, 2.0, 0.0]), RNG.uniform(0.1, 1, size=(2, 2))


class Case(NamedTuple):
    """A call that is differentiated with respect to its floating-point arrays."""

    id: str
    function: str
    arrays: tuple[Any, ...]
    options: dict[str, Any]


def case(of, function, *arrays, **options):
    return Case(f"{function} {of}", function, arrays, options)


ALL_OPTIONS = case(
    "all options", "cross_entropy", X, LABELS, class_weight=CLASS_WEIGHT, sample_weight=np.array([0.5, 2.0, 3.0]),
    ignore_index=3, label_smoothing=0.1, z_loss=0.05, where=np.array([True, True, True, False]),
)  # fmt: skip
CASES = [
    each
    for name in ("softmax", "log_softmax", "logsumexp")
    for each in (
        case("last axis", name, X),
        case("middle axis", name, X3, axis=1),
        case("tuple of axes", name, X3, axis=(2, 0)),
        case("where", name, X, where=WHERE),
    )
]
CASES += [
    case("keepdims", "logsumexp", X3, axis=1, keepdims=True),
    case("labels", "cross_entropy", X, LABELS),
    case("none", "cross_entropy", X, LABELS, reduction="none", class_weight=CLASS_WEIGHT),
    case("where", "cross_entropy", X, LABELS, where=WHERE, label_smoothing=0.2, reduction="sum"),
    case("middle axis", "cross_entropy", X3, LABELS3, axis=1, sample_weight=SAMPLE_WEIGHT3, normalizer=np.array(1.7)),
    case("tuple of axes", "cross_entropy", X3, FLAT_LABELS, axis=(2, 0), reduction="sum", normalizer=3),
    case("one row", "cross_entropy", X3, np.array(7), axis=None, z_loss=0.1, reduction="none"),
    ALL_OPTIONS,
    case("distribution", "cross_entropy", X, Q),
    case("weighted distribution", "cross_entropy", X, Q, class_weight=CLASS_WEIGHT, sample_weight=SAMPLE_WEIGHT),
    case("distribution none", "cross_entropy", X3, Q3, axis=1, reduction="none", sample_weight=SAMPLE_WEIGHT3),
    case("distribution sum", "cross_entropy", X3, Q3, axis=(2, 0), reduction="sum", class_weight=FLAT_WEIGHT),
    case("smooth distribution", "cross_entropy", X, Q, class_weight=CLASS_WEIGHT, label_smoothing=0.1, z_loss=0.05),
    case("one-hot", "cross_entropy", X, ONE_HOT, where=WHERE[1:2] | WHERE[0], class_weight=CLASS_WEIGHT),
]
OF_LOGITS = list(CASES)
LINEAR_OPTIONS = {
    "softcap": 2.0,
    "class_weight": CLASS_WEIGHT,
    "ignore_index": 3,
    "label_smoothing": 0.1,
    "z_loss": 0.05,
}
CASES += [
    case("bias in blocks", "linear_cross_entropy", FEATURES, WEIGHT, BIAS, LABELS5, block_size=2, **LINEAR_OPTIONS),
    case("sequences none", "linear_cross_entropy", FEATURES3, WEIGHT, BIAS, SEQUENCES, block_size=4, reduction="none",
         sample_weight=RNG.uniform(0.1, 1, size=(2, 3)), **LINEAR_OPTIONS),
    case("distribution", "linear_cross_entropy", FEATURES, WEIGHT, Q5, block_size=3, softcap=3.0, z_loss=0.05),
]  # fmt: skip
HIGH_ORDER = (
    "logsumexp last axis",
    "cross_entropy all options",
    "cross_entropy weighted distribution",
)
HIGH_ORDER_CASES = [case for case in CASES if case.id in HIGH_ORDER]


def parameters(cases, selected):
    """Parameters of a test; cases whose ids are not selected run only with ``--thorough``."""
    return [pytest.param(each, id=each.id, marks=() if each.id in selected else pytest.mark.thorough) for each in cases]


def build(case, xp, asarray):
    """The function of xpent, the textbook formula, and the primals of both.

    Both replace the log-probability -inf of masked classes by 0, so that sums and differences are finite.
    """
    ours = _function(function_of(case), case.arrays, case.options, xp, asarray)
    arrays, options = list(case.arrays), dict(case.options)
    shape = (*arrays[0].shape[:-1], len(arrays[1])) if "linear" in case.function else arrays[0].shape
    axis, ndim = options.pop("axis", -1), len(shape)
    options.pop("block_size", None)
    options["axes"] = axes = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if "cross_entropy" in case.function and arrays[-1].ndim < ndim:
        is_active = arrays[-1] != options.pop("ignore_index", None)
        options["sample_weight"] = np.asarray(options.get("sample_weight", 1.0) * is_active)
        one_hot = np.eye(math.prod(shape[a] for a in axes))[arrays[-1]]
        arrays[-1] = textbook.from_rows(np, one_hot, axes, shape)
    arrays = [array if array.dtype.kind == "f" else array.astype(arrays[0].dtype) for array in arrays]
    theirs = _function(functools.partial(getattr(textbook, case.function), xp), arrays, options, xp, asarray)
    return ours, theirs, tuple([asarray(array) for array in case.arrays if array.dtype.kind == "f"])


def _linear_cross_entropy(features, weight, *bias_and_targets, **options):
    *bias, targets = bias_and_targets
    return xpent.linear_cross_entropy(features, weight, targets, bias=bias[0] if bias else None, **options)


def function_of(case):
    """The function of xpent that takes the arrays of a case."""
    return _linear_cross_entropy if case.function == "linear_cross_entropy" else getattr(xpent, case.function)


def _function(function, arrays, options, xp, asarray):
    arrays = [asarray(array) for array in arrays]
    options = {name: asarray(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}

    def of_primals(*primals):
        y = function(*primals, *arrays[len(primals) :], **options)
        return xp.where(y == -math.inf, 0.0, y)

    return of_primals


def assert_close(actual, expected, case, *, order, u=2.0**-53, scale=0.0):
    """Compare derivatives of some order, which may differ only by rounding errors.

    An entry is a sum of at most (order + 1)! kinds of products of order + 1 numbers, most of them probabilities, with
    relative errors of at most size + 4 + 2 max |x| units u in the textbook formula. Errors are relative to the largest
    entry, or to ``scale`` if that is larger; the larger of the two is returned.
    """
    x = case.arrays[0]
    units = math.factorial(order + 1) * (order + 1) * (x.size + 4 + 2 * abs(x).max())
    actual, expected = _leaves(actual), _leaves(expected)
    assert [leaf.shape for leaf in actual] == [leaf.shape for leaf in expected]
    scale = max(scale, *(abs(leaf).max() for leaf in expected))
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=units * u * scale)
    return scale


def assert_orders_close(actual, expected, case, *, u=2.0**-53):
    """Compare the value, the gradient of a linear combination of its entries, the gradient of that, and so on."""
    scale = 0.0
    for order, (a, e) in enumerate(zip(actual, expected, strict=True)):
        scale = assert_close(a, e, case, order=order, u=u, scale=scale)


def _leaves(tree):
    if isinstance(tree, tuple | list):
        return [leaf for branch in tree for leaf in _leaves(branch)]
    return [np.asarray(tree.detach().cpu().double() if hasattr(tree, "detach") else tree, dtype=np.float64)]
