"""logsumexp, log_softmax and softmax, each followed by its derivatives.

In a row x with maximum m, the first maximum a is taken out of the sum, so that nothing cancels (Blanchard, Higham and
Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer. Anal. 41(4), 2021):

    e_j = exp(x_j - m)    rest = sum over j != a of e_j    p_j = e_j / (1 + rest)    log sum exp = m + log1p(rest)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xpent._backends.arrays import (
    Array,
    accumulation_dtype,
    cast,
    class_indices,
    in_place,
    is_floating,
    namespace,
    quiet,
)
from xpent._backends.differentiable import Call, Rule, Wanted, differentiable
from xpent._backends.exponentials import exp_and_sum, maximum, shift_and_exp
from xpent._ops.layout import Axis, check_logits, masked, of_rows, rule_of_rows, to_rows, total


class Peak(NamedTuple):
    """Rows split at their first maximum; a row without a finite maximum is NaN but in ``maximum``."""

    maximum: Array  # m, (..., 1)
    shift: Array  # m, or NaN where it is not finite, (..., 1)
    shifted: Array | None  # x_j - m, (..., C), where kept
    exp: Array | None  # e_j, (..., C), where kept
    rest: Array  # (..., 1)


def split(x: Array, *, keeps_shifted: bool = False, keeps_exp: bool = False) -> Peak:
    """Split rows, which have their classes last, at their first maximum."""
    highest, first = maximum(x)
    shift = _finite(highest)
    parts = shift_and_exp(x, shift, first, keeps_shifted=keeps_shifted, keeps_exp=keeps_exp)
    return Peak(highest, shift, *parts)


def _finite(x: Array) -> Array:
    """NaN where it is not finite; were NaN a constant, torch.compile would not see what two passes share."""
    return x + 0.0 * x


def centred(v: Array, p: Array) -> Array:
    """v less that of a class with p_a > 1/2: a shift changes nothing, but now nothing cancels where p_a is almost 1."""
    return v - total(namespace(p).where(p > 0.5, v, 0.0))


# dp_j = p_j (dx_j - sum_k p_k dx_k); the Jacobian diag(p) - p p^T is symmetric, so that vjp and jvp are one.
# A shift of all dx_j changes nothing: from dx_j - dx_a nothing cancels, for the other terms are small.


def _softmax_value(x: Array) -> Array:
    exp, sums = exp_and_sum(x, _finite(maximum(x)[0]))
    return in_place(namespace(x).divide, exp, sums)


def _softmax_derivative(v: Array, x: Array) -> Array:
    y = of_rows(SOFTMAX, x)
    v = centred(masked(v, x), y)
    return y * (v - total(y * v))


SOFTMAX = rule_of_rows(_softmax_value, vjp=_softmax_derivative, jvp=_softmax_derivative)


# d log p_j = dx_j - sum_k p_k dx_k, 0 for an impossible class, whose log p stays -inf. Backward g_j - p_j sum_k g_k,
# and where p_j is more than 1/2, so that 1 - p_j could cancel, g_j sum_{k != j} p_k - p_j sum_{k != j} g_k.


def _log_softmax_value(x: Array) -> Array:
    xp, peak = namespace(x), split(x, keeps_shifted=True)
    return in_place(xp.subtract, peak.shifted, xp.log1p(peak.rest))


def _log_softmax_vjp(g: Array, x: Array) -> Array:
    xp, g, p = namespace(x), masked(g, x), of_rows(SOFTMAX, x)
    is_likely = p > 0.5
    rest_g, rest_p = (total(xp.where(is_likely, 0.0, y)) for y in (g, p))
    return xp.where(is_likely, g * rest_p - p * rest_g, g - p * total(g))


def _log_softmax_jvp(v: Array, x: Array) -> Array:
    p = of_rows(SOFTMAX, x)
    v = centred(masked(v, x), p)
    return masked(v - total(p * v), x)


LOG_SOFTMAX = rule_of_rows(_log_softmax_value, _log_softmax_vjp, _log_softmax_jvp)


# d log sum exp = sum_k p_k dx_k.


def _logsumexp_value(x: Array) -> Array:
    xp, peak = namespace(x), split(x)
    return xp.where(xp.isfinite(peak.maximum), peak.maximum + xp.log1p(peak.rest), peak.maximum)


def _logsumexp_vjp(g: Array, x: Array) -> Array:
    return g * of_rows(SOFTMAX, x)


def _logsumexp_jvp(v: Array, x: Array) -> Array:
    return total(of_rows(SOFTMAX, x) * masked(v, x))


# The gradient of logsumexp is softmax, so that the two of them together need no derivative that is not above.


def _per_class(layout: dict[str, Any]) -> dict[str, Any]:
    return {**layout, "keepdims": True}


def _both_value(x: Array, *, wanted: Wanted, **layout: Any) -> tuple[Array, ...]:
    return (LOGSUMEXP.value(x, **layout), *[SOFTMAX.value(x, **_per_class(layout)) for _ in wanted])


def _both_vjp(
    cotangents: tuple[Array | None, ...], needed: Wanted, x: Array, *, wanted: Wanted, **layout: Any
) -> tuple[Array]:
    of_value, *of_gradient = cotangents
    parts = [] if of_value is None else [LOGSUMEXP.vjp((of_value,), needed, x, **layout)]
    for _, u in zip(wanted, of_gradient, strict=True):
        if u is not None:
            parts.append(SOFTMAX.vjp((u,), needed, x, **_per_class(layout)))
    return (sum([gradient for (gradient,) in parts]),)


def _both_jvp(
    tangents: tuple[Array], x: Array, *, wanted: Wanted, **layout: Any
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    pairs = [LOGSUMEXP.jvp(tangents, x, **layout), *[SOFTMAX.jvp(tangents, x, **_per_class(layout)) for _ in wanted]]
    return tuple([value for value, _ in pairs]), tuple([tangent for _, tangent in pairs])


LOGSUMEXP = rule_of_rows(
    _logsumexp_value, _logsumexp_vjp, _logsumexp_jvp, Rule(_both_value, _both_vjp, _both_jvp), reduces=True
)


@differentiable
def softmax(x: Array, /, *, axis: Axis = -1, where: Array | None = None) -> Call:
    """Softmax, the probabilities p_j = exp(x_j) / sum_k exp(x_k).

    Parameters
    ----------
    x : array of real numbers
        Logits. float16 and bfloat16 are computed in float32, integers and booleans in the default floating dtype.
    axis : int, tuple of ints or None
        The axes of the classes; None means all of them.
    where : array of booleans, optional
        Broadcastable to the shape of ``x``. A class that is not in is impossible, as if its logit were -inf.

    Returns
    -------
    array
        Shape of ``x``; its dtype, or the default floating dtype for integers and booleans. Every row sums to one; a
        row that holds NaN or +inf, or no possible class, is NaN.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers, ``where`` not one of booleans, or the two come from two libraries.
    ValueError
        If ``axis`` names no class, or ``where`` does not broadcast.

    Notes
    -----
    p_j = exp(x_j - m) / (1 + rest), where m is the maximum and rest sums exp(x_k - m) over all classes but the first
    that attains it: Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> xpent.softmax(np.asarray([1.0, 2.0, 3.0])).round(8)
    array([0.09003057, 0.24472847, 0.66524096])
    """
    axes = check_logits(x, axis, where)
    return Call(SOFTMAX, (x,), {"axes": axes, "where": where, "keepdims": True})


@differentiable
def log_softmax(x: Array, /, *, axis: Axis = -1, where: Array | None = None) -> Call:
    """Logarithm of softmax, log p_j = x_j - log sum_k exp(x_k), in nats.

    Parameters
    ----------
    x : array of real numbers
        Logits. float16 and bfloat16 are computed in float32, integers and booleans in the default floating dtype.
    axis : int, tuple of ints or None
        The axes of the classes; None means all of them.
    where : array of booleans, optional
        Broadcastable to the shape of ``x``. A class that is not in is impossible, as if its logit were -inf.

    Returns
    -------
    array
        Shape of ``x``; its dtype, or the default floating dtype for integers and booleans. -inf for an impossible
        class; a row that holds NaN or +inf, or no possible class, is NaN.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers, ``where`` not one of booleans, or the two come from two libraries.
    ValueError
        If ``axis`` names no class, or ``where`` does not broadcast.

    Notes
    -----
    log p_j = (x_j - m) - log1p(rest), where m is the maximum and rest sums exp(x_k - m) over all classes but the first
    that attains it: Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> xpent.log_softmax(np.asarray([0.0, 50.0]))
    array([-5.00000000e+01, -1.92874985e-22])
    """
    axes = check_logits(x, axis, where)
    return Call(LOG_SOFTMAX, (x,), {"axes": axes, "where": where, "keepdims": True})


@differentiable
def logsumexp(x: Array, /, *, axis: Axis = -1, keepdims: bool = False, where: Array | None = None) -> Call:
    """Logarithm of a sum of exponentials, log sum_j exp(x_j), in nats.

    Parameters
    ----------
    x : array of real numbers
        float16 and bfloat16 are computed in float32, integers and booleans in the default floating dtype.
    axis : int, tuple of ints or None
        The axes summed over; None means all of them.
    keepdims : bool
        Whether to keep the axes summed over, as axes of length one.
    where : array of booleans, optional
        Broadcastable to the shape of ``x``. What is not in is left out of the sum.

    Returns
    -------
    array
        Shape of ``x`` without ``axis`` (of length one with ``keepdims``); its dtype, or the default floating dtype for
        integers and booleans. NaN if a NaN is in the sum, else +inf if a +inf is, and -inf for a sum of zeros, where
        the gradient is NaN.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers, ``where`` not one of booleans, or the two come from two libraries.
    ValueError
        If ``axis`` names nothing to sum over, or ``where`` does not broadcast.

    Notes
    -----
    m + log1p(rest), where m is the maximum and rest sums exp(x_k - m) over all entries but the first that attains it:
    Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> float(xpent.logsumexp(np.asarray([1000.0, 1000.0])))
    1000.6931471805599
    """
    axes = check_logits(x, axis, where)
    is_scalar = len(axes) == x.ndim and not keepdims
    return Call(LOGSUMEXP, (x,), {"axes": axes, "where": where, "keepdims": bool(keepdims)}, is_scalar)


def softmax_jacobian(x: Array, /, *, axis: int = -1) -> Array:
    """Jacobian of softmax, dp_i / dx_j = p_i (1 - p_i) on the diagonal and -p_i p_j off it.

    Parameters
    ----------
    x : array of real numbers
        Logits with C classes along ``axis``.
    axis : int
        The axis of the classes.

    Returns
    -------
    array
        Shape of ``x`` without ``axis``, followed by (C, C); the dtype softmax returns.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers or ``axis`` is not an int.
    ValueError
        If ``x`` has no such axis, or no class along it.

    Notes
    -----
    diag(p) - p p^T. Where p_i is more than 1/2, 1 - p_i is the sum of the other probabilities, which loses nothing.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> xpent.softmax_jacobian(np.asarray([0.0, 0.0]))
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    if not isinstance(axis, int):
        raise TypeError(f"axis must be an int, got {axis!r}")
    axes = check_logits(x, axis, None)
    xp = namespace(x)
    rows = to_rows(cast(x, accumulation_dtype(x)), axes)
    with quiet(x):
        p = of_rows(SOFTMAX, rows)
    index, is_likely = class_indices(rows), p > 0.5
    complement = xp.where(is_likely, total(xp.where(is_likely, 0.0, p)), 1.0 - p)
    jacobian = xp.where(index[:, None] == index, (p * complement)[..., None], -p[..., :, None] * p[..., None, :])
    return cast(jacobian, x.dtype if is_floating(x) else rows.dtype)
