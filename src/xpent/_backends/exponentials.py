"""The sum of exponentials without its largest term, in the words that each library is quick at."""

from __future__ import annotations

import sys
from collections.abc import Callable

from xpent._backends.arrays import Array, are_eager, is_jax, is_numpy, namespace, put, take, visible

_GROUP = 512  # entries of a row that XLA sums at a time


def maximum(x: Array) -> tuple[Array, Array | None]:
    """The maximum of each row, (..., 1), and where it is first attained if that is known for nothing."""
    if not is_numpy(x):
        return namespace(x).max(x, axis=-1, keepdims=True), None
    first = x.argmax(axis=-1, keepdims=True)
    return take(x, first), first


def shift_and_exp(x: Array, shift: Array, first: Array | None, *, keeps_shifted: bool) -> tuple[Array, Array, Array]:
    """x - shift, exp(x - shift), and the sum of each row of it without its first 1, given where that is if known.

    The shift is the maximum of each row. What is not to be kept may be overwritten.
    """
    if not are_eager(x, shift):
        return _compiled(x, shift)
    xp, shifted = namespace(x), x - shift
    exp = xp.exp(shifted) if keeps_shifted else xp.exp(shifted, out=shifted)
    if first is not None:
        rest = xp.sum(put(exp, first, 0.0), axis=-1, keepdims=True)
        return shifted, put(exp, first, 1.0 + 0.0 * shift), rest
    sums = xp.sum(exp, axis=-1, keepdims=True)
    is_likely = sums < 1.5  # in other rows nothing cancels in sums - 1
    if visible(x) is None or is_likely.any():
        return shifted, exp, xp.where(is_likely, xp.sum(exp - xp.floor(exp), axis=-1, keepdims=True), sums - 1.0)
    return shifted, exp, sums - 1.0


def _compiled(x: Array, shift: Array) -> tuple[Array, Array, Array]:
    # Compilers do not vectorize comparisons, and write to memory what two sums share, were it a constant. So the terms
    # are multiplied by 1 for x < shift and 0 for x = shift, and the latter, which count 1, are counted in other words.
    xp, largest = namespace(x), float(namespace(x).finfo(x.dtype).max)

    def less(x: Array, shift: Array) -> Array:
        return _terms(x - shift) * xp.minimum((x - shift) * -largest, xp.ones_like(x))

    def equal(x: Array, shift: Array) -> Array:
        return xp.maximum(0.25 - (shift - x) * (0.25 * largest), xp.zeros_like(x))

    again = _apart(shift)
    unit = 2.0**-64 if is_jax(x) else 1.0
    rest = unit * _sum(less, x, shift) + (4.0 * _sum(equal, x, again) - 1.0)
    shifted = x - _apart(again)
    return shifted, xp.exp(shifted), rest


def _terms(x: Array) -> Array:
    """What is summed in place of exp(x) for x <= 0.

    XLA on a CPU flushes subnormal numbers to zero, which is fine for one exp(x) but not for a sum of many of them:
    there the terms are (2**32 exp(x / 2))**2, in units of 2**-64.
    """
    if not is_jax(x):
        return namespace(x).exp(x)
    root = 2.0**32 * namespace(x).exp(0.5 * x)
    return root * root


def _apart(x: Array) -> Array:
    """The same, but what is computed from it is not shared with what was computed before."""
    return sys.modules["jax"].lax.optimization_barrier(x) if is_jax(x) else x


def _sum(function: Callable[[Array, Array], Array], x: Array, shift: Array) -> Array:
    """The sum over each row of a function of its entries and the shift, (..., 1)."""
    xp, length = namespace(x), x.shape[-1]
    if not is_jax(x) or length <= 2 * _GROUP:
        return xp.sum(function(x, shift), axis=-1, keepdims=True)
    # XLA on a CPU is slow for long rows, and adds up one by one; in groups it is quick, and as exact as can be.
    group = max(n for n in range(1, _GROUP + 1) if length % n == 0)
    if group < 16:
        last = length - length % _GROUP
        return _sum(function, x[..., :last], shift) + _sum(function, x[..., last:], shift)
    groups = xp.reshape(x, (*x.shape[:-1], length // group, group))
    return xp.sum(_apart(xp.sum(function(groups, shift[..., None]), axis=-1)), axis=-1, keepdims=True)
