"""softmax, log_softmax and logsumexp with the signatures of scipy.special, for every array library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpent import _functions
from xpent._arguments import Axis, names_no_axis
from xpent._backends.registry import as_arrays
from xpent._weighted import complex_logsumexp, weighted_logsumexp

__all__ = ["log_softmax", "logsumexp", "softmax"]


def softmax(x: Any, axis: Axis = None) -> Any:
    """Softmax as `scipy.special.softmax` computes it: exp(x_j) / sum_k exp(x_k).

    Parameters
    ----------
    x : array_like
        An array of any library; lists and numbers become NumPy arrays.
    axis : int, tuple of ints or None
        The axes that sum to 1; None means all axes.

    Returns
    -------
    array or scalar
        Shape and dtype of ``x``, the default floating dtype for integers and booleans. NaN for a row that is -inf
        everywhere.

    Raises
    ------
    TypeError
        If ``x`` does not hold numbers, is a masked array, or ``axis`` is not an int, a tuple of ints or None.
    ValueError
        If ``axis`` is out of range or names an axis twice.

    Notes
    -----
    `scipy.special.softmax` subtracts integers from integers, which overflows for unsigned and 8-bit ones, and returns
    float16 for int8. It raises an error for booleans and for a sum over an axis of length 0, whose softmax is empty.
    float16 is computed in float32 here.

    Examples
    --------
    >>> from xpent.scipy import softmax
    >>> softmax([1.0, 2.0, 3.0]).round(8)
    array([0.09003057, 0.24472847, 0.66524096])
    """
    return _of_rows(_functions.softmax, x, axis, 0.0)


def log_softmax(x: Any, axis: Axis = None) -> Any:
    """Logarithm of softmax as `scipy.special.log_softmax` computes it: x_j - log sum_k exp(x_k).

    Parameters
    ----------
    x : array_like
        An array of any library; lists and numbers become NumPy arrays.
    axis : int, tuple of ints or None
        The axes along which the exponentials sum to 1; None means all axes.

    Returns
    -------
    array or scalar
        Shape and dtype of ``x``, the default floating dtype for integers and booleans. NaN for a row that is -inf
        everywhere.

    Raises
    ------
    TypeError
        If ``x`` does not hold numbers, is a masked array, or ``axis`` is not an int, a tuple of ints or None.
    ValueError
        If ``axis`` is out of range or names an axis twice.

    Notes
    -----
    `scipy.special.log_softmax` returns 0 for the largest entry if its probability is close to 1; here it is accurate.
    A row with +inf is NaN; in SciPy, its other entries are -inf. Integers, booleans, axes of length 0 and
    float16 differ as in `softmax`.

    Examples
    --------
    >>> from xpent.scipy import log_softmax
    >>> log_softmax([0.0, -50.0])
    array([-1.92874985e-22, -5.00000000e+01])
    """
    return _of_rows(_functions.log_softmax, x, axis, -math.inf)


def logsumexp(a: Any, axis: Axis = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """Logarithm of a weighted sum of exponentials as `scipy.special.logsumexp` computes it: log sum_j b_j exp(a_j).

    Parameters
    ----------
    a : array_like
        Real or complex numbers: an array of any library; lists and numbers become NumPy arrays.
    axis : int, tuple of ints or None
        The axes summed over; None means all axes.
    b : array_like, optional
        Weights, broadcastable with ``a``, of either sign or complex. Entries of weight 0 add nothing, whatever they
        are.
    keepdims : bool
        Whether to keep the axes summed over, as axes of length one.
    return_sign : bool
        Whether to return the logarithm of the absolute value of the sum, and the sign of the sum.

    Returns
    -------
    array or scalar, or a pair of them
        The floating or complex dtype that ``a`` and ``b`` promote to. A negative sum is NaN unless its sign is
        returned. The sign is 1, 0, -1 or NaN, for complex numbers the sum divided by its absolute value. The imaginary
        part of a complex logarithm lies in (-pi, pi].

    Raises
    ------
    TypeError
        If ``a`` or ``b`` does not hold numbers, or is a masked array, or ``axis`` is not an int, a tuple of ints or
        None.
    ValueError
        If ``axis`` is out of range or names an axis twice, or the shapes do not broadcast.

    Notes
    -----
    The sign of an empty sum is 0; in SciPy it is -1. An entry with weight 0 does not change the sum even if its
    exponential overflows; in SciPy the sum can be NaN. The derivative with respect to a weight of 0 is
    exp(a_j) / sum_k b_k exp(a_k); SciPy's implementation omits the entry, so its derivative would be 0.

    Examples
    --------
    >>> from xpent.scipy import logsumexp
    >>> value, sign = logsumexp([1.0, 2.0], b=[1, -1], return_sign=True)
    >>> float(value.round(8)), float(sign)
    (1.54132485, -1.0)
    """
    backend, xp, arrays = as_arrays(a=_required("a", a), b=b)
    arrays = [array[None] if array.ndim == 0 else array for array in arrays]
    if b is not None:
        try:
            arrays = xp.broadcast_arrays(*arrays)
        except (ValueError, RuntimeError):
            shapes = " and ".join([str(tuple(array.shape)) for array in arrays])
            raise ValueError(f"a and b must have shapes that broadcast, got {shapes}") from None
    x, weights = arrays[0], arrays[1] if b is not None else None
    is_complex = not backend.is_real(x) and xp.isdtype(x.dtype, "complex floating")
    if names_no_axis(axis):  # every entry is a sum of its own
        x, weights = [None if array is None else array[..., None] for array in (x, weights)]
        axis, keepdims = -1, False
    found: Any
    if is_complex:
        found = complex_logsumexp(x, weights, axis=axis, keepdims=keepdims, return_sign=return_sign)
    elif weights is not None:
        found = weighted_logsumexp(x, weights, axis=axis, keepdims=keepdims, return_sign=return_sign)
    else:
        found = _functions.logsumexp(x, axis=axis, keepdims=keepdims)
        if return_sign:
            is_positive = backend.cast(found > -math.inf, found.dtype)
            found = (found, xp.where(xp.isnan(found), found, is_positive))
    return tuple([_scalar(value) for value in found]) if return_sign else _scalar(found)


def _of_rows(function: Callable[..., Any], x: Any, axis: Axis, masked: float) -> Any:
    """Evaluate a function of rows, but return NaN for rows of -inf, for which the function returns ``masked``."""
    backend, xp, (x,) = as_arrays(x=_required("x", x))
    is_expanded = names_no_axis(axis) or (x.ndim == 0 and axis in (None, 0, -1))
    x, axis = (x[..., None], -1) if is_expanded else (x, axis)
    if not backend.is_real(x) and xp.isdtype(x.dtype, "complex floating"):
        y = x - complex_logsumexp(x, None, axis=axis, keepdims=True)
        y = xp.exp(y) if masked == 0.0 else y
    else:
        y = function(x, axis=axis)
        if 0 not in y.shape and not backend.is_known_true(y != masked):
            is_masked = xp.max(y, axis=axis, keepdims=True) == masked
            if not backend.is_known_true(~is_masked):
                y = xp.where(is_masked, math.nan, y)
    return _scalar(y[..., 0]) if is_expanded else y


def _scalar(y: Any) -> Any:
    """What an operation of the library returns for arrays of shape (): in NumPy a scalar."""
    return y[()] if y.ndim == 0 else y


def _required(name: str, value: Any) -> Any:
    if value is None:
        raise TypeError(f"{name} must be an array or hold numbers, got None")
    return value
