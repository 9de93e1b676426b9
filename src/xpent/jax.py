"""softmax, log_softmax and logsumexp with the signatures of jax.nn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from xpent import _functions
from xpent._arguments import names_no_axis
from xpent._weighted import complex_logsumexp, weighted_logsumexp

__all__ = ["log_softmax", "logsumexp", "softmax"]

# Without jax.jit, every operation of the weighted sum would be dispatched by itself.
_weighted_logsumexp = jax.jit(weighted_logsumexp, static_argnames=("axis", "keepdims", "return_sign"))


def softmax(x: Any, axis: int | Sequence[int] | None = -1, where: Any = None) -> jax.Array:
    """Softmax as `jax.nn.softmax` computes it: exp(x_j) / sum_k exp(x_k).

    Parameters
    ----------
    x : array or number
        A real array of JAX or NumPy.
    axis : int, sequence of ints or None
        The axes that sum to 1; None means all axes.
    where : array of booleans, optional
        Broadcastable with ``x``. Entries where it is False are masked.

    Returns
    -------
    jax.Array
        Shape of ``x``, broadcast with ``where``; dtype of ``x``, the default floating dtype for integers and booleans.
        0 for masked entries. A row that holds NaN or +inf is NaN.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers or a number, ``where`` does not hold booleans, or ``axis`` is not an
        int, a sequence of ints or None.
    ValueError
        If ``axis`` is out of range or names an axis twice, or the shapes do not broadcast.

    Notes
    -----
    A row in which every entry is -inf has softmax 0, as if masked by ``where``; `jax.nn.softmax` returns NaN.
    Derivatives are computed without cancellation where a probability is close to 1. float16 and bfloat16 are computed
    in float32. `jax.nn.softmax` also takes complex numbers.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.jax import softmax
    >>> [f"{p:.4f}" for p in softmax(jnp.asarray([1.0, 2.0, 3.0])).tolist()]
    ['0.0900', '0.2447', '0.6652']
    """
    return _of_rows(_functions.softmax, x, axis, where)


def log_softmax(x: Any, axis: int | Sequence[int] | None = -1, where: Any = None) -> jax.Array:
    """Logarithm of softmax as `jax.nn.log_softmax` computes it: x_j - log sum_k exp(x_k).

    Parameters
    ----------
    x : array or number
        A real array of JAX or NumPy.
    axis : int, sequence of ints or None
        The axes along which the exponentials sum to 1; None means all axes.
    where : array of booleans, optional
        Broadcastable with ``x``. Entries where it is False are masked.

    Returns
    -------
    jax.Array
        Shape of ``x``, broadcast with ``where``; dtype of ``x``, the default floating dtype for integers and booleans.
        -inf for masked entries. A row that holds NaN or +inf is NaN.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers or a number, ``where`` does not hold booleans, or ``axis`` is not an
        int, a sequence of ints or None.
    ValueError
        If ``axis`` is out of range or names an axis twice, or the shapes do not broadcast.

    Notes
    -----
    `jax.nn.log_softmax` returns 0 for the largest entry if its probability is close to 1; here it is accurate. Rows of
    -inf, float16, bfloat16 and complex numbers differ as in `softmax`. The result is never weakly typed.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.jax import log_softmax
    >>> [f"{y:.4g}" for y in log_softmax(jnp.asarray([20.0, 0.0])).tolist()]
    ['-2.061e-09', '-20']
    """
    return _of_rows(_functions.log_softmax, x, axis, where)


def logsumexp(
    a: Any,
    axis: int | Sequence[int] | None = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Any = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Logarithm of a weighted sum of exponentials as `jax.nn.logsumexp` computes it: log sum_j b_j exp(a_j).

    Parameters
    ----------
    a : array or number
        An array of JAX or NumPy, real or complex.
    axis : int, sequence of ints or None
        The axes summed over; None means all axes.
    b : array or number, optional
        Weights, broadcastable with ``a``, of either sign or complex. Entries of weight 0 add nothing.
    keepdims : bool
        Whether to keep the axes summed over, as axes of length one.
    return_sign : bool
        Whether to return the logarithm of the absolute value of the sum, and the sign of the sum.
    where : array of booleans, optional
        Broadcastable with ``a``. Entries where it is False are excluded from the sum.

    Returns
    -------
    jax.Array, or a pair of them
        The floating or complex dtype that ``a`` and ``b`` promote to. A negative sum is NaN unless its sign is
        returned. The sign is 1, 0, -1 or NaN, for complex numbers the sum divided by its absolute value. A sum of
        nothing is -inf, and its gradient is 0.

    Raises
    ------
    TypeError
        If ``a`` or ``b`` is not an array of numbers or a number, ``where`` does not hold booleans, or ``axis`` is not
        an int, a sequence of ints or None.
    ValueError
        If ``axis`` is out of range or names an axis twice, or the shapes do not broadcast.

    Notes
    -----
    The derivative with respect to a weight of 0 is that of the sum, exp(a_j) / sum_k b_k exp(a_k). `jax.nn.logsumexp`
    leaves such entries out, and its derivative is 0.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.jax import logsumexp
    >>> value, sign = logsumexp(jnp.asarray([1.0, 2.0]), b=jnp.asarray([1.0, -1.0]), return_sign=True)
    >>> f"{value:.4f}", float(sign)
    ('1.5413', -1.0)
    """
    a, axes, where = _floating(as_array("a", a)), _as_axis(axis), _as_mask(where)
    weights = None if b is None else as_array("b", b)
    if weights is not None:
        dtype = jnp.result_type(a, weights)
        a, weights = a.astype(dtype), weights.astype(dtype)
    is_complex = jnp.issubdtype(a.dtype, jnp.complexfloating)
    if where is not None and weights is not None:
        weights = jnp.where(where, weights, 0)
    elif where is not None and is_complex:
        a = jnp.where(where, a, -math.inf)
    elif where is not None:
        a = _broadcast(a, where)
    if names_no_axis(axes) or (a.ndim == 0 and axes is None and weights is None):  # every entry is a sum of its own
        a, weights, where = [None if array is None else array[..., None] for array in (a, weights, where)]
        axes, keepdims = -1, False
    options: Any = {"axis": axes, "keepdims": bool(keepdims), "return_sign": bool(return_sign)}
    found: Any
    if is_complex:
        found = complex_logsumexp(a, weights, **options)
    elif weights is not None:
        found = _weighted_logsumexp(a, weights, **options)
    else:
        found = _functions.logsumexp(a, axis=axes, keepdims=keepdims, where=where)
        if return_sign:
            found = (found, jnp.where(jnp.isnan(found), found, (found > -math.inf).astype(found.dtype)))
    return found  # type: ignore[no-any-return]


def as_array(name: str, x: Any) -> jax.Array:
    """A JAX array of what functions of JAX take: arrays, numbers and objects that convert themselves, but no lists."""
    if isinstance(x, jax.Array):
        return x
    if x is None or isinstance(x, list | tuple):
        raise TypeError(
            f"{name} must be an array or a number, got {type(x).__name__}: convert it first, for example with "
            f"jax.numpy.asarray({name})"
        )
    return jnp.asarray(x)


def _of_rows(function: Callable[..., jax.Array], x: Any, axis: Any, where: Any) -> jax.Array:
    x, axis, where = _floating(as_array("x", x)), _as_axis(axis), _as_mask(where)
    if where is not None:
        x = _broadcast(x, where)
    if names_no_axis(axis) or (axis is None and x.ndim == 0):  # every entry is a row of its own
        return function(x[..., None], axis=-1, where=None if where is None else where[..., None])[..., 0]
    return function(x, axis=axis, where=where)


def _floating(x: jax.Array) -> jax.Array:
    """Integers and booleans in the floating dtype that functions of JAX give them; it depends on their width."""
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jax.eval_shape(jnp.exp, x).dtype)


def _as_mask(where: Any) -> jax.Array | None:
    return None if where is None else as_array("where", where)


def _as_axis(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _broadcast(x: jax.Array, where: jax.Array) -> jax.Array:
    """The array with the shape that it and a mask broadcast to; the axes of the call are those of this shape."""
    shape = jnp.broadcast_shapes(x.shape, where.shape)
    return x if x.shape == shape else jnp.broadcast_to(x, shape)
