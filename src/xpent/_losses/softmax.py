"""softmax, log_softmax and logsumexp of rows, each followed by its derivatives.

With m the maximum of a row x, first attained at a, the term of a is 1 and is taken out of the sum, so that nothing
cancels (Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer. Anal.
41(4), 2021):

    r = sum over j != a of exp(x_j - m)    s = 1 + r    p_j = exp(x_j - m) / s    logsumexp(x) = m + log1p(r)

Masked classes have p = 0 and derivatives of 0, and so have fully masked rows, where m = -inf: a finite number is
subtracted there instead, and r = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from xpent._backends.base import Array, Backend
from xpent._engine.blocks import map_rows
from xpent._engine.layout import Axes, batch_shape, class_count
from xpent._engine.rule import Argnums, Residuals, Rule, without_residuals


class Constants(NamedTuple):
    """What is not differentiated."""

    where: Array | None = None


class Options(NamedTuple):
    """Hashable options, on which compiled programs are specialized."""

    axes: Axes
    keepdims: bool = True
    argnums: Argnums = ()
    rounds_gradients: bool = True  # read for losses only: softmax always has the dtype of the logits


class Rows(NamedTuple):
    """Rows of logits, and of what is known about them."""

    x: Array  # (..., C)
    mask: Array | None  # true for unmasked classes, (..., C)
    vector: Array | None = None  # a tangent or cotangent
    p: Array | None = None  # softmax(x)
    log_p: Array | None = None  # log_softmax(x)
    maximum: Array | None = None  # m, (..., 1)
    rest: Array | None = None  # r, (..., 1)


class _Shared(NamedTuple):
    pass


def masked_logits(backend: Backend, x: Array, mask: Array | None) -> Array:
    """Logits in the dtype to compute in, -inf for masked classes."""
    x = backend.as_computed(x)
    return x if mask is None else backend.xp.where(mask, x, -math.inf)


def broadcast_mask(backend: Backend, where: Array | None, x: Array) -> Array | None:
    """``where`` with an entry for every logit, without a copy."""
    return where if where is None or where.shape == x.shape else backend.broadcast_to(where, x.shape)


def centered(backend: Backend, v: Array, p: Array) -> Array:
    """v - sum(p v). The entry of v where p > 1/2 is subtracted from v first, so that nothing cancels as p nears 1."""
    v = v - backend.total(backend.xp.where(p > 0.5, v, 0.0))
    return v - backend.total(p * v)


def _probabilities(backend: Backend, rows: Rows, x: Array) -> Array:
    if rows.p is not None:
        return rows.p
    if rows.log_p is not None:
        return backend.xp.exp(rows.log_p)
    if rows.maximum is not None:
        rest: Array = rows.rest
        return backend.xp.exp(x - backend.shift(rows.maximum)) / (1.0 + rest)
    return softmax_of_rows(backend, x)


def _linear(backend: Backend, rows: Rows, *, has_classes: bool = True) -> tuple[Array, Array, Array]:
    """What a derivative, which is linear in the vector v, needs: softmax(x), v, and which classes are masked.

    v is 0 at masked classes, whatever it held there. Where it is 0 in a whole row, softmax(x) is not NaN.
    """
    xp, x = backend.xp, masked_logits(backend, rows.x, rows.mask)
    p, v, is_masked = _probabilities(backend, rows, x), backend.cast(rows.vector, x.dtype), x == -math.inf
    if backend.transposes_jvp or not backend.is_known_true(p[..., :1] == p[..., :1]):
        is_masked = is_masked & (p == p)  # all of a row of NaN is NaN
        if not backend.transposes_jvp:
            p = xp.where((p == p) | backend.any_of_row(v != 0.0), p, 0.5)
    return p, xp.where(is_masked, 0.0, v) if has_classes else v, is_masked


def _unless_masked(backend: Backend, y: Array, is_masked: Array, factor: Array | None = None) -> Array:
    """A derivative, set to 0 at masked classes unless the factor of their p = 0 is known to be finite."""
    # JAX transposes forward mode, and 0 times an infinite cotangent is NaN.
    is_zero = factor is not None and backend.is_known_true(backend.xp.isfinite(factor))
    return y if is_zero else backend.xp.where(is_masked, 0.0, y)


# softmax. The Jacobian diag(p) - p p^T is symmetric, so vjp and jvp are the same: p (v - sum(p v)).


def _softmax(backend: Backend, _: Any, rows: Rows, __: Any, out: Array | None) -> list[Array]:
    x = masked_logits(backend, rows.x, rows.mask)
    return [backend.softmax(x, out)]


def _softmax_derivative(backend: Backend, _: Any, rows: Rows, __: Any, ___: Any) -> list[Array]:
    p, v, is_masked = _linear(backend, rows)
    return [_unless_masked(backend, p * centered(backend, v, p), is_masked)]


# log_softmax: (x_j - m) - log1p(r). vjp: g - p sum(g), where p_j > 1/2: g_j sum_{k != j} p_k - p_j sum_{k != j} g_k.
# jvp: v - sum(p v).


def _log_softmax(backend: Backend, _: Any, rows: Rows, __: Any, out: Array | None) -> list[Array]:
    x = masked_logits(backend, rows.x, rows.mask)
    m, index = backend.first_maximum(x)
    m = backend.shift(m)
    d = backend.subtract(x, m, out)
    r = backend.rest_sum(x, m, index, d)
    return [backend.subtract(d, backend.xp.log1p(r), d)]


def _log_softmax_vjp(backend: Backend, _: Any, rows: Rows, __: Any, ___: Any) -> list[Array]:
    xp, (p, g, is_masked) = backend.xp, _linear(backend, rows)
    total, is_likely = backend.total(g), p > 0.5
    rest_g, rest_p = (backend.total(xp.where(is_likely, 0.0, y)) for y in (g, p))
    return [_unless_masked(backend, xp.where(is_likely, g * rest_p - p * rest_g, g - p * total), is_masked, total)]


def _log_softmax_jvp(backend: Backend, _: Any, rows: Rows, __: Any, ___: Any) -> list[Array]:
    p, v, is_masked = _linear(backend, rows)
    return [_unless_masked(backend, centered(backend, v, p), is_masked)]


# logsumexp: m + log1p(r). vjp: g p. jvp: sum(p v).


def _logsumexp(backend: Backend, keeps_statistics: bool, rows: Rows, _: Any, __: Any) -> list[Array]:
    x = masked_logits(backend, rows.x, rows.mask)
    m, index = backend.first_maximum(x)
    r = backend.rest_sum(x, backend.shift(m), index)
    value = backend.xp.where(backend.xp.isfinite(m), m + backend.xp.log1p(r), m)
    return [value, m, r] if keeps_statistics else [value]


def _logsumexp_vjp(backend: Backend, _: Any, rows: Rows, __: Any, ___: Any) -> list[Array]:
    p, g, is_masked = _linear(backend, rows, has_classes=False)
    return [_unless_masked(backend, g * p, is_masked, g)]


def _logsumexp_jvp(backend: Backend, _: Any, rows: Rows, __: Any, ___: Any) -> list[Array]:
    p, v, __ = _linear(backend, rows)
    return [backend.total(p * v)]


def _rule(
    value: Callable[..., list[Array]],
    vjp: Callable[..., list[Array]],
    jvp: Callable[..., list[Array]],
    residual: str,
    value_and_grad: Rule | None = None,
) -> Rule:
    """A rule for arrays of any layout from functions of rows.

    ``residual`` names the field of `Rows` that holds the value in the backward pass; "statistics" means that the value
    has one entry per row, and that m and r are kept instead.
    """
    reduces = residual == "statistics"

    def arrays(backend: Backend, x: Array, constants: Constants, **known: Array) -> Rows:
        return Rows(x, broadcast_mask(backend, constants.where, x), **known)

    def dtype_of_result(backend: Backend, x: Array) -> Any:
        return x.dtype if backend.is_floating(x) else backend.accumulation_dtype(x.dtype)

    def shape_of_value(x: Array, options: Options) -> tuple[int, ...]:
        if not reduces:
            return tuple(x.shape)
        if options.keepdims:
            return tuple([1 if a in options.axes else n for a, n in enumerate(x.shape)])
        return batch_shape(x.shape, options.axes)

    def evaluate(
        backend: Backend, kernel: Any, rows: Rows, options: Options, shapes: list[tuple[int, ...]], static: Any = None
    ) -> list[Array]:
        dtypes = [dtype_of_result(backend, rows.x), *[backend.accumulation_dtype(rows.x.dtype)] * 2]
        outputs = list(zip(shapes, dtypes, strict=False))
        if class_count(rows.x.shape, options.axes) == 0:  # the logarithm of an empty sum is -inf
            zeros = [backend.zeros(shape, dtype, rows.x) for shape, dtype in outputs]
            return zeros if kernel is not value else [y - math.inf for y in zeros]
        return map_rows(backend, kernel, static, rows, _Shared(), options.axes, outputs)

    def rule_value(backend: Backend, primals: tuple[Array], constants: Constants, options: Options) -> Array:
        (x,) = primals
        shapes = [shape_of_value(x, options)]
        return evaluate(backend, value, arrays(backend, x, constants), options, shapes, False)[0]

    def rule_vjp(
        backend: Backend,
        cotangents: tuple[Array],
        _: Argnums,
        primals: tuple[Array],
        constants: Constants,
        options: Options,
        **known: Array,
    ) -> tuple[Array]:
        (x,) = primals
        rows = arrays(backend, x, constants, vector=cotangents[0], **known)
        return (evaluate(backend, vjp, rows, options, [tuple(x.shape)])[0],)

    def rule_jvp(
        backend: Backend, tangents: tuple[Array], primals: tuple[Array], constants: Constants, options: Options
    ) -> tuple[Array, Array]:
        (x,) = primals
        rows = arrays(backend, x, constants, vector=tangents[0])
        (tangent,) = evaluate(backend, jvp, rows, options, [shape_of_value(x, options)])
        return rule(backend, primals, constants, options), tangent

    def forward(
        backend: Backend, _: Argnums, primals: tuple[Array], constants: Constants, options: Options
    ) -> tuple[Array, Residuals]:
        (x,) = primals
        if reduces:
            batch = batch_shape(x.shape, options.axes)
            shapes = [shape_of_value(x, options), batch, batch]
            y, *saved = evaluate(backend, value, arrays(backend, x, constants), options, shapes, True)
            return y, Residuals(tuple(saved))
        y = rule_value(backend, primals, constants, options)
        # A value in half precision is less accurate than what the derivatives are computed in.
        return y, Residuals((y,) if y.dtype == backend.accumulation_dtype(y.dtype) else ())

    def backward(backend: Backend, saved: tuple[Array, ...], *arguments: Any) -> tuple[Array, ...]:
        names = ("maximum", "rest") if reduces else (residual,)
        return rule_vjp(backend, *arguments, **dict(zip(names, saved, strict=False)))

    rule = Rule(rule_value, rule_vjp, rule_jvp, forward, backward, value_and_grad)
    return rule


SOFTMAX = _rule(_softmax, _softmax_derivative, _softmax_derivative, "p")
LOG_SOFTMAX = _rule(_log_softmax, _log_softmax_vjp, _log_softmax_jvp, "log_p")


def softmax_of_rows(backend: Backend, x: Array) -> Array:
    """Softmax of rows, differentiable to any order."""
    return SOFTMAX(backend, (x,), Constants(), Options((x.ndim - 1,)))


def logsumexp_of_rows(backend: Backend, x: Array) -> Array:
    """The log-sum-exp of rows, (..., 1), differentiable to any order."""
    return LOGSUMEXP(backend, (x,), Constants(), Options((x.ndim - 1,)))


# The gradient of logsumexp is softmax, so the two together need no other derivative.


def _both_value(backend: Backend, primals: tuple[Array], constants: Constants, options: Options) -> tuple[Array, ...]:
    rules = (LOGSUMEXP, *[SOFTMAX for _ in options.argnums])
    return tuple([rule.value(backend, primals, constants, options) for rule in rules])


def _both_vjp(
    backend: Backend, cotangents: tuple[Array | None, ...], argnums: Argnums, *arguments: Any
) -> tuple[Array]:
    parts = [
        rule.vjp(backend, (cotangent,), argnums, *arguments)[0]
        for rule, cotangent in zip((LOGSUMEXP, SOFTMAX), cotangents, strict=False)
        if cotangent is not None
    ]
    return (sum(parts),)


def _both_jvp(
    backend: Backend, tangents: tuple[Array], primals: tuple[Array], constants: Constants, options: Options
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    rules = (LOGSUMEXP, *[SOFTMAX for _ in options.argnums])
    pairs = [rule.jvp(backend, tangents, primals, constants, options) for rule in rules]
    return tuple([value for value, _ in pairs]), tuple([tangent for _, tangent in pairs])


LOGSUMEXP = _rule(
    _logsumexp,
    _logsumexp_vjp,
    _logsumexp_jvp,
    "statistics",
    without_residuals(_both_value, _both_vjp, _both_jvp),
)
