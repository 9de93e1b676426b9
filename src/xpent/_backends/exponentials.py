"""The sum of exponentials without its largest term, in the words that each library is quick at."""

from __future__ import annotations

import sys
from collections.abc import Callable

from xpent._backends.arrays import (
    Array,
    adds_one_by_one,
    empty,
    in_place,
    is_jax,
    is_numpy,
    namespace,
    opaque,
    put,
    take,
    visible,
)
from xpent._backends.rows import Index, parts, walk

_GROUP = 2048  # entries of a row that are summed at a time where they are added up one by one


def maximum(x: Array) -> tuple[Array, Array | None]:
    """The maximum of each row, (..., 1), and where it is first attained, None if that would take longer."""
    slices = parts(x)
    if slices is not None:
        first = _first_maximum(x, slices)
    elif is_numpy(x):
        first = x.argmax(axis=-1, keepdims=True)
    else:
        return namespace(x).max(x, axis=-1, keepdims=True), None
    return take(x, first), first


def shift_and_exp(
    x: Array, shift: Array, first: Array | None, *, keeps_shifted: bool, keeps_exp: bool
) -> tuple[Array | None, Array | None, Array]:
    """x - shift, exp(x - shift), and the sum of each row of it without the first 1, given where that is if known.

    The shift is the maximum of each row. What is not to be kept may be overwritten or None.
    """
    slices = None if first is None else parts(x)
    if slices is not None:
        return _in_parts(x, shift, first, slices, keeps_shifted=keeps_shifted, keeps_exp=keeps_exp)
    xp, shifted = namespace(x), x - shift
    exp = xp.exp(shifted) if keeps_shifted else in_place(xp.exp, shifted)
    if first is not None:
        exp = put(exp, first, 0.0)
        rest = xp.sum(exp, axis=-1, keepdims=True)
        return shifted, put(exp, first, 1.0 + 0.0 * shift) if keeps_exp else None, rest
    sums = _sum_of(exp, x, shift)
    # In other rows nothing cancels in sums - 1. In these one term is 1, but for its rounding where a compiler computes
    # x and its maximum in different words; all others together are less than 1/2.
    is_likely = sums < 1.5

    def without_largest() -> Array:
        if is_jax(x):
            rest = 2.0**-64 * _sum(_small_exp, x, shift)
        else:
            rest = xp.sum(exp * (1.0 - xp.floor(exp + 0.25)), axis=-1, keepdims=True)
        return xp.where(is_likely, rest, sums - 1.0)

    return shifted, exp, _if_any(is_likely, without_largest, lambda: sums - 1.0)


def exp_and_sum(x: Array, shift: Array) -> tuple[Array, Array]:
    """exp(x - shift) and the sum of each row of it."""
    slices = parts(x)
    if slices is not None:
        _, exp, sums = _in_parts(x, shift, None, slices, keeps_shifted=False, keeps_exp=True)
        return exp, sums
    exp = in_place(namespace(x).exp, x - shift)
    return exp, _sum_of(exp, x, shift)


# A row that is too long for a block. With one shift for all its parts, their sums merge by adding them up.


def _first_maximum(x: Array, slices: list[Index]) -> Array:
    xp, maxima = namespace(x), empty((*x.shape[:-1], len(slices)), x.dtype, x)

    def task(numbered: Index) -> None:
        number, part = numbered
        maxima[..., number] = xp.max(x[part], axis=-1)

    walk(task, list(enumerate(slices)), x)
    part = slices[int(xp.argmax(maxima))]
    return part[-1].start + xp.argmax(x[part], axis=-1, keepdims=True)


def _in_parts(
    x: Array, shift: Array, first: Array | None, slices: list[Index], *, keeps_shifted: bool, keeps_exp: bool
) -> tuple[Array | None, Array | None, Array]:
    xp = namespace(x)
    shifted, exp = [empty(x.shape, x.dtype, x) if keeps else None for keeps in (keeps_shifted, keeps_exp)]
    sums = empty((*x.shape[:-1], len(slices)), x.dtype, x)

    def task(numbered: Index) -> None:
        number, part = numbered
        kept, into = [None if array is None else array[part] for array in (shifted, exp)]
        y = xp.subtract(x[part], shift, out=into if kept is None else kept)
        y = xp.exp(y, out=y if kept is None else into)
        start = part[-1].start
        if first is not None and start <= first < start + y.shape[-1]:
            y = put(y, first - start, 0.0)
        sums[..., number] = xp.sum(y, axis=-1)

    walk(task, list(enumerate(slices)), x)
    if exp is not None and first is not None:
        exp = put(exp, first, 1.0 + 0.0 * shift)
    return shifted, exp, xp.sum(sums, axis=-1, keepdims=True)


def _sum_of(exp: Array, x: Array, shift: Array) -> Array:
    return _sum(_exp, x, shift) if adds_one_by_one(x) else namespace(x).sum(exp, axis=-1, keepdims=True)


def _if_any(condition: Array, then: Callable[[], Array], otherwise: Callable[[], Array]) -> Array:
    """What one of two functions returns; ``then`` also where that is not known before all is compiled."""
    if is_jax(condition):
        jax = sys.modules["jax"]
        return jax.lax.cond(jax.numpy.any(condition), then, otherwise)
    return then() if visible(condition) is None or namespace(condition).any(condition) else otherwise()


def _exp(x: Array, shift: Array) -> Array:
    return namespace(x).exp(x - shift)


def _small_exp(x: Array, shift: Array) -> Array:
    """2**64 exp(x - shift), and 0 where x is about shift rather than below shift - log(2).

    XLA on a CPU flushes subnormal numbers to zero, which is fine for one exponential but not for a sum of many: so it
    is the square of 2**32 exp((x - shift) / 2).
    """
    xp = namespace(x)
    root = 2.0**32 * xp.exp(0.5 * (x - shift))
    return xp.where(x - shift < -0.25, root * root, 0.0)


def _sum(function: Callable[[Array, Array], Array], x: Array, shift: Array) -> Array:
    """The sum over each row of a function of its entries and the shift, (..., 1), in groups, as exact as can be."""
    xp, length, group = namespace(x), x.shape[-1], _GROUP
    if length <= group:
        return xp.sum(function(x, shift), axis=-1, keepdims=True)
    if is_jax(x):  # a length that torch.compile keeps open has no divisors
        largest = max(n for n in range(1, group + 1) if length % n == 0)
        group = group if largest < 16 else largest
    last = length - length % group
    groups = xp.reshape(x[..., :last], (*x.shape[:-1], length // group, group))
    sums = opaque(xp.sum(function(groups, shift[..., None]), axis=-1))
    in_groups = xp.sum(sums, axis=-1, keepdims=True)
    if is_jax(x) and last == length:
        return in_groups
    return in_groups + xp.sum(function(x[..., last:], shift), axis=-1, keepdims=True)
