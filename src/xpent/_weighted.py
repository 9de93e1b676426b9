"""Log-sum-exp with weights of either sign, and of complex numbers, built on `xpent.logsumexp`."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from xpent._arguments import Axis
from xpent._backends.base import Array
from xpent._backends.registry import backend_of, namespace_of
from xpent._functions import logsumexp


def weighted_logsumexp(
    x: Array, b: Array, /, *, axis: Axis, keepdims: bool = False, return_sign: bool = False
) -> Array | tuple[Array, Array]:
    """Logarithm of the weighted sum of exponentials, log sum_j b_j exp(x_j), of real numbers.

    With P the log-sum-exp of x_j + log b_j over the positive weights and N that of x_j + log(-b_j) over the negative
    ones, the logarithm of the absolute value is max(P, N) + log1p(-exp(-abs(P - N))) and the sign that of P - N. Where
    P and N are so close that more than half of the sum cancels, the terms themselves are added.

    Parameters
    ----------
    x, b : arrays of real numbers
        Broadcastable to each other. Entries of ``x`` with a weight of 0 are excluded from the sum, even if not finite.
    axis : int, tuple of ints or None
        The axes summed over; None means all axes.
    keepdims : bool
        Whether to keep the axes summed over, as axes of length one.
    return_sign : bool
        Whether to return the logarithm of the absolute value and the sign of the sum, 1, 0, -1 or NaN.

    Returns
    -------
    array, or a pair of arrays
        The dtype that `xpent.logsumexp` returns for ``x``. NaN for a negative sum, unless its sign is returned; -inf
        for a sum of 0, with a gradient of 0.

    Notes
    -----
    The derivative with respect to b_j is exp(x_j) divided by the sum, also where b_j is 0 and x_j is finite.
    """
    backend, xp = backend_of({"x": x, "b": b}), namespace_of(x, b)
    dtype = x.dtype if backend.is_floating(x) else backend.accumulation_dtype(x.dtype)
    x, b = xp.broadcast_arrays(backend.as_computed(x), backend.as_computed(b))
    with backend.errstate():
        is_zero = b == 0.0
        shift = _shift(xp, x, axis, ~is_zero)
        y = (x - shift) + xp.log(xp.where(is_zero, 1.0, xp.abs(b)))
        of_positive = logsumexp(y, axis=axis, keepdims=True, where=~(b <= 0.0))  # includes weights of NaN
        of_negative = logsumexp(y, axis=axis, keepdims=True, where=b < 0.0)
        larger, smaller = xp.maximum(of_positive, of_negative), xp.minimum(of_positive, of_negative)
        # Where most of the sum cancels, the rounding errors of the logarithms would be amplified.
        is_near = xp.isfinite(larger) & xp.isfinite(smaller) & (larger - smaller < 0.7)
        # Autodiff must encounter neither a difference of infinities nor an infinite derivative.
        has_both = ~is_near & (smaller != -math.inf)
        gap = xp.where(has_both, larger, 1.0) - xp.where(has_both, smaller, 0.0)
        result = larger + xp.where(has_both, xp.log1p(-xp.exp(-gap)), 0.0)
        sign = xp.astype(of_positive > of_negative, x.dtype) - xp.astype(of_positive < of_negative, x.dtype)
        terms = xp.where(is_zero, 0.0, b * xp.exp(xp.where(is_zero, 0.0, x - shift)))
        total = xp.sum(xp.where(is_near, terms, 1.0), axis=axis, keepdims=True)
        cancels = total == 0.0
        of_total = xp.where(cancels, -math.inf, xp.log(xp.where(cancels, 1.0, xp.abs(total))))
        result = xp.where(is_near, of_total, result)
        sign = xp.where(is_near, xp.sign(total), sign)
        sign = xp.where(xp.isnan(result), result, sign)
        if backend.differentiates:
            result = result + xp.log1p(sign * _of_zero_weights(xp, x - shift, b, result, axis))
        result = result + shift
        if not return_sign:
            result = xp.where(sign < 0.0, math.nan, result)
    result, sign = [backend.cast(v if keepdims else _without(xp, v, axis), dtype) for v in (result, sign)]
    return (result, sign) if return_sign else result


def complex_logsumexp(
    x: Array, b: Array | None, /, *, axis: Axis, keepdims: bool = False, return_sign: bool = False
) -> Array | tuple[Array, Array]:
    """Logarithm of the weighted sum of exponentials of complex numbers; ``b`` has the dtype of ``x`` or is None.

    The imaginary part lies in (-pi, pi]. With ``return_sign``, the logarithm of the absolute value, and the sum divided
    by its absolute value.
    """
    backend, xp = backend_of({"x": x}), namespace_of(x)
    with backend.errstate():
        if b is not None:
            x, b = xp.broadcast_arrays(x, b)
            x = xp.where(b == 0.0, -math.inf, x)
        shift = _shift(xp, xp.real(x), axis, None)
        terms = xp.exp(x - xp.astype(shift, x.dtype))
        total = xp.sum(terms if b is None else b * terms, axis=axis, keepdims=True)
        size = xp.abs(total)
        result: Any = xp.log(size) + shift if return_sign else xp.log(total) + xp.astype(shift, x.dtype)
        sign = total / xp.astype(xp.where(size == 0.0, 1.0, size), x.dtype)
    result, sign = [v if keepdims else _without(xp, v, axis) for v in (result, sign)]
    return (result, sign) if return_sign else result


def _shift(xp: ModuleType, x: Array, axis: Axis, where: Array | None) -> Array:
    """A shift near the largest entries, 0 if they are not finite; its derivative is 0, as that of floor."""
    shift = xp.floor(logsumexp(x, axis=axis, keepdims=True, where=where))
    return xp.where(xp.isfinite(shift), shift, 0.0)


def _of_zero_weights(xp: ModuleType, x: Array, b: Array, result: Array, axis: Axis) -> Array:
    """The sum of b_j exp(x_j - result) over weights of 0, which is 0 but has derivatives with respect to them."""
    has_derivative = (b == 0.0) & xp.isfinite(x) & xp.isfinite(result)
    exponent = xp.where(has_derivative, x, 0.0) - xp.where(xp.isfinite(result), result, 0.0)
    limit = math.log(xp.finfo(x.dtype).max) - 1.0  # the product of 0 and an overflow would be NaN
    terms = b * xp.exp(xp.where(exponent < limit, exponent, limit))
    return xp.sum(xp.where(has_derivative, terms, 0.0), axis=axis, keepdims=True)


def _without(xp: ModuleType, x: Array, axis: Axis) -> Array:
    """The array without the axes of length one that were summed over."""
    return xp.squeeze(x, axis=tuple(range(x.ndim)) if axis is None else axis)
