"""Assertions about errors: differences from exact values, in units of u, half the machine epsilon."""

import numpy as np

import xpent
from xpent.conformance import oracle
from xpent.conformance.dtypes import EPSILON, SMALLEST


def spread(x):
    """max_j |x_j - m| over the unmasked classes of each row, of shape (..., 1)."""
    x = np.asarray(x, dtype=np.float64)
    lowest = np.min(np.where(np.isfinite(x), x, np.inf), axis=-1, keepdims=True)
    return np.where(np.isfinite(lowest), np.max(x, axis=-1, keepdims=True) - lowest, 0.0)


def allowed_error(xp, array, exact, units, scale):
    """``units * u * scale`` in the dtype of intermediate results, plus rounding to the dtype of the array."""
    computed = units * xp.u_computed * scale
    is_narrowed = xp.dtype_of(array) == xp.dtype_name and xp.u > xp.u_computed
    rounding = xp.u * (abs(exact) + computed) if is_narrowed else 0.0
    flushed = SMALLEST["float64" if xp.dtype_name == "float64" else "float32"]
    half_a_subnormal = 2.0**-25 if xp.dtype_name == "float16" and is_narrowed else 0.0
    return computed + rounding + flushed + half_a_subnormal


def assert_within(xp, array, exact, units, scale=None):
    """Assert that errors are at most ``units * u * scale``; the scale is the exact value by default."""
    actual = np.asarray(xp.to_numpy(array), dtype=object)
    exact = np.asarray(exact, dtype=object)
    assert actual.shape == exact.shape
    allowed = allowed_error(xp, array, exact, units, abs(exact) if scale is None else scale)
    with np.errstate(invalid="ignore"):
        is_equal = actual == exact  # for infinities
        error = abs(np.where(is_equal, 0, actual) - np.where(is_equal, 0, exact))
    is_within = is_equal | (error <= allowed)
    assert np.all(is_within), f"{actual.astype(float)} instead of {exact.astype(float)}"


def assert_normal_numbers_within(found, exact, units, dtype="float32"):
    """As `assert_within`, but only subnormal numbers may be flushed to zero."""
    found, exact = np.asarray(found, dtype=np.float64), np.asarray(exact, dtype=np.float64)
    smallest = 2.0**-14 if dtype == "float16" else 2.0**-126
    rounding = EPSILON[dtype] / 2 if dtype != "float32" else 0.0
    allowed = np.where(abs(exact) < smallest, smallest, (units * 2.0**-24 + rounding) * abs(exact))
    assert found.shape == exact.shape
    assert np.all(abs(found - exact) <= allowed)


def rows_of_subnormal_exponentials(largest, classes=128256):
    """A row of zeros with one logit ``largest`` at the label, and an ordinary row.

    In float32, exp(-largest) may be subnormal, but the sum of these exponentials over the first row is not.

    Returns
    -------
    x, labels, losses, gradient, units : arrays
        The losses and the gradient of their sum, computed in float64, and their error bound in units of u.
    """
    x, labels = np.zeros((2, classes)), np.asarray([7, 1000])
    x[0, 7], x[1] = largest, np.arange(classes) % 64 / 16
    shifted = x - np.max(x, axis=-1, keepdims=True)
    e, rows = np.exp(shifted), np.arange(2)
    at_target, e[rows, labels] = e[rows, labels], 0.0
    rest = np.sum(e, axis=-1)
    gradient = e / (rest + at_target)[:, None]
    gradient[rows, labels] = -rest / (rest + at_target)
    units = 4 - shifted[rows, labels, None] + spread(x)
    return x, labels, np.log1p(rest / at_target), gradient, units


def prepare(xp, *arrays, **options):
    """Arrays and options of the library, and the same numbers as NumPy arrays for the oracle."""
    theirs = [xp.asarray(array) for array in arrays]
    their_options = {k: xp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    ours = [xp.to_numpy(array) for array in theirs]
    our_options = {k: xp.to_numpy(v) if isinstance(options[k], np.ndarray) else v for k, v in their_options.items()}
    return theirs, their_options, ours, our_options


def differentiate(xp, function, *primals, cotangent=1.0, **options):
    """The value and the cotangents of the primals, for a constant cotangent of the value."""

    def run(*primals, **options):
        value, pullback = xpent.vjp(function, *primals, **options)
        return value, pullback(cotangent * xp.module.ones_like(value))

    return xp.call(run, *primals, **options)


def assert_cross_entropy_is_exact(xp, logits, targets, **options):
    """Assert that the loss and its gradients are within the error bound, with a cotangent of 2."""
    (x, t), theirs, (exact_x, exact_t), ours = prepare(xp, logits, targets, **options)
    exact = oracle.CrossEntropy(exact_x, exact_t, **ours)
    loss, (gradient, *of_targets) = differentiate(xp, xpent.cross_entropy, x, t, cotangent=2.0, **theirs)
    units = 4 + 2 * spread(np.where(ours.get("where", True), exact_x, -np.inf))
    loss_units = units[:, 0] if options.get("reduction") == "none" else np.max(units, initial=4)
    assert_within(xp, loss, exact.loss, loss_units, exact.loss_scale)
    assert_within(xp, gradient, 2 * exact.gradient, units, 2 * exact.gradient_scale)
    if of_targets:
        quotient = 0.0
        if "class_weight" in options and options.get("reduction", "mean") == "mean":
            weights = ours["class_weight"] * ours.get("sample_weight", np.ones(len(exact_x)))[:, None]
            quotient = exact.loss_scale * weights / np.sum(weights * exact_t)
        terms = abs(exact.gradient_of_targets) + 2 * quotient
        assert_within(xp, of_targets[0], 2 * exact.gradient_of_targets, units, 2 * terms)
