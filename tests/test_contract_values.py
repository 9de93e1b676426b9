"""Values and gradients on valid input."""

from dataclasses import replace

import numpy as np
import pytest
from exactness import assert_cross_entropy_is_exact, assert_within, differentiate, prepare, spread

import xpent
from xpent.conformance import oracle

pytestmark = pytest.mark.unoptimized
LOGITS = np.asarray([[1.0, 3, 5, 7], [1, -9, 4, 8], [0.5, 0.25, -2, 1], [0, 0, 0, 0]])
LABELS = np.asarray([3, 1, 0, 2])
ONE_HOT = np.eye(4, dtype=int)[LABELS]
Q = np.asarray([[0.5, 0.25, 0.25, 0], [0.125, 0.5, 0.125, 0.25], [0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25]])
CLASS_WEIGHT = np.asarray([1, 0.5, 2, 0.25])
SAMPLE_WEIGHT = np.asarray([0.5, 1, 0, 4])
REDUCTIONS = ("mean", "sum", "none")


@pytest.mark.rounding
def test_probabilities_and_gradients_have_the_dtype_of_the_logits_and_losses_are_at_least_float32(xp):
    x, t, q = xp.asarray(LOGITS), xp.asarray(LABELS), xp.asarray(Q)
    for function in (xpent.softmax, xpent.log_softmax, xpent.logsumexp, xpent.softmax_jacobian):
        assert xp.dtype_of(xp.call(function, x)) == xp.dtype_name
    for targets in (t, q):
        loss, gradient = xp.call(xpent.value_and_grad(xpent.cross_entropy), x, targets)
        assert xp.dtype_of(loss) == ("float64" if xp.dtype_name == "float64" else "float32")
        assert xp.dtype_of(gradient) == xp.dtype_name
    q32 = xp.asarray(Q, "float32")
    gradients = xp.call(xpent.grad(xpent.cross_entropy, (1, 0)), x, q32)
    assert [xp.dtype_of(gradient) for gradient in gradients] == ["float32", xp.dtype_name]


@pytest.mark.library("numpy")
@pytest.mark.only_for(lambda xp: xp.dtype_name == "float32")
@pytest.mark.parametrize("targets", [LABELS, ONE_HOT, Q], ids=["indices", "one-hot", "distribution"])
def test_numpy_arrays_may_have_bfloat16_of_ml_dtypes(xp, targets):
    pytest.importorskip("ml_dtypes")
    xp = replace(xp, dtype_name="bfloat16")
    for reduction in REDUCTIONS:
        assert_cross_entropy_is_exact(xp, LOGITS, targets, reduction=reduction, label_smoothing=0.125)
    x = xp.asarray(LOGITS)
    loss, gradient = xpent.value_and_grad(xpent.cross_entropy)(x, xp.asarray(targets))
    p = xpent.softmax(x)
    assert [xp.dtype_of(array) for array in (loss, gradient, p)] == ["float32", "bfloat16", "bfloat16"]
    assert_within(xp, p, oracle.softmax(LOGITS), 4 + spread(LOGITS))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integer_and_boolean_logits_are_promoted_to_the_default_floating_dtype(xp, dtype):
    values = np.asarray([[0, 1, 3, 200], [7, 0, 0, 1]]).astype(dtype)
    x, t = xp.asarray(values), xp.asarray(np.asarray([3, 1]))
    default = replace(xp, dtype_name=xp.dtype_of(xp.module.asarray([1.5])))
    for function in ("softmax", "log_softmax"):
        y, exact = xp.call(getattr(xpent, function), x), getattr(oracle, function)(values.astype(float))
        assert xp.dtype_of(y) == default.dtype_name
        assert_within(default, y, exact, 4 + spread(values))
    loss, exact = xp.call(xpent.cross_entropy, x, t), oracle.CrossEntropy(values.astype(float), np.asarray([3, 1]))
    assert xp.dtype_of(loss) == default.dtype_name
    assert_within(default, loss, exact.loss, 4 + 2 * np.max(spread(values)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("targets", [LABELS, ONE_HOT, Q], ids=["indices", "one-hot", "distributions"])
def test_weights_smoothing_and_z_loss_together(xp, targets, reduction):
    options = {"class_weight": CLASS_WEIGHT, "sample_weight": SAMPLE_WEIGHT, "reduction": reduction}
    assert_cross_entropy_is_exact(xp, LOGITS, targets, **options, label_smoothing=0.125, z_loss=0.25)


@pytest.mark.parametrize("targets", [ONE_HOT, Q], ids=["one-hot", "distributions"])
def test_weights_without_smoothing(xp, targets):
    assert_cross_entropy_is_exact(xp, LOGITS, targets, class_weight=CLASS_WEIGHT, sample_weight=SAMPLE_WEIGHT)


def test_mean_divides_by_the_weight_of_the_active_rows(xp):
    losses = np.asarray([0.14507794, 17.01904505])
    x, t = xp.asarray(LOGITS), xp.asarray(np.asarray([3, 1, -7, -7]))

    def mean(**options):
        loss = xp.call(xpent.cross_entropy, x, t, ignore_index=-7, **{k: xp.asarray(v) for k, v in options.items()})
        return float(xp.to_numpy(loss))

    close = {"rel": 1e-8 + 100 * xp.u_computed}
    assert mean() == pytest.approx(losses.mean(), **close)
    s, w = [2.0, 0.5, 1, 1], [1, 4, 1, 0.5]
    assert mean(sample_weight=s) == pytest.approx(losses @ [2, 0.5] / 2.5, **close)
    assert mean(class_weight=w) == pytest.approx(losses @ [0.5, 4] / 4.5, **close)
    assert mean(class_weight=w, sample_weight=s) == pytest.approx(losses @ [1, 2] / 3, **close)


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_indices_and_one_hot_targets_agree(xp, smoothing):
    w, s = xp.asarray(CLASS_WEIGHT), xp.asarray(SAMPLE_WEIGHT)
    options = {"class_weight": w, "sample_weight": s, "label_smoothing": smoothing}
    answers = [
        xp.call(xpent.value_and_grad(xpent.cross_entropy), xp.asarray(LOGITS), xp.asarray(targets), **options)
        for targets in (LABELS, ONE_HOT, ONE_HOT.astype(bool))
    ]
    units = 2 * (4 + 2 * spread(LOGITS).max())  # the omitted term of the sum is a different one
    for answer in answers[1:]:
        for found, expected in zip(answer, answers[0], strict=True):
            expected = xp.to_numpy(expected).astype(np.float64)
            assert_within(xp, found, expected, units, abs(expected) + CLASS_WEIGHT.max())


@pytest.mark.parametrize("case", ["all ignored", "weights of zero", "classes of weight zero", "no rows"])
def test_mean_over_no_rows_is_zero(xp, case):
    if xp.name == "dask" and case == "no rows":
        pytest.skip("Dask has no maximum of rows of which there are none")
    rows = 0 if case == "no rows" else 4
    labels = np.full(rows, -1) if case == "all ignored" else LABELS[:rows]
    options = {"ignore_index": -1}
    if case == "weights of zero":
        options["sample_weight"] = xp.asarray(np.zeros(rows))
    if case == "classes of weight zero":
        options["class_weight"] = xp.asarray(np.zeros(4))
    x = xp.asarray(LOGITS)[:rows, :]
    for more in ({}, {"z_loss": 0.5}, {"normalizer": xp.asarray(0.0)}, {"normalizer": 0}, {"normalizer": 0.0}):
        loss, (gradient,) = differentiate(xp, xpent.cross_entropy, x, xp.asarray(labels), **options, **more)
        assert float(xp.to_numpy(loss)) == 0
        np.testing.assert_array_equal(xp.to_numpy(gradient), np.zeros((rows, 4)))


def test_mean_of_distributions_without_weight_is_zero(xp):
    arrays, options = (xp.asarray(LOGITS), xp.asarray(Q)), {"class_weight": xp.asarray(np.zeros(4))}
    loss, gradients = differentiate(xp, xpent.cross_entropy, *arrays, **options)
    for zero in (loss, *gradients):
        assert not np.any(xp.to_numpy(zero))


@pytest.mark.parametrize(("reduction", "kind"), [("mean", "number"), ("sum", "array"), ("mean", "integer array")])
def test_normalizer_divides_the_sum(xp, reduction, kind):
    normalizer = {"number": 8, "array": xp.asarray(8.0), "integer array": xp.asarray(8)}[kind]
    (x, t), weights, (exact_x, exact_t), exact_weights = prepare(xp, LOGITS, LABELS, class_weight=CLASS_WEIGHT)
    exact = oracle.CrossEntropy(exact_x, exact_t, reduction="sum", **exact_weights)
    options = {**weights, "normalizer": normalizer, "reduction": reduction}
    loss, (gradient,) = differentiate(xp, xpent.cross_entropy, x, t, **options)
    assert_within(xp, loss, exact.loss / 8, np.max(4 + 2 * spread(LOGITS)))
    assert_within(xp, gradient, exact.gradient / 8, 4 + 2 * spread(LOGITS), exact.gradient_scale / 8)


def test_single_class_has_loss_and_gradient_zero(xp):
    x = xp.asarray([[3.0], [-4], [1000]])
    for targets in (np.zeros(3, dtype=int), np.ones((3, 1))):
        loss, (gradient, *_) = differentiate(xp, xpent.cross_entropy, x, xp.asarray(targets), label_smoothing=0.5)
        assert not np.any(xp.to_numpy(loss))
        assert not np.any(xp.to_numpy(gradient))


@pytest.mark.parametrize("axis", [0, -2, (2, 0), None], ids=str)
def test_several_class_axes_are_flattened_in_the_given_order(xp, axis):
    x = np.random.default_rng(0).integers(-8, 8, size=(2, 3, 4)).astype(float)
    axes = tuple(range(3)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(a % 3 for a in axes)
    batch = tuple(a for a in range(3) if a not in axes)
    shape = tuple(x.shape[a] for a in batch)
    rows = np.transpose(x, (*batch, *axes)).reshape(int(np.prod(shape)), -1)

    def layout(rows):
        order = (*batch, *axes)
        return np.transpose(np.asarray(rows).reshape([x.shape[a] for a in order]), np.argsort(order))

    units = 4 + 2 * layout(np.broadcast_to(spread(rows), rows.shape))
    y, log_y = (xp.call(f, xp.asarray(x), axis=axis) for f in (xpent.softmax, xpent.log_softmax))
    assert_within(xp, y, layout(oracle.softmax(rows)), units)
    assert_within(xp, log_y, layout(oracle.log_softmax(rows)), units)
    log_sum, sums = xp.call(xpent.logsumexp, xp.asarray(x), axis=axis), oracle.logsumexp(rows).reshape(shape)
    kept = xp.call(xpent.logsumexp, xp.asarray(x), axis=axis, keepdims=True)
    assert kept.shape == tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    maxima = np.max(np.abs(rows), axis=-1).reshape(shape)
    assert_within(xp, log_sum, sums, np.max(units), maxima + abs(sums))
    np.testing.assert_array_equal(np.reshape(xp.to_numpy(kept), shape), xp.to_numpy(log_sum))

    labels = np.arange(len(rows)) * 5 % rows.shape[1]
    exact = oracle.CrossEntropy(rows, labels, reduction="none")
    for targets in (labels.reshape(shape), layout(np.eye(rows.shape[1])[labels])):
        options = {"axis": axis, "reduction": "none"}
        loss, (gradient, *_) = differentiate(xp, xpent.cross_entropy, xp.asarray(x), xp.asarray(targets), **options)
        assert_within(xp, loss, exact.loss.reshape(shape), np.max(units))
        assert_within(xp, gradient, layout(exact.gradient), units, layout(exact.gradient_scale))


def test_all_index_dtypes_are_accepted(xp):
    for dtype in ("int8", "uint8", "int32"):
        assert_cross_entropy_is_exact(xp, LOGITS, LABELS.astype(dtype))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2)])
def test_logsumexp_without_classes_is_minus_infinity_and_softmax_is_empty(xp, shape):
    x = xp.asarray(np.zeros(shape))
    axis = shape.index(0)
    for function in (xpent.softmax, xpent.log_softmax):
        value, (gradient,) = differentiate(xp, function, x, axis=axis)
        assert tuple(value.shape) == tuple(gradient.shape) == shape
        assert xp.dtype_of(value) == xp.dtype_name
    value, (gradient,) = differentiate(xp, xpent.logsumexp, x, axis=axis)
    np.testing.assert_array_equal(xp.to_numpy(value), np.full(np.delete(shape, axis), -np.inf))
    assert tuple(gradient.shape) == shape
    change = xp.call(lambda x: xpent.jvp(xpent.logsumexp, (x,), (x,), axis=axis, keepdims=True)[1], x)
    np.testing.assert_array_equal(xp.to_numpy(change), np.zeros([n or 1 for n in shape]))
