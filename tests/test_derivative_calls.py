"""vjp, jvp, grad and value_and_grad: arguments, results and errors."""

import copy
import pickle

import numpy as np
import pytest
from exactness import differentiate, prepare

import xpent

pytestmark = pytest.mark.unoptimized
X = np.asarray([[1.0, 3, -5, 7, 0.5], [2, -6, 4, 1, 0], [0.25, 0.25, -2, 1, 3]])
LABELS = np.asarray([3, 1, 0])
Q = np.asarray([[0.5, 0.25, 0.25, 0, 0], [0.125, 0.5, 0.125, 0.25, 0], [0, 0, 0, 1, 0]])
OPTIONS = {"class_weight": np.asarray([1, 0.5, 2, 0.25, 4]), "label_smoothing": 0.125, "z_loss": 0.25}


def test_value_and_grad_agrees_with_value_and_gradient(xp):
    for targets in (LABELS, Q):
        (x, t), options, _, _ = prepare(xp, X, targets, **OPTIONS)
        value, gradient = xp.call(xpent.value_and_grad(xpent.cross_entropy), x, t, **options)
        plain = xp.call(xpent.cross_entropy, x, t, **options)
        alone = xp.call(xpent.grad(xpent.cross_entropy), x, t, **options)
        u = 4 * xp.u  # a compiler may fuse the two computations differently
        np.testing.assert_allclose(xp.to_numpy(value), xp.to_numpy(plain), rtol=u if xp.is_traced else 0)
        np.testing.assert_allclose(xp.to_numpy(gradient), xp.to_numpy(alone), rtol=u if xp.is_traced else 0, atol=u)


def test_pullback_returns_one_cotangent_per_array_of_floating_point_numbers(xp):
    x = xp.asarray(X)
    for targets, count in ((LABELS, 1), (np.eye(5, dtype=int)[LABELS], 1), (Q, 2)):
        _, cotangents = differentiate(xp, xpent.cross_entropy, x, xp.asarray(targets))
        assert isinstance(cotangents, tuple)
        assert [tuple(c.shape) for c in cotangents] == [(3, 5)] * count


def test_argnums_selects_the_gradients_and_their_structure(xp):
    x, q, f = xp.asarray(X), xp.asarray(Q), xpent.cross_entropy
    _, (of_x, of_q) = differentiate(xp, f, x, q)
    by_argnums = {argnums: xp.call(xpent.grad(f, argnums), x, q) for argnums in (0, 1, (0,), (1, 0))}
    assert isinstance(by_argnums[0,], tuple)
    assert isinstance(by_argnums[1, 0], tuple)
    for found, expected in ((by_argnums[0], of_x), (by_argnums[1], of_q), (by_argnums[0,][0], of_x)):
        np.testing.assert_allclose(xp.to_numpy(found), xp.to_numpy(expected), rtol=4 * xp.u, atol=4 * xp.u)
    for found, expected in zip(by_argnums[1, 0], (of_q, of_x), strict=True):
        np.testing.assert_allclose(xp.to_numpy(found), xp.to_numpy(expected), rtol=4 * xp.u, atol=4 * xp.u)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda function: pickle.loads(pickle.dumps(function))])
def test_functions_can_be_copied_and_pickled(xp, again):
    x, t = xp.asarray(X), xp.asarray(LABELS)
    for name in xpent.__all__:
        assert again(getattr(xpent, name)) is getattr(xpent, name)
    for function in (xpent.grad(xpent.cross_entropy, (0,)), xpent.value_and_grad(xpent.cross_entropy)):
        for found, expected in zip(xp.call(again(function), x, t), xp.call(function, x, t), strict=True):
            np.testing.assert_array_equal(xp.to_numpy(found), xp.to_numpy(expected))


F = xpent.cross_entropy
BAD_CALLS = {
    "integer argnums": (lambda x, t: xpent.grad(F, 1)(x, t), TypeError, "array 1 holds .*int.* no gradient"),
    "argnums out of range": (
        lambda x, t: xpent.grad(F, 2)(x, t),
        TypeError,
        r"\[0, 2\), got 2; class and sample weights are constants",
    ),
    "negative argnums": (lambda x, t: xpent.grad(F, -1)(x, t), TypeError, r"\[0, 2\), got -1"),
    "argnums twice": (lambda _x, _: xpent.grad(F, (0, 0)), ValueError, r"twice, got \(0, 0\)"),
    "no argnums": (lambda _x, _: xpent.grad(F, ()), TypeError, r"tuple of ints, got \(\)"),
    "argnums by name": (lambda _x, _: xpent.value_and_grad(F, "x"), TypeError, "tuple of ints, got 'x'"),
    "no scalar": (lambda x, t: xpent.grad(F)(x, t, reduction="none"), TypeError, "scalar output.*cross_entropy.*vjp"),
    "softmax": (lambda x, _: xpent.grad(xpent.softmax)(x), TypeError, "scalar output.*softmax.*vjp"),
    "foreign function": (lambda x, _: xpent.vjp(abs, x), TypeError, "softmax, .*cross_entropy.*abs"),
    "foreign gradient": (lambda x, _: xpent.grad(len)(x), TypeError, "softmax, .*cross_entropy.*len.*chain rule"),
    "integer logits": (lambda _x, t: xpent.vjp(xpent.softmax, t), TypeError, "nothing to differentiate.*softmax"),
    "cotangent shape": (lambda x, t: xpent.vjp(F, x, t)[1](x), ValueError, r"cotangent.*\(\), got \(3, 5\)"),
    "cotangent dtype": (lambda x, t: xpent.vjp(xpent.logsumexp, x)[1](t), TypeError, "cotangent.*floating-point.*int"),
    "cotangent number": (lambda x, t: xpent.vjp(F, x, t)[1](1.0), TypeError, "cotangent.*array.*float"),
    "cotangent structure": (lambda x, t: xpent.vjp(xpent.value_and_grad(F), x, t)[1](x), ValueError, "structure.*2"),
    "tangent shape": (lambda x, t: xpent.jvp(F, (x, t), (x[0, :], None)), ValueError, r"tangent.*\(3, 5\), got \(5,\)"),
    "tangent dtype": (lambda x, t: xpent.jvp(xpent.logsumexp, (x[:, 0],), (t,)), TypeError, "tangent.*floating.*int"),
    "tangent of integers": (
        lambda x, t: xpent.jvp(F, (x, t), (None, x[:, 0])),
        TypeError,
        "tangent.*None for an array of integers",
    ),
    "tangent missing": (lambda x, t: xpent.jvp(F, (x, t), (x,)), ValueError, "2 primals, got 1"),
    "no tangent": (lambda x, t: xpent.jvp(F, (x, t), (None, None)), ValueError, "at least one tangent"),
    "bad option": (lambda x, t: xpent.vjp(F, x, t, reduction="avg"), ValueError, "reduction.*avg"),
    "unknown option": (lambda x, t: xpent.vjp(F, x, t, dim=0), TypeError, "no option dim; use axis.*options are axis"),
    "unknown option of grad": (lambda x, t: xpent.grad(F)(x, t, weight=x), TypeError, "weight; use class_weight"),
    "unknown option of jvp": (lambda x, _: xpent.jvp(F, (x, x), (x, x), x=1), TypeError, "no option x. Arrays are"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_invalid_call_is_rejected(xp, name):
    call, error, message = BAD_CALLS[name]
    with pytest.raises(error, match=message):
        xp.call(call, xp.asarray(X), xp.asarray(LABELS))
