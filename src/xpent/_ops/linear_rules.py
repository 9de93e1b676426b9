"""The rules of linear cross-entropy: a linear layer and the loss of its outputs, in blocks of rows.

With features X (N, D), weight W (C, D) and bias b (C), the raw logits are r = X W^T + b, and the logits r or, with a
softcap c, c tanh(r / c), of slope 1 / cosh(r / c)**2 = 4 e / (1 + e)**2 with e = exp(-2 |r / c|). With G the gradient
of the loss with respect to r,

    dX = G W    dW = G^T X    db = sum over rows of G

A block of rows has its logits made, turned into G where they lie, and forgotten: all of them never exist at once.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpent._backends.arrays import (
    Array,
    accumulation_dtype,
    are_eager,
    cast,
    in_place,
    is_array,
    matmul,
    namespace,
    transposes_jvp,
    zeros,
)
from xpent._backends.differentiable import Rule, Wanted
from xpent._backends.rows import add_product, fold, rows_of_block
from xpent._ops.cross_entropy_rules import CROSS_ENTROPY, LOSS_AND_GRADIENT, Problem, losses_and_gradients, pose
from xpent._ops.layout import over_rows

FEATURES, WEIGHT, TARGETS, BIAS = range(4)  # positions of the primals, of which the bias may be missing

Tangents = tuple[Array | None, ...]
Options = dict[str, Any]


def _as_rows(features: Array, weight: Array, targets: Array, options: Options) -> tuple[Array, Array, Options]:
    """Features (N, D), targets (N,) or (N, C), and the keywords of cross-entropy for logits (N, C)."""
    xp, (*batch, depth), sample_weight = namespace(features), features.shape, options["sample_weight"]
    count, classes = math.prod(batch), (weight.shape[0],) if targets.ndim == features.ndim else ()
    if sample_weight is not None:
        sample_weight = xp.reshape(sample_weight, (count,))
    options = {**options, "sample_weight": sample_weight, "axes": (1,), "where": None}
    return xp.reshape(features, (count, depth)), xp.reshape(targets, (count, *classes)), options


def _affine(x: Array, weight: Array, bias: Array | None) -> Array:
    raw = matmul(x, weight.T)
    return raw if bias is None else in_place(namespace(x).add, raw, bias)


def _cap(raw: Array, softcap: float | None) -> Array:
    if softcap is None:
        return raw
    xp, is_nan = namespace(raw), raw != raw
    return softcap * xp.tanh(xp.where(is_nan, 0.0, raw) / softcap) + xp.where(is_nan, raw, 0.0)


def _times_slope(v: Array, raw: Array, softcap: float | None) -> Array:
    """Times d logits / d raw, which is 0 where raw is not finite: G is 0 or NaN there, or the cap is reached."""
    if softcap is None:
        return v
    xp = namespace(raw)
    e = xp.exp(-2.0 * abs(_finite(raw) / softcap))  # so that no derivative overflows either
    return v * xp.where(xp.isfinite(raw), 4.0 * e / (1.0 + e) ** 2, 0.0)


def _finite(x: Array) -> Array:
    """0 where it is not finite: the row is not counted, and its G is 0, or broken, and its G is NaN."""
    xp = namespace(x)
    return xp.where(xp.isfinite(x), x, 0.0)


def _times_weight(g: Array, weight: Array) -> Array:
    """G W in the dtype of G, multiplied in that of the weight, in which entries of G may be too small to exist."""
    if weight.dtype == g.dtype:
        return matmul(g, weight)
    xp = namespace(g)
    largest = xp.max(abs(g), axis=-1, keepdims=True)
    largest = xp.where(largest == 0.0, 1.0, largest)
    return cast(matmul(cast(g / largest, weight.dtype), weight), g.dtype) * largest


def _of_rows(
    problem: Problem, softcap: float | None, inner: Wanted, cotangent: Array | None, raw: Array, *rest: Array | None
) -> list[Array]:
    """Loss of every row, and its G times a cotangent."""
    raw = cast(raw, accumulation_dtype(raw))
    loss, *gradients = losses_and_gradients(problem, inner, cotangent, _cap(raw, softcap), *rest)
    return [loss, *[_times_slope(gradient, raw, softcap) for gradient in gradients]]


def _loss_and_gradients(
    features: Array,
    weight: Array,
    targets: Array,
    bias: Array | None = None,
    *,
    wanted: Wanted,
    softcap: float | None,
    block_size: int | None,
    cotangent: Array | None = None,
    **options: Any,
) -> tuple[Array, ...]:
    """The loss, and gradients times a cotangent, in the dtype computed in."""
    if cotangent is not None and options["reduction"] == "none":
        cotangent = namespace(cotangent).reshape(cotangent, (-1,))
    if TARGETS in wanted:
        layer = _layer(features, weight, targets, bias, softcap=softcap, block_size=block_size, **options)
        found = LOSS_AND_GRADIENT.value(
            layer.logits, layer.targets, wanted=_inner(wanted), cotangent=cotangent, **layer.options
        )
        return _with_batch(found[0], features, options), *_of_layer(layer, found[1:], wanted)
    x, t, options = _as_rows(features, weight, targets, options)
    xp, dtype, (classes, depth) = namespace(x), accumulation_dtype(x), weight.shape
    # In place of the logits, a view or what is compiled away: only its shape and dtype are looked at.
    problem = pose(xp.broadcast_to(x[:, :1], (x.shape[0], classes)), t, **options)
    of_row, of_all = (None, cotangent) if problem.is_reduced else (cotangent, None)
    inner, summed = (0,) if wanted else (), [i for i in wanted if i != FEATURES]
    of_rows = functools.partial(_of_rows, problem, softcap, inner, of_all)

    def of_block(sums: list[Array], x: Array, *others: Array | None) -> tuple[list[Array], list[Array]]:
        raw = _affine(x, weight, bias)
        outputs = [((x.shape[0],), dtype), *[(tuple(raw.shape), dtype) for _ in inner]]
        loss, *found = over_rows(of_rows, raw, (None, *others), (1,), outputs, overwrites=True)
        for g in found:
            sums = [
                add_product(total, g.T, cast(_finite(x), dtype)) if i == WEIGHT else total + xp.sum(g, axis=0)
                for i, total in zip(summed, sums, strict=True)
            ]
        return sums, [loss, *[_times_weight(g, weight) for g in found if FEATURES in wanted]]

    shapes = {WEIGHT: (classes, depth), BIAS: (classes,)}
    sums, (losses, *of_features) = fold(
        of_block,
        [zeros(shapes[i], dtype, x) for i in summed],
        x,
        [*problem.others[1:], of_row],
        rows_of_block(x, classes, block_size),
        [weight, bias, *[a for a in (problem.class_weight, problem.scale, of_all) if is_array(a)]],
    )
    gradients = dict(zip(summed, sums, strict=True))
    for gradient in of_features:
        gradients[FEATURES] = xp.reshape(gradient, features.shape)
    loss = xp.sum(losses) if problem.is_reduced else losses
    return _with_batch(loss, features, options), *[gradients[i] for i in wanted]


def _value(*primals: Array, **keywords: Any) -> Array:
    return _loss_and_gradients(*primals, wanted=(), **keywords)[0]


class _Layer(NamedTuple):
    """The layer with all its logits at once, for what needs them more than once."""

    primals: tuple[Array, Array, Array, Array | None]
    x: Array  # features (N, D)
    targets: Array  # (N,) or (N, C)
    raw: Array  # (N, C)
    logits: Array  # (N, C)
    softcap: float | None
    options: Options  # of cross-entropy


def _layer(
    features: Array,
    weight: Array,
    targets: Array,
    bias: Array | None = None,
    *,
    softcap: float | None,
    block_size: int | None,
    **options: Any,
) -> _Layer:
    del block_size
    x, t, options = _as_rows(features, weight, targets, options)
    raw = _raw(x, weight, bias)
    return _Layer((features, weight, targets, bias), x, t, raw, _cap(raw, softcap), softcap, options)


def _raw(x: Array, weight: Array, bias: Array | None) -> Array:
    """Raw logits whose derivatives, which the library may take, are finite where G is 0: NaN is added afterwards."""
    xp = namespace(x)
    raw = _affine(_finite(x), weight, bias)
    is_broken = xp.any(~xp.isfinite(x), axis=-1, keepdims=True)
    raw = cast(raw, accumulation_dtype(raw))
    return raw + xp.where(is_broken, math.nan, xp.zeros_like(raw[:, :1]))


def _with_batch(loss: Array, features: Array, options: Options) -> Array:
    return loss if options["reduction"] != "none" else namespace(loss).reshape(loss, features.shape[:-1])


def _inner(wanted: Wanted) -> Wanted:
    """The positions, of logits (0) and targets (1), of the gradients that those of the primals are made of."""
    return (*[0] * any(i != TARGETS for i in wanted), *[1] * (TARGETS in wanted))


def _products(g: Array, x: Array | None, weight: Array | None, wanted: Wanted) -> dict[int, Array]:
    """G W, G^T X, and the sum of G over its rows."""
    products = {}
    if FEATURES in wanted and weight is not None:
        products[FEATURES] = matmul(g, cast(weight, g.dtype))
    if WEIGHT in wanted and x is not None:
        products[WEIGHT] = matmul(g.T, cast(x, g.dtype))
    if BIAS in wanted:
        products[BIAS] = namespace(g).sum(g, axis=0)
    return products


def _of_layer(layer: _Layer, found: Sequence[Array], wanted: Wanted) -> list[Array]:
    """Gradients with respect to the primals, from those `_inner` names."""
    inner = dict(zip(_inner(wanted), found, strict=True))
    gradients = {} if 1 not in inner else {TARGETS: inner[1]}
    if 0 in inner:
        g = _times_slope(inner[0], layer.raw, layer.softcap)
        gradients |= _products(g, _finite(layer.x), layer.primals[WEIGHT], wanted)
    return _shaped(gradients, layer, wanted)


def _shaped(gradients: dict[int, Array], layer: _Layer, wanted: Wanted) -> list[Array]:
    """Gradients in the shapes of their primals."""
    features, weight, targets, _ = layer.primals
    shapes = {FEATURES: features.shape, WEIGHT: weight.shape, TARGETS: targets.shape, BIAS: weight.shape[:1]}
    return [namespace(layer.x).reshape(gradients[i], shapes[i]) for i in wanted]


def _gradient_product(g: Array, needed: Wanted, *primals: Array, **keywords: Any) -> list[Array]:
    """The gradients times the cotangent of the loss."""
    if are_eager(g, *primals, *[array for array in keywords.values() if is_array(array)]):
        return list(LINEAR_LOSS_AND_GRADIENTS.value(*primals, wanted=needed, cotangent=g, **keywords)[1:])
    if keywords["reduction"] != "none":
        _, *gradients = LINEAR_LOSS_AND_GRADIENTS(*primals, wanted=needed, **keywords)
        return [cast(g, gradient.dtype) * gradient for gradient in gradients]
    layer = _layer(*primals, **keywords)
    rows = namespace(g).reshape(g, (-1,))
    found = CROSS_ENTROPY.vjp((rows,), _inner(needed), layer.logits, layer.targets, **layer.options)
    return _of_layer(layer, found, needed)


def _vjp(cotangents: tuple[Array], needed: Wanted, *primals: Array, **keywords: Any) -> tuple[Array, ...]:
    products = _gradient_product(cotangents[0], needed, *primals, **keywords)
    return tuple([cast(product, primals[i].dtype) for i, product in zip(needed, products, strict=True)])


class _Moved(NamedTuple):
    """Tangents in rows, None for what does not move."""

    x: Array | None
    weight: Array | None
    targets: Array | None
    bias: Array | None


def _moved(tangents: Tangents, x: Array, targets: Array) -> _Moved:
    of_features, of_weight, of_targets, *of_bias = tangents
    xp = namespace(x)
    return _Moved(
        None if of_features is None else xp.reshape(of_features, x.shape),
        of_weight,
        None if of_targets is None else xp.reshape(of_targets, targets.shape),
        of_bias[0] if of_bias else None,
    )


def _change(moved: _Moved, x: Array, weight: Array, raw: Array) -> Array | None:
    """dr = dX W^T + X dW^T + db, in the dtype of r."""
    parts = [] if moved.x is None else [matmul(cast(moved.x, raw.dtype), cast(weight, raw.dtype).T)]
    parts += [] if moved.weight is None else [matmul(cast(_finite(x), raw.dtype), cast(moved.weight, raw.dtype).T)]
    parts += [] if moved.bias is None else [namespace(x).zeros_like(raw) + cast(moved.bias, raw.dtype)]
    return functools.reduce(operator.add, parts) if parts else None


def _jvp(tangents: Tangents, *primals: Array, **keywords: Any) -> tuple[Array, Array]:
    features, weight, targets, *bias = primals
    xp = namespace(features)
    if keywords["reduction"] != "none" and transposes_jvp(features):
        moving = tuple([i for i, tangent in enumerate(tangents) if tangent is not None])
        loss, *gradients = LINEAR_LOSS_AND_GRADIENTS(*primals, wanted=moving, **keywords)
        # What moves in a row that is not counted may be NaN.
        moved = [xp.where(g == 0.0, 0.0, cast(tangents[i], g.dtype)) for i, g in zip(moving, gradients, strict=True)]
        return loss, functools.reduce(operator.add, [xp.sum(v * g) for v, g in zip(moved, gradients, strict=True)])
    softcap, block_size = keywords.pop("softcap"), keywords.pop("block_size")
    x, t, options = _as_rows(features, weight, targets, keywords)
    is_reduced = options["reduction"] != "none"
    of = _moved(tangents, x, t)

    def of_block(
        _: list[Array], x: Array, of_x: Array | None, t: Array, of_t: Array | None, sample_weight: Array | None
    ) -> tuple[list[Array], list[Array]]:
        raw = _raw(x, weight, *(bias or [None]))
        change = _change(of._replace(x=of_x), x, weight, raw)
        of_logits = None if change is None else _times_slope(change, raw, softcap)
        weighed = {**options, "sample_weight": sample_weight}
        return [], list(CROSS_ENTROPY.jvp((of_logits, of_t), _cap(raw, softcap), t, **weighed))

    others = [of.x, t, of.targets, options["sample_weight"]]
    rows = x.shape[0] if is_reduced else rows_of_block(x, weight.shape[0], block_size)
    shared = [weight, *bias, of.weight, of.bias, options["class_weight"]]
    _, (loss, change) = fold(of_block, [], x, others, max(1, rows), shared)
    return _with_batch(loss, features, options), _with_batch(change, features, options)


# Second order, for a change dr of the raw logits: with dG that of the gradient with respect to the logits, and the
# slope s of the softcap, d(G s) = (dG - G 2 tanh(r / c) / c dr) s.


def _hessian_product(tangents: Tangents, wanted: Wanted, *primals: Array, **keywords: Any) -> list[Array]:
    layer = _layer(*primals, **keywords)
    raw, softcap = layer.raw, layer.softcap
    of = _moved(tangents, layer.x, layer.targets)
    change = _change(of, layer.x, layer.primals[WEIGHT], raw)
    of_logits = None if change is None else _times_slope(change, raw, softcap)
    inner = (0, 1) if TARGETS in wanted else (0,)
    (_, g, *_), (_, dg, *of_targets) = LOSS_AND_GRADIENT.jvp(
        (of_logits, of.targets), layer.logits, layer.targets, wanted=inner, **layer.options
    )
    xp = namespace(g)
    if softcap is not None and change is not None:
        dg = dg - (2.0 / softcap) * xp.tanh(_finite(raw) / softcap) * g * xp.where(g == 0.0, 0.0, change)
    dg, g = _times_slope(dg, raw, softcap), _times_slope(g, raw, softcap)
    products = _products(dg, _finite(layer.x), layer.primals[WEIGHT], wanted)
    of_x = of.x if of.x is None else xp.where(xp.any(g != 0.0, axis=-1, keepdims=True), of.x, 0.0)
    for i, more in _products(g, of_x, of.weight, tuple([i for i in wanted if i != BIAS])).items():
        products[i] = products[i] + more
    if of_targets:
        products[TARGETS] = of_targets[0]
    return _shaped(products, layer, wanted)


def _both_vjp(
    cotangents: tuple[Array | None, ...], needed: Wanted, *primals: Array, wanted: Wanted, **keywords: Any
) -> tuple[Array, ...]:
    of_loss, *of_gradients = cotangents
    parts = []
    if of_loss is not None:
        parts.append(_gradient_product(of_loss, needed, *primals, **keywords))
    if any(u is not None for u in of_gradients):
        given = dict(zip(wanted, of_gradients, strict=True))
        parts.append(_hessian_product(tuple([given.get(i) for i in range(4)]), needed, *primals, **keywords))
    return tuple([cast(sum(part), primals[i].dtype) for i, *part in zip(needed, *parts, strict=True)])


def _both_jvp(
    tangents: Tangents, *primals: Array, wanted: Wanted, **keywords: Any
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    values = LINEAR_LOSS_AND_GRADIENTS(*primals, wanted=wanted, **keywords)
    _, change = _jvp(tangents, *primals, **keywords)
    return values, (change, *_hessian_product(tangents, wanted, *primals, **keywords))


def _keeps_gradients(wanted: Wanted, *_: Array, reduction: str, **__: Any) -> bool:
    return reduction != "none" and TARGETS not in wanted


LINEAR_LOSS_AND_GRADIENTS = Rule(_loss_and_gradients, _both_vjp, _both_jvp)
LINEAR_CROSS_ENTROPY = Rule(_value, _vjp, _jvp, LINEAR_LOSS_AND_GRADIENTS, _keeps_gradients)
