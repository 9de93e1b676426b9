"""Masked classes, non-finite rows, ignored rows and empty batches."""

import numpy as np
import pytest
from exactness import assert_cross_entropy_is_exact, assert_within, differentiate, prepare, spread

import xpent
from xpent.conformance import oracle

pytestmark = pytest.mark.unoptimized
LOGITS = np.asarray([[1.0, 3, 5, 7], [1, -9, 4, 8], [0.5, 0.25, -2, 1]])
LABELS = np.asarray([3, 1, 0])
IS_UNMASKED = np.asarray([[True, False, True, True], [False, True, True, True], [True, True, False, False]])
MASKED = np.where(IS_UNMASKED, LOGITS, -np.inf)
INF, NAN = np.inf, np.nan
NON_FINITE = [[1, NAN, 2, 3], [1, INF, 2, 3], [NAN, INF, 1, 2], [NAN, -INF, 1, 2]]


@pytest.mark.parametrize("how", ["-inf", "where", "where over nan"])
def test_masked_class_has_probability_zero_and_does_not_contribute(xp, how):
    x = {"-inf": MASKED, "where": LOGITS, "where over nan": np.where(IS_UNMASKED, LOGITS, NAN)}[how]
    options = {} if how == "-inf" else {"where": xp.asarray(IS_UNMASKED)}
    units, g = 4 + spread(MASKED), np.where(IS_UNMASKED, 2.0, 3.0)
    p, finite = oracle.softmax(MASKED), np.where(IS_UNMASKED, LOGITS, -1e4)
    total = np.sum(p * np.where(IS_UNMASKED, 2, 0), axis=-1, keepdims=True)
    for name, derivative in (
        ("softmax", p * (2 - total)),
        ("log_softmax", IS_UNMASKED * 2 - p * 2 * np.sum(IS_UNMASKED, 1)[:, None]),
    ):

        def run(x, g, name=name, **options):
            value, pullback = xpent.vjp(getattr(xpent, name), x, **options)
            return value, *pullback(g), xpent.jvp(getattr(xpent, name), (x,), (g,), **options)[1]

        value, vjp, jvp = xp.call(run, xp.asarray(x), xp.asarray(g), **options)
        assert_within(xp, value, getattr(oracle, name)(MASKED), units)
        assert_within(xp, vjp, derivative, 2 * units, 2 * p * 2 + 8 * IS_UNMASKED)
        np.testing.assert_array_equal(xp.to_numpy(jvp)[~IS_UNMASKED], 0)
    log_sum, (gradient,) = differentiate(xp, xpent.logsumexp, xp.asarray(x), **options)
    assert_within(xp, log_sum, oracle.logsumexp(MASKED)[:, 0], units[:, 0], 8 + abs(oracle.logsumexp(finite)[:, 0]))
    assert_within(xp, gradient, p, units)


@pytest.mark.parametrize("targets", [LABELS, np.eye(4)[LABELS]], ids=["indices", "one-hot"])
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_smoothing_is_over_the_unmasked_classes(xp, smoothing, targets):
    options = {"label_smoothing": smoothing, "z_loss": 0.5}
    assert_cross_entropy_is_exact(xp, np.where(IS_UNMASKED, LOGITS, NAN), targets, **options, where=IS_UNMASKED)
    assert_cross_entropy_is_exact(xp, LOGITS, targets, **options, where=IS_UNMASKED[:1] | IS_UNMASKED[1:2])
    (x, t), _, (exact_x, exact_t), _ = prepare(xp, MASKED, targets)
    exact = oracle.CrossEntropy(exact_x, exact_t, **options)
    loss, (gradient, *_) = differentiate(xp, xpent.cross_entropy, x, t, **options)
    assert_within(xp, loss, exact.loss, 4 + 2 * np.max(spread(MASKED)), exact.loss_scale)
    assert_within(xp, gradient, exact.gradient, 4 + 2 * spread(MASKED), exact.gradient_scale)


@pytest.mark.parametrize("targets", [np.asarray([1, 1, 0]), np.eye(4)[[1, 1, 0]]], ids=["indices", "one-hot"])
def test_masked_target_has_loss_inf_and_gradient_minus_one(xp, targets):
    x = np.where([[True, False, True, True]], LOGITS, -INF)[:1]
    x = np.concatenate([x, LOGITS[1:]])
    for logits, options in ((x, {}), (np.where(np.isinf(x), 1.0, x), {"where": xp.asarray(~np.isinf(x))})):
        arrays = xp.asarray(logits), xp.asarray(targets)
        losses, (gradient, *_) = differentiate(xp, xpent.cross_entropy, *arrays, reduction="none", **options)
        exact = oracle.CrossEntropy(x, targets, reduction="none")
        assert xp.to_numpy(losses)[0] == INF
        assert_within(xp, losses, exact.loss, 4 + 2 * spread(x)[:, 0])
        assert xp.to_numpy(gradient)[0, 1] == -1
        assert_within(xp, gradient, exact.gradient, 4 + 2 * spread(x))
        total, (of_total, *_) = differentiate(xp, xpent.cross_entropy, *arrays, reduction="sum", **options)
        assert float(xp.to_numpy(total)) == INF
        np.testing.assert_array_equal(xp.to_numpy(of_total), xp.to_numpy(gradient))


def test_non_finite_row_is_nan_and_other_rows_are_unaffected(xp):
    n, units = len(NON_FINITE), 4 + 2 * spread(LOGITS)
    x = xp.asarray(np.concatenate([NON_FINITE, LOGITS]))
    for name in ("softmax", "log_softmax", "logsumexp"):
        value, (gradient,) = differentiate(xp, getattr(xpent, name), x)
        expected = [NAN, INF, NAN, NAN] if name == "logsumexp" else np.full((n, 4), NAN)
        np.testing.assert_array_equal(xp.to_numpy(value)[:n], expected)
        assert np.all(np.isnan(xp.to_numpy(gradient)[:n]))
        assert np.all(np.isfinite(xp.to_numpy(gradient)[n:]))
        if name != "logsumexp":
            assert_within(xp, value[n:, ...], getattr(oracle, name)(LOGITS), units)
    for labels in (LABELS, np.eye(4)[LABELS]):
        exact = oracle.CrossEntropy(LOGITS, labels, reduction="none")
        targets = xp.asarray(np.concatenate([np.repeat(labels[:1], n, axis=0), labels]))
        losses, (of_losses, *_) = differentiate(xp, xpent.cross_entropy, x, targets, reduction="none")
        total, (of_total, *_) = differentiate(xp, xpent.cross_entropy, x, targets, reduction="sum")
        assert np.all(np.isnan(xp.to_numpy(losses)[:n]))
        assert np.isnan(xp.to_numpy(total))
        assert_within(xp, losses[n:], exact.loss, units[:, 0])
        for gradient in (of_losses, of_total):
            assert np.all(np.isnan(xp.to_numpy(gradient)[:n]))
            assert_within(xp, gradient[n:, ...], exact.gradient, units, exact.gradient_scale)


BAD_ROWS = [*NON_FINITE, [-INF] * 4, [1, 2, -INF, -INF]]  # the last row has a masked target
SAMPLE_WEIGHT, CLASS_WEIGHT = np.asarray([0.0] * len(BAD_ROWS) + [1, 2, 0.5]), np.asarray([1.0, 2, 0, 0.5])
DROPPED = {
    "ignored": (-1, {"ignore_index": -1}),
    "ignored class": (2, {"ignore_index": 2}),
    "weight of zero": (2, {"sample_weight": SAMPLE_WEIGHT}),
    "class of weight zero": (2, {"class_weight": CLASS_WEIGHT}),
    "distribution, weight of zero": (2, {"sample_weight": SAMPLE_WEIGHT}),
    "distribution, class of weight zero": (2, {"class_weight": CLASS_WEIGHT}),
}


@pytest.mark.parametrize("how", DROPPED)
def test_inactive_row_does_not_contribute(xp, how):
    label, options = DROPPED[how]
    n, units = len(BAD_ROWS), 4 + 2 * spread(LOGITS)
    x, labels = np.concatenate([BAD_ROWS, LOGITS]), np.concatenate([[label] * n, LABELS])
    targets = np.eye(4)[labels] if "distribution" in how else labels
    rest = {k: v[n:] if k == "sample_weight" else v for k, v in options.items()}
    exact = oracle.CrossEntropy(LOGITS, targets[n:], z_loss=0.5, **rest)
    arrays, theirs, _, _ = prepare(xp, x, targets, **options)
    loss, (gradient, *of_targets) = differentiate(xp, xpent.cross_entropy, *arrays, z_loss=0.5, **theirs)
    assert_within(xp, loss, exact.loss, np.max(units), exact.loss_scale)
    np.testing.assert_array_equal(xp.to_numpy(gradient)[:n], 0)
    if of_targets and "sample_weight" in options:
        np.testing.assert_array_equal(xp.to_numpy(of_targets[0])[:n], 0)
    assert_within(xp, gradient[n:, ...], exact.gradient, units, exact.gradient_scale)
    losses = xp.call(xpent.cross_entropy, *arrays, reduction="none", z_loss=0.5, **theirs)
    np.testing.assert_array_equal(xp.to_numpy(losses)[:n], 0)

    def jvp(x, t, v, **options):
        return xpent.jvp(xpent.value_and_grad(xpent.cross_entropy), (x, t), (v, None), **options)[1]

    tangent = xp.asarray(np.where(np.isfinite(x) & np.isfinite(np.max(x, axis=-1, keepdims=True)), 1.0, NAN))
    change, product = xp.call(jvp, *arrays, tangent, z_loss=0.5, **theirs)
    assert_within(xp, change, np.sum(exact.gradient), 2 * np.max(units), np.sum(exact.gradient_scale))
    np.testing.assert_array_equal(xp.to_numpy(product)[:n], 0)
    assert np.all(np.isfinite(xp.to_numpy(product)))


def test_ignored_row_does_not_contribute_with_smoothing_and_where(xp):
    x, labels = xp.asarray(np.concatenate([NON_FINITE[:1], LOGITS])), xp.asarray(np.concatenate([[-1], LABELS]))
    options = {"ignore_index": -1, "label_smoothing": 0.25, "where": xp.asarray(np.asarray([True, True, False, True]))}
    loss, (gradient,) = differentiate(xp, xpent.cross_entropy, x, labels, **options)
    exact = oracle.CrossEntropy(LOGITS, LABELS, label_smoothing=0.25, where=np.asarray([True, True, False, True]))
    assert_within(xp, loss, exact.loss, 4 + 2 * np.max(spread(LOGITS)), exact.loss_scale)
    np.testing.assert_array_equal(xp.to_numpy(gradient)[0], 0)
    assert_within(xp, gradient[1:, ...], exact.gradient, 4 + 2 * spread(LOGITS), exact.gradient_scale)


MISSING = [(4, "int64", None), (-1, "int64", -100), (-1, "int8", None), (255, "uint8", -1)]
MISSING += [(2**40, "int64", None), (2**64 - 1, "uint64", -1)]


@pytest.mark.parametrize(("index", "dtype", "ignore_index"), MISSING)
def test_index_out_of_range_is_an_error_or_makes_its_row_nan(xp, index, dtype, ignore_index):
    labels = np.asarray([[3, 1, index], [0, 2, 1]], dtype=dtype)
    logits = np.stack([LOGITS, LOGITS])
    x, t, gradient = xp.asarray(logits), xp.asarray(labels), xpent.grad(xpent.cross_entropy)
    if not xp.is_traced:
        for function in (xpent.cross_entropy, gradient):
            with pytest.raises(ValueError, match=rf"{index} at \(0, 2\).* 4\b"):
                function(x, t, ignore_index=ignore_index)
        return
    losses = xp.call(xpent.cross_entropy, x, t, ignore_index=ignore_index, reduction="none")
    expected = np.zeros((2, 3), dtype=bool)
    expected[0, 2] = True
    np.testing.assert_array_equal(np.isnan(xp.to_numpy(losses)), expected)
    assert np.isnan(xp.to_numpy(xp.call(xpent.cross_entropy, x, t, ignore_index=ignore_index)))
    of_sum = xp.call(gradient, x, t, ignore_index=ignore_index, reduction="sum")
    np.testing.assert_array_equal(np.isnan(xp.to_numpy(of_sum)), expected[..., None] * np.ones(4, dtype=bool))


def test_non_finite_row_with_targets_of_zero_is_included_in_the_mean(xp):
    targets = xp.asarray([[1.0, 0, 0], [0, 0, 0]])
    losses = [
        xp.call(xpent.cross_entropy, xp.asarray([[1.0, 2, 3], row]), targets) for row in ([0, 1.0, 0], [0, NAN, 0])
    ]
    assert xp.to_numpy(losses[0]) == xp.to_numpy(losses[1])


def test_non_finite_target_with_weight_zero_does_not_contribute(xp):
    x, q = LOGITS[:2, :3], np.asarray([[0.2, 0.3, 0.5], [NAN, 0.5, 0.5]])
    options = {"sample_weight": xp.asarray([1.0, 0.0]), "class_weight": xp.asarray(np.ones(3))}
    loss, (gradient, _) = differentiate(xp, xpent.cross_entropy, xp.asarray(x), xp.asarray(q), **options)
    assert np.isfinite(xp.to_numpy(loss))
    np.testing.assert_array_equal(xp.to_numpy(gradient)[1], 0)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_non_finite_row_with_one_class_is_nan(xp, number):
    x, label, one = xp.asarray([[number]]), xp.asarray(np.asarray([0])), xp.asarray([[1.0]])
    assert np.isnan(xp.to_numpy(xp.call(xpent.softmax, x))).all()
    assert np.isnan(xp.to_numpy(xp.call(xpent.log_softmax, x))).all()
    for targets in (label, one):
        loss, gradient = xp.call(xpent.value_and_grad(xpent.cross_entropy), x, targets)
        assert np.isnan(xp.to_numpy(loss))
        assert np.isnan(xp.to_numpy(gradient)).all()


@pytest.mark.library("numpy")
@pytest.mark.parametrize("cotangent", [np.inf, np.nan])
def test_ignored_row_has_gradient_zero_with_any_cotangent(cotangent):
    x, labels = np.asarray([[np.nan, 1.0], [1.0, 2.0]]), np.asarray([-1, 1])
    (found,) = xpent.vjp(xpent.cross_entropy, x, labels, ignore_index=-1)[1](np.asarray(cotangent))
    assert not found[0].any()
    assert not np.isfinite(found[1]).any()


def test_numpy_scalars_are_accepted_as_options_without_a_warning(xp):
    x, label = xp.asarray([[1.0, 2.0]]), xp.asarray(np.asarray([0]))
    options = {"normalizer": np.float32(2.0), "z_loss": np.float32(0.25), "label_smoothing": np.float64(0.25)}
    plain = {name: float(value) for name, value in options.items()}
    found = [xp.to_numpy(xp.call(xpent.cross_entropy, x, label, **chosen)) for chosen in (options, plain)]
    assert found[0] == found[1]


@pytest.mark.only_for(lambda xp: xp.is_traced)
def test_index_out_of_range_is_nan_with_any_class_weight_if_data_cannot_be_read(xp):
    x, labels, w = xp.asarray(LOGITS[:2]), xp.asarray(np.array([9, 1])), xp.asarray(np.ones(LOGITS.shape[1]))
    found = xp.call(xpent.cross_entropy, x, labels, class_weight=w, reduction="none")
    np.testing.assert_array_equal(np.isnan(xp.to_numpy(found)), [True, False])
