"""Errors in units of u that the conformance suite does not check, such as float32 losses of half-precision logits."""

import numpy as np
import pytest
from exactness import (
    assert_cross_entropy_is_exact,
    assert_normal_numbers_within,
    assert_within,
    differentiate,
    prepare,
    rows_of_subnormal_exponentials,
    spread,
)

import xpent
from xpent.conformance import oracle
from xpent.conformance.cases import BY_ID

pytestmark = pytest.mark.rounding
OFFSETS = (0.0, 1e3, 1e4)
exponentials_are_subnormal = pytest.mark.only_for(
    lambda xp: xp.dtype_name != "float64"
)  # exp(-88) is subnormal in float32


def margin_rows():
    """Rows in which the logit of the label exceeds the largest other logit by various margins, and the labels."""
    return BY_ID["margins-10-classes"].arrays


def test_half_precision_is_exact_up_to_rounding_of_the_gradient(xp):
    x, labels = margin_rows()
    (theirs, t), _, (ours, _), _ = prepare(xp, x, labels)
    exact = oracle.CrossEntropy(ours, labels, reduction="none")
    units = 4 + np.max(ours, axis=-1, keepdims=True) - ours[np.arange(len(labels)), labels, None] + spread(ours)
    losses, (gradient,) = differentiate(xp, xpent.cross_entropy, theirs, t, reduction="none")
    assert_within(xp, losses, exact.loss, units[:, 0])
    assert_within(xp, gradient, exact.gradient, units)


def dense(classes=7, rows=9):
    """Distributions that contain zeros, including one row of zeros, and weights."""
    rng = np.random.default_rng(5)
    x = rng.normal(scale=6, size=(rows, classes)) + rng.choice(OFFSETS, size=(rows, 1))
    q = rng.dirichlet(np.ones(classes), size=rows) * (rng.uniform(size=(rows, classes)) < 0.7)
    q[0] = 0
    return x, q, rng.uniform(0.25, 2, size=classes), rng.uniform(0.25, 2, size=rows), rng.uniform(size=x.shape) < 0.7


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    "names",
    ["", "class_weight", "label_smoothing", "z_loss", "class_weight sample_weight label_smoothing z_loss where"],
)
def test_distributions_with_options_are_within_the_bound(xp, names, reduction):
    x, q, class_weight, sample_weight, where = dense()
    options = {"class_weight": class_weight, "sample_weight": sample_weight, "label_smoothing": 0.125, "z_loss": 1e-4}
    options["where"] = where | (q > 0)
    options = {name: options[name] for name in names.split()}
    assert_cross_entropy_is_exact(xp, x, q, reduction=reduction, **options)


def test_softmax_log_softmax_logsumexp_and_the_jacobian_are_within_the_bound(xp):
    x, _ = margin_rows()
    (theirs,), _, (ours,), _ = prepare(xp, x)
    p, log_p, log_sum = oracle.softmax(ours), oracle.log_softmax(ours), oracle.logsumexp(ours)[:, 0]
    units, maximum = 4 + spread(ours), oracle.exact(np.max(ours, axis=-1))
    assert_within(xp, xp.call(xpent.softmax, theirs), p, units)
    assert_within(xp, xp.call(xpent.log_softmax, theirs), log_p, units)
    assert_within(xp, xp.call(xpent.logsumexp, theirs), log_sum, units[:, 0], abs(maximum) + log_sum - maximum)
    off_diagonal = -p[:, :, None] * p[:, None, :]
    exact = np.where(np.eye(10, dtype=bool), (p * (1 - p))[..., None], off_diagonal)
    assert_within(xp, xp.call(xpent.softmax_jacobian, theirs), exact, 2 * units[..., None])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("targets", ["indices", "distributions"])
def test_gradients_of_the_oracle_agree_with_central_differences(targets, reduction):
    x, q, class_weight, sample_weight, where = (oracle.exact(a) if a.dtype == float else a for a in dense(4, 3))
    t = np.asarray([3, 0, -1]) if targets == "indices" else q
    options = {"class_weight": class_weight, "sample_weight": sample_weight, "label_smoothing": 0.1, "z_loss": 0.25}
    options |= {"reduction": reduction, "ignore_index": -1}
    if targets == "distributions":
        options["where"] = where | (q > 0)
    answer, step = oracle.CrossEntropy(x, t, **options), oracle.exact(np.asarray(2.0**-130))

    def difference(argument, i, j):
        sides = []
        for sign in (1, -1):
            arrays = [x.copy(), t.copy()]
            arrays[argument][i, j] += sign * step
            sides.append(oracle.CrossEntropy(*arrays, **options).loss.item())
        return (sides[0] - sides[1]) / (2 * step)

    for argument, gradient in enumerate((answer.gradient, answer.gradient_of_targets)[: np.ndim(t)]):
        for i, j in zip(*np.nonzero(abs(gradient) < np.inf), strict=True):
            assert abs(difference(argument, i, j) - gradient[i, j]) < 1e-60


def test_derivatives_are_accurate_for_confident_predictions(xp):
    x = xp.asarray([20.0, 0.0, -80.0])
    first = xp.asarray([1.0, 0.0, 0.0])
    (exact_x,) = (xp.to_numpy(x),)
    p = oracle.softmax(exact_x)
    units = 2 * (4 + 2 * spread(exact_x)[0])

    def derivatives(x, v):
        of_softmax, of_log_softmax = (xpent.vjp(f, x)[1](v)[0] for f in (xpent.softmax, xpent.log_softmax))
        change = xpent.jvp(xpent.log_softmax, (x,), (v,))[1]
        gradient_change = xpent.jvp(xpent.grad(xpent.logsumexp), (x,), (v,))[1]
        return of_softmax, of_log_softmax, change, gradient_change

    onto_first = p[1] + p[2]
    exact = (p[0] * onto_first, onto_first, onto_first, p[0] * onto_first)
    for actual, expected in zip(xp.call(derivatives, x, first), exact, strict=True):
        assert_within(xp, actual[0], expected, units)


def test_hessian_products_are_accurate_for_confident_predictions(xp):
    x, v = xp.asarray([20.0, 0.0, -80.0]), xp.asarray([1.0, 0.0, 0.0])
    p, label = oracle.softmax(xp.to_numpy(x)), xp.asarray(np.asarray(0))

    def product(x, label, v):
        return xpent.jvp(xpent.grad(xpent.cross_entropy), (x, label), (v, None))[1]

    units = 2 * (4 + 2 * spread(xp.to_numpy(x))[0])
    assert_within(xp, xp.call(product, x, label, v)[0], p[0] * (p[1] + p[2]), units)


@exponentials_are_subnormal
@pytest.mark.parametrize("largest", [97.0, 95.0, 88.0])
@pytest.mark.parametrize("kind", ["indices", "one-hot"])
def test_sums_of_subnormal_exponentials_are_within_the_bound(xp, kind, largest):
    x, labels, exact_losses, exact, units = rows_of_subnormal_exponentials(largest)
    targets = labels if kind == "indices" else (np.arange(x.shape[1]) == labels[:, None]).astype(float)
    arrays = xp.asarray(x), xp.asarray(targets)
    losses, (gradient, *_) = differentiate(xp, xpent.cross_entropy, *arrays, reduction="none")
    alone = xp.call(xpent.cross_entropy, *arrays, reduction="none")
    for found in (losses, alone):
        assert_normal_numbers_within(xp.to_numpy(found), exact_losses, units[:, 0])
    assert_normal_numbers_within(xp.to_numpy(gradient), exact, units, xp.dtype_name)


@exponentials_are_subnormal
@pytest.mark.parametrize("largest", [97.0, 95.0, 88.0])
def test_log_probabilities_near_zero_are_accurate_with_subnormal_exponentials(xp, largest):
    x, labels, losses, _, units = rows_of_subnormal_exponentials(largest)
    log_p = xp.to_numpy(xp.call(xpent.log_softmax, xp.asarray(x)))[[0, 1], labels]
    assert_normal_numbers_within(log_p, -losses, units[:, 0], xp.dtype_name)
