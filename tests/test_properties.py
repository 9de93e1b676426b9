"""Properties that hold for all inputs, tested with Hypothesis."""

import functools

import numpy as np
import pytest
from exactness import spread
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

import xpent

pytestmark = pytest.mark.unoptimized
N, C = 16, 4
logits = st_numpy.arrays(np.float64, (N, C), elements=st.integers(-20, 20))  # exact in every dtype, also if shifted
directions = st_numpy.arrays(np.float64, (2, N, C), elements=st.integers(-8, 8))
labels = st_numpy.arrays(np.int64, N, elements=st.integers(0, C - 1))
shifts = st.integers(-100, 100)
permutations = st.permutations(range(C))

W, S = np.asarray([1, 0.5, 2, 0.25]), np.resize([0.5, 2, 1, 0], N)
IS_IN = np.asarray([True, True, False, True])
LABELS = np.resize([0, 3, 1], N)
Q = np.resize([[0.5, 0.25, 0, 0.25], [0, 1, 0, 0], [0.125, 0.5, 0, 0.375]], (N, C))
FUNCTIONS = {
    "softmax": (xpent.softmax, (), {}),
    "softmax, where": (xpent.softmax, (), {"where": IS_IN}),
    "log_softmax": (xpent.log_softmax, (), {"axis": 0}),
    "logsumexp": (xpent.logsumexp, (), {"axis": (1, 0)}),
    "logsumexp, where": (xpent.logsumexp, (), {"keepdims": True, "where": IS_IN}),
    "indices": (xpent.cross_entropy, (LABELS,), {"class_weight": W, "ignore_index": 3}),
    "distributions": (xpent.cross_entropy, (Q,), {"class_weight": W, "sample_weight": S, "label_smoothing": 0.25}),
    "losses": (xpent.cross_entropy, (LABELS,), {"z_loss": 0.5, "where": IS_IN, "reduction": "none"}),
    "normalized": (xpent.cross_entropy, (Q,), {"normalizer": 4.0, "axis": 1}),
}


def theirs(xp, options):
    return {name: xp.asarray(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}


def tolerance(xp, x, size):
    """Twice the error bound for terms of some size, plus rounding to the dtype."""
    return (2 * (4 + 2 * np.max(spread(x))) * xp.u_computed + 2 * xp.u) * size


def everything(x, t):
    return (
        xpent.softmax(x),
        xpent.log_softmax(x),
        *xpent.value_and_grad(xpent.cross_entropy)(x, t, label_smoothing=0.25),
        xpent.logsumexp(x),
    )


def answers(xp, x, t):
    return [xp.to_numpy(answer) for answer in xp.call(everything, xp.asarray(x), xp.asarray(t))]


@given(x=logits, shift=shifts, t=labels)
def test_shifting_the_logits_does_not_change_results_that_depend_on_differences(xp, x, shift, t):
    *before, log_sum = answers(xp, x, t)
    *after, shifted = answers(xp, x + shift, t)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(other, one)
    np.testing.assert_allclose(shifted - log_sum, shift, rtol=0, atol=tolerance(xp, x, 122))


@given(x=logits, t=labels)
def test_rows_of_softmax_sum_to_one_and_rows_of_the_gradient_to_zero(xp, x, t):
    for targets in (t, Q):
        p, _, _, gradient, _ = answers(xp, x, targets)
        half_subnormals = C * 2.0**-25 if xp.dtype_name == "float16" else 0
        np.testing.assert_allclose(p.sum(-1), 1, rtol=0, atol=tolerance(xp, x, 1) + half_subnormals)
        np.testing.assert_allclose(gradient.sum(-1), 0, rtol=0, atol=tolerance(xp, x, 2 / N) + half_subnormals)


@given(x=logits, t=labels, order=permutations)
def test_permuting_the_classes_permutes_the_results(xp, x, t, order):
    p, log_p, loss, gradient, log_sum = answers(xp, x, t)
    expected = p[:, order], log_p[:, order], loss, gradient[:, order], log_sum
    permuted = answers(xp, x[:, order], np.argsort(order)[t])
    for one, other, size in zip(expected, permuted, (1, 42, 42, 2 / N, 22), strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=tolerance(xp, x, size))


@functools.cache
def products(name):
    """The vjp and jvp of a function, as one function that is compiled once for all examples."""
    function, targets, _ = FUNCTIONS[name]
    count = 1 + sum(target.dtype == float for target in targets)

    def run(g, v, *primals, **options):
        tangents = (*v, *[None] * (len(primals) - count))
        return xpent.vjp(function, *primals, **options)[1](g), xpent.jvp(function, primals, tangents, **options)[1]

    return count, run


@pytest.mark.parametrize("name", FUNCTIONS)
@given(x=logits, uv=directions)
def test_pullback_is_the_transpose_of_the_pushforward(xp, name, x, uv):
    (function, targets, options), (count, run) = FUNCTIONS[name], products(name)
    primals = tuple(xp.asarray(array) for array in (x, *targets))
    v = tuple(xp.asarray(direction) for direction in uv[:count])
    value = xp.to_numpy(function(*primals, **theirs(xp, options)))
    g = xp.asarray(np.resize(uv[1] + 1.0, value.shape))
    pulled, pushed = xp.call(run, g, v, *primals, **theirs(xp, options))
    left = np.sum(xp.to_numpy(pushed) * xp.to_numpy(g))
    right = sum(np.sum(xp.to_numpy(a) * xp.to_numpy(b)) for a, b in zip(pulled, v, strict=True))
    entries = (
        50 * 4
    )  # bounds the derivatives with respect to targets: 2 lse - log p, or a class weight over a row weight
    size = entries * np.sum(np.abs(xp.to_numpy(g))) * sum(np.sum(np.abs(xp.to_numpy(a))) for a in v)
    np.testing.assert_allclose(left, right, rtol=0, atol=tolerance(xp, x, size))


def products_with_the_hessian(x, t, u, v, **options):
    gradient = xpent.grad(xpent.cross_entropy)
    forward = [xpent.jvp(gradient, (x, t), (a, None), **options)[1] for a in (u, v)]
    return *forward, xpent.vjp(gradient, x, t, **options)[1](u)[0]


@pytest.mark.parametrize("name", ["indices", "distributions", "normalized"])
@given(x=logits, uv=directions)
def test_hessian_is_symmetric_and_the_same_in_forward_and_reverse_mode(xp, name, x, uv):
    _, (targets,), options = FUNCTIONS[name]
    arrays = [xp.asarray(array) for array in (x, targets, *uv)]
    of_u, of_v, backward = (xp.to_numpy(a) for a in xp.call(products_with_the_hessian, *arrays, **theirs(xp, options)))
    bar = tolerance(xp, x, 4 * np.max(np.abs(uv)))
    np.testing.assert_allclose(backward, of_u, rtol=0, atol=bar)
    np.testing.assert_allclose(np.sum(uv[1] * of_u), np.sum(uv[0] * of_v), rtol=0, atol=bar * np.sum(np.abs(uv)))


@given(x=logits, cut=st.integers(1, C - 1))
def test_logsumexp_of_parts_can_be_combined(xp, x, cut):
    parts = [xp.call(xpent.logsumexp, xp.asarray(x[:, part]), keepdims=True) for part in (slice(cut), slice(cut, C))]
    merged = xp.to_numpy(xp.call(xpent.logsumexp, xp.module.concat(parts, axis=-1)))
    whole = xp.to_numpy(xp.call(xpent.logsumexp, xp.asarray(x)))
    np.testing.assert_allclose(merged, whole, rtol=0, atol=tolerance(xp, x, 22))
