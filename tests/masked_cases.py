"""Functions of a row with masked classes, and their exact derivatives, computed from the unmasked classes."""

import functools
import math

import numpy as np

import xpent

INF, NAN = math.inf, math.nan
POLICY, REFERENCE = np.array([0.3, -INF, 1.2, -0.7]), np.array([0.5, -INF, -0.25, 1.0])
ROWS = {"one class masked": POLICY, "fully masked": np.full(4, -INF)}
# The last two rows of four are not finite.
NON_FINITE = np.array([POLICY, [0.1, 0.7, -0.4, 0.2], [NAN, -INF, 2.0, 0.5], [INF, -INF, 1.0, 0.0]])
FEATURES, WEIGHT = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]]), np.arange(8.0).reshape(4, 2) / 4 - 1
BIAS, IS_UNMASKED, LABELS = np.array([0.1, -INF, -0.2, 0.3]), np.array([True, False, True, True]), np.array([0, 3, 2])


def masked(row, how, asarray):
    """Logits and options that mask classes by -inf, or by ``where`` with NaN logits."""
    if how == "-inf":
        return asarray(row), {}
    return asarray(np.where(np.isinf(row), NAN, row)), {"where": asarray(~np.isinf(row))}


def softmax(x):
    """softmax and its Jacobian, the first and second derivative of logsumexp; 0 for masked classes."""
    p, is_unmasked = np.zeros(4), x > -INF
    if np.any(is_unmasked):
        e = np.exp(x[is_unmasked] - np.max(x))
        p[is_unmasked] = e / np.sum(e)
    return p, np.diag(p) - np.outer(p, p)


def of_softmax(x):
    p, jacobian = softmax(x)
    ratio = np.eye(4) - p
    return jacobian, p[:, None, None] * (ratio[:, :, None] * ratio[:, None, :] - jacobian)


def of_log_softmax(x):
    (p, jacobian), is_unmasked = softmax(x), (x > -INF).astype(float)
    return np.diag(is_unmasked) - np.outer(is_unmasked, p), -is_unmasked[:, None, None] * jacobian


def of_cross_entropy(q, label_smoothing, x):
    (p, jacobian), is_unmasked = softmax(x), (x > -INF).astype(float)
    q = (1 - label_smoothing) * q + label_smoothing * is_unmasked / max(1.0, np.sum(is_unmasked))
    return p * np.sum(q) - q, jacobian * np.sum(q)


def of_reverse_kl(reference, x):
    """Derivatives of sum_j p_j (log p_j - reference_j) over the unmasked classes."""
    p, jacobian = softmax(x)
    is_unmasked = p > 0
    d = np.log(p, where=is_unmasked, out=np.zeros(4)) - np.where(is_unmasked, reference, 0.0)
    d = d - np.sum(p * d)
    gradient = p * d
    return gradient, jacobian * d[:, None] + p[:, None] * (np.eye(4) - p - gradient)


def of_entropy(x):
    return tuple([-derivative for derivative in of_reverse_kl(np.zeros(4), x)])


def entropy(v, **options):
    return xpent.cross_entropy(v, xpent.softmax(v, **options), **options)


def reverse_kl(reference, v, **options):
    return xpent.cross_entropy(reference, xpent.softmax(v, **options), **options) - entropy(v, **options)


def cases(asarray, entr):
    """Functions of a row by name, each with a function that returns its exact first and second derivative.

    ``entr`` is the elementwise entropy function of the library.
    """
    found = {
        "softmax": (xpent.softmax, of_softmax),
        "log_softmax": (xpent.log_softmax, of_log_softmax),
        "logsumexp": (xpent.logsumexp, softmax),
        "entropy": (entropy, of_entropy),
        "entr": (lambda v, **options: entr(xpent.softmax(v, **options)).sum(), of_entropy),
        "reverse KL": (
            functools.partial(reverse_kl, asarray(REFERENCE)),
            functools.partial(of_reverse_kl, REFERENCE),
        ),
    }
    for label in (0, 1):
        for kind, targets in (("index", np.asarray(label)), ("one-hot", np.eye(4)[label])):
            for smoothing in (0.0, 0.25):
                found[f"{kind} {label}, smoothing {smoothing}"] = (
                    functools.partial(_cross_entropy, asarray(targets), smoothing),
                    functools.partial(of_cross_entropy, np.eye(4)[label], smoothing),
                )
    return found


def _cross_entropy(targets, label_smoothing, v, **options):
    return xpent.cross_entropy(v, targets, label_smoothing=label_smoothing, **options)


NAMES = list(cases(np.asarray, None))


def layer(targets, features, weight, bias, **options):
    return xpent.linear_cross_entropy(features, weight, targets, bias=bias, **options)


def assert_close(actual, exact, order=1):
    """Compare derivatives in float64; those of masked classes must be exactly 0.

    Each is a sum of at most (order + 1)! kinds of products of order + 1 numbers below 4, most of them probabilities
    with an error bound of 4 + 2 max_j |x_j - m| units.
    """
    actual = np.asarray(actual.detach().cpu() if hasattr(actual, "detach") else actual)
    assert actual.dtype == np.float64
    units = math.factorial(order + 1) * (order + 1) * 4 * (4 + 2 * (np.max(POLICY) - np.min(POLICY[IS_UNMASKED])))
    np.testing.assert_allclose(actual, exact, rtol=0, atol=units * 2.0**-53)
    assert not np.any(actual[exact == 0])
