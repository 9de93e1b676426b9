"""Derivatives of fully masked rows, and of rows with NaN whose cotangent is 0, by `xpent.vjp` and `xpent.jvp`."""

import numpy as np
import pytest
from exactness import assert_within, differentiate, spread

import xpent
from xpent.conformance import oracle

pytestmark = pytest.mark.unoptimized
INF, NAN = np.inf, np.nan
OTHER = np.asarray([[1.0, -INF, 0.5], [2.0, 0.25, -1.0]])
ROWS = np.concatenate([[[-INF] * 3], OTHER])
IS_NAN = [[NAN, 1.0, 2.0], [INF, -INF, 1.0], [-INF, NAN, -INF]]
LABELS = np.asarray([1, 0, 2])
FUNCTIONS = ["softmax", "log_softmax", "logsumexp"]


def masked(xp, how):
    """Logits whose first row is fully masked, and the options that mask it."""
    if how == "-inf":
        return xp.asarray(ROWS), {}
    return xp.asarray(np.where(np.isinf(ROWS), NAN, ROWS)), {"where": xp.asarray(~np.isinf(ROWS))}


def derivatives(function, x, g, v, **options):
    """The vjp and the jvp of a function of logits."""
    vjp = xpent.vjp(function, x, **options)[1](g)[0]
    return vjp, xpent.jvp(function, (x,), (v,), **options)[1]


@pytest.mark.parametrize("how", ["-inf", "where"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_fully_masked_row_has_probabilities_and_derivatives_of_zero(xp, name, how):
    function = getattr(xpent, name)
    x, options = masked(xp, how)
    value = xp.to_numpy(xp.call(function, x, **options))
    np.testing.assert_array_equal(value[0], 0.0 if name == "softmax" else -INF)
    others = getattr(oracle, name)(OTHER)
    assert_within(xp, xp.asarray(value[1:]), others[:, 0] if name == "logsumexp" else others, 4 + spread(OTHER).max())
    for number in (1.0, INF, NAN):
        v = np.where(np.arange(3)[:, None] == 0, number, np.ones((3, 3)))
        g = v[:, 0] if name == "logsumexp" else v
        found = xp.call(lambda *a, **o: derivatives(function, *a, **o), x, xp.asarray(g), xp.asarray(v), **options)
        for derivative in map(xp.to_numpy, found):
            np.testing.assert_array_equal(derivative[0], np.zeros_like(derivative[0]))
            assert np.all(np.isfinite(derivative))


@pytest.mark.parametrize("how", ["-inf", "where"])
@pytest.mark.parametrize("kind", ["indices", "one-hot"])
@pytest.mark.parametrize("more", [{}, {"z_loss": 0.5}, {"label_smoothing": 0.25}], ids=str)
def test_fully_masked_row_has_an_infinite_loss_and_a_gradient_only_at_its_target(xp, how, kind, more):
    x, options = masked(xp, how)
    targets = LABELS if kind == "indices" else np.eye(3)[LABELS]
    w, s = np.asarray([1.0, 0.5, 2.0]), np.asarray([3.0, 1.0, 0.25])
    options |= {"class_weight": xp.asarray(w), "sample_weight": xp.asarray(s), **more}
    for reduction in ("none", "sum"):
        arrays = x, xp.asarray(targets)
        loss, (gradient, *_) = differentiate(xp, xpent.cross_entropy, *arrays, reduction=reduction, **options)
        exact = oracle.CrossEntropy(
            OTHER, targets[1:], class_weight=w, sample_weight=s[1:], reduction=reduction, **more
        )
        share = 1.0 - more.get("label_smoothing", 0.0)
        np.testing.assert_array_equal(xp.to_numpy(gradient)[0], [0.0, -3.0 * 0.5 * share, 0.0])
        assert_within(xp, gradient[1:, ...], exact.gradient, 8 + 2 * spread(OTHER), exact.gradient_scale)
        if reduction == "sum":
            assert float(xp.to_numpy(loss)) == INF
        else:
            assert xp.to_numpy(loss)[0] == INF
            assert_within(xp, loss[1:], exact.loss, 8 + 2 * spread(OTHER).max(), exact.loss_scale)


def test_fully_masked_row_with_label_weight_zero_has_loss_zero_with_smoothing(xp):
    x, labels = xp.asarray([[-INF] * 3, [0.0, 1.0, 2.0]]), xp.asarray(np.asarray([2, 1]))
    options = {"class_weight": xp.asarray([2.0, 1.0, 0.0]), "label_smoothing": 0.25, "reduction": "none"}
    losses, (gradient,) = differentiate(xp, xpent.cross_entropy, x, labels, **options)
    assert xp.to_numpy(losses)[0] == 0.0
    np.testing.assert_array_equal(xp.to_numpy(gradient)[0], 0.0)
    assert np.all(np.isfinite(xp.to_numpy(gradient)))


def test_masked_single_class_has_an_infinite_loss(xp):
    for targets in (np.asarray([0]), np.asarray([[1.0]])):
        loss, gradient = xp.call(xpent.value_and_grad(xpent.cross_entropy), xp.asarray([[-INF]]), xp.asarray(targets))
        assert (float(xp.to_numpy(loss)), xp.to_numpy(gradient).tolist()) == (INF, [[-1.0]])


@pytest.mark.parametrize("kind", ["indices", "one-hot"])
@pytest.mark.parametrize("z_loss", [0.0, 0.5])
def test_second_derivatives_of_a_fully_masked_row_are_zero(xp, kind, z_loss):
    targets = xp.asarray(LABELS if kind == "indices" else np.eye(3)[LABELS])
    v = xp.asarray(np.ones((3, 3)) + np.eye(3))

    def products(x, t, v):
        gradient = xpent.grad(xpent.cross_entropy)
        vjp = xpent.vjp(gradient, x, t, z_loss=z_loss)[1](v)[0]
        return vjp, xpent.jvp(gradient, (x, t), (v, None), z_loss=z_loss)[1]

    found = [xp.to_numpy(product) for product in xp.call(products, xp.asarray(ROWS), targets, v)]
    alone = xp.call(products, xp.asarray(OTHER), targets[1:, ...], v[1:, ...])
    for product, of_others in zip(found, map(xp.to_numpy, alone), strict=True):
        np.testing.assert_array_equal(product[0], 0.0)
        # The mean divides by 3 rows instead of 2.
        np.testing.assert_allclose(product[1:], of_others * 2 / 3, rtol=8 * xp.u, atol=8 * xp.u)


def test_a_softmax_jacobian_of_a_fully_masked_row_is_zero(xp):
    found = xp.to_numpy(xp.call(xpent.softmax_jacobian, xp.asarray(ROWS)))
    np.testing.assert_array_equal(found[0], 0.0)
    assert np.all(np.isfinite(found))


@pytest.fixture
def of_nan(xp):
    """A library whose derivatives of rows with NaN depend on the cotangent, unlike in JAX, which transposes the jvp."""
    if xp.name in ("jax", "jax-jit"):
        pytest.skip("JAX multiplies NaN by cotangents of 0")
    return xp


@pytest.mark.usefixtures("of_nan")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_row_with_nan_has_derivatives_of_zero_if_and_only_if_its_cotangent_is_zero(xp, name):
    function, n = getattr(xpent, name), len(IS_NAN)
    x = xp.asarray(np.concatenate([IS_NAN, OTHER]))
    for number in (0.0, 1.0):
        v = np.concatenate([np.full((n, 3), number), np.ones((2, 3))])
        v[:n, :2] = 0.0  # one nonzero entry of a row is enough
        g = number * np.ones(n + 2) if name == "logsumexp" else v
        found = xp.call(lambda *a: derivatives(function, *a), x, xp.asarray(g), xp.asarray(v))
        for derivative in map(xp.to_numpy, found):
            rows = derivative[:n]
            np.testing.assert_array_equal(rows, np.full_like(rows, NAN if number else 0.0))
            assert np.all(np.isfinite(derivative[n:]))


TARGETS = {"indices": np.asarray([0, 1, 2, 0, 1]), "distributions": np.full((5, 3), 1 / 3)}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("more", [{}, {"z_loss": 0.5, "label_smoothing": 0.25}], ids=["plain", "options"])
def test_row_with_nan_has_gradient_zero_if_and_only_if_the_cotangent_of_its_loss_is_zero(xp, kind, more):
    n, primals = len(IS_NAN), (xp.asarray(np.concatenate([IS_NAN, OTHER])), xp.asarray(TARGETS[kind]))

    def vjp(x, t, g):
        return xpent.vjp(xpent.cross_entropy, x, t, reduction="none", **more)[1](g)

    dtype = "float64" if xp.dtype_name == "float64" else "float32"
    for number in (0.0, 1.0):
        g = xp.asarray(np.concatenate([[number] * n, [1.0, 1.0]]), dtype)
        for gradient in map(xp.to_numpy, xp.call(vjp, *primals, g)):
            np.testing.assert_array_equal(gradient[:n], np.full_like(gradient[:n], NAN if number else 0.0))
            assert not np.any(np.isnan(gradient[n:]))


@pytest.mark.parametrize("kind", TARGETS)
def test_nan_loss_with_cotangent_zero_has_gradient_zero(xp, kind):
    x, t = xp.asarray(np.concatenate([IS_NAN, OTHER])), xp.asarray(TARGETS[kind])
    loss, gradients = differentiate(xp, xpent.cross_entropy, x, t, cotangent=0.0)
    assert np.isnan(xp.to_numpy(loss))
    for gradient in gradients:
        np.testing.assert_array_equal(xp.to_numpy(gradient), np.zeros((5, 3)))


@pytest.mark.usefixtures("of_nan")
@pytest.mark.parametrize("kind", TARGETS)
def test_second_derivatives_of_a_row_with_nan_are_zero_if_and_only_if_the_tangent_is_zero(xp, kind):
    n, x, t = len(IS_NAN), xp.asarray(np.concatenate([IS_NAN, OTHER])), xp.asarray(TARGETS[kind])

    def products(x, t, v):
        gradient = xpent.grad(xpent.cross_entropy)
        options = {"reduction": "sum", "z_loss": 0.5}
        vjp = xpent.vjp(gradient, x, t, **options)[1](v)[0]
        return vjp, xpent.jvp(gradient, (x, t), (v, None), **options)[1]

    for number in (0.0, 1.0):
        v = xp.asarray(np.concatenate([[[0.0, 0.0, number]] * n, np.ones((2, 3))]))
        for product in map(xp.to_numpy, xp.call(products, x, t, v)):
            # The derivative of a masked class remains 0.
            is_nan = np.isnan(product[:n])
            assert np.all(is_nan[:2, 2] == (number != 0.0))
            assert np.any(is_nan) == (number != 0.0)
            assert np.all(np.isfinite(product[n:]))


def test_gradient_of_masked_classes_is_zero_with_an_infinite_cotangent(xp):
    x, primals = OTHER, (xp.asarray(OTHER), xp.asarray(np.asarray([0, 2])))
    dtype = "float64" if xp.dtype_name == "float64" else "float32"

    def vjp(x, t, g):
        return xpent.vjp(xpent.cross_entropy, x, t, reduction="none")[1](g)[0]

    for number in (INF, NAN):
        found = xp.to_numpy(xp.call(vjp, *primals, xp.asarray(np.asarray([number, 1.0]), dtype)))
        assert found[0, 1] == 0.0
        assert not np.any(np.isfinite(found[0, x[0] > -INF]))
        assert np.all(np.isfinite(found[1]))
