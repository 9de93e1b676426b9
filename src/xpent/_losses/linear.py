"""Cross-entropy of a linear layer, in blocks of rows.

With features X (N, D), weight W (C, D) and bias b (C), the raw logits are r = X W^T + b, and the logits are r or, with
a softcap c, c tanh(r / c). With G the gradient of the loss with respect to r, that is, the gradient with respect to the
logits times the slope of the softcap,

    slope = 1 / cosh(r / c)**2 = 4 e / (1 + e)**2    with e = exp(-2 |r / c|)
    dX = G W    dW = G^T X    db = sum over rows of G

For each block of rows the logits are computed, their memory is reused for their gradient if arrays can be written to,
and both are freed, so that all logits never exist at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpent._backends.base import Array, Backend, DType
from xpent._engine.blocks import accumulate_blocks, map_rows
from xpent._engine.rule import Argnums, Residuals, without_residuals
from xpent._losses import cross_entropy, targets
from xpent._losses.cross_entropy import CROSS_ENTROPY, LOSS_AND_GRADIENTS, Shared, Static, Tangents, is_zero
from xpent._losses.targets import Scale

FEATURES, WEIGHT, TARGETS, BIAS = range(4)  # positions of the primals, of which the bias may be missing

Primals = tuple[Array, ...]


class Constants(NamedTuple):
    """Arguments that are not differentiated: arrays or numbers, None if not given."""

    class_weight: Array | None
    sample_weight: Array | None
    label_smoothing: Scale | None
    z_loss: Scale | None
    normalizer: Scale | None
    softcap: Scale | None


class Options(NamedTuple):
    """Hashable options, on which compiled programs are specialized."""

    ignore_index: int | None
    is_checked: bool
    reduction: str
    block_size: int | None
    dtype: DType  # in which features and weight are multiplied, and the bias is added
    argnums: Argnums = ()
    rounds_gradients: bool = False  # read for the loss of logits only: sums over rows are rounded at the end


class Layer(NamedTuple):
    """A call with its batch axes flattened to one, and its layer in one dtype."""

    x: Array  # features (N, D)
    weight: Array  # (C, D)
    targets: Array  # (N,) or (N, C)
    bias: Array | None  # (C,)
    softcap: Scale | None
    constants: targets.Constants  # of the cross-entropy of the logits (N, C)
    options: targets.Options


def flatten(backend: Backend, primals: Primals, constants: Constants, options: Options) -> Layer:
    """The call with its batch axes flattened to one, and its layer in one dtype."""
    features, weight, t, *bias = primals
    features, weight, *bias = [backend.cast(y, options.dtype) for y in (features, weight, *bias)]
    xp, (*batch, depth) = backend.xp, features.shape
    count, classes = math.prod(batch), (weight.shape[0],) if t.ndim == features.ndim else ()
    sample_weight = constants.sample_weight
    if sample_weight is not None:
        sample_weight = xp.reshape(sample_weight, (count,))
    of_loss = targets.Constants(
        None, constants.class_weight, sample_weight, constants.label_smoothing, constants.z_loss, constants.normalizer
    )
    return Layer(
        xp.reshape(features, (count, depth)),
        weight,
        xp.reshape(t, (count, *classes)),
        bias[0] if bias else None,
        constants.softcap,
        of_loss,
        targets.Options((1,), options.ignore_index, options.is_checked, options.reduction),
    )


def affine(backend: Backend, x: Array, weight: Array, bias: Array | None) -> Array:
    """The raw logits."""
    raw = backend.matmul(x, weight.T)
    return raw if bias is None else backend.add(raw, bias)


def whole_logits(backend: Backend, x: Array, layer: Layer) -> Array:
    """The raw logits of rows x, in the computation dtype, differentiable to any order."""
    primals = (x, layer.weight) if layer.bias is None else (x, layer.weight, layer.bias)
    return RAW_LOGITS(backend, primals, _NoConstants(), _NoOptions())


def finite(backend: Backend, x: Array) -> Array:
    """Replace non-finite entries by 0. Their rows are either inactive (G is 0) or non-finite (G is NaN)."""
    return backend.xp.where(backend.xp.isfinite(x), x, backend.xp.zeros_like(x))


def cap(backend: Backend, raw: Array, softcap: Scale | None) -> Array:
    """The logits."""
    if softcap is None:
        return raw
    xp, is_nan = backend.xp, raw != raw
    return softcap * xp.tanh(xp.where(is_nan, 0.0, raw) / softcap) + xp.where(is_nan, raw, 0.0)


def times_slope(backend: Backend, v: Array, raw: Array, softcap: Scale | None) -> Array:
    """Times d logits / d raw, which is 0 where raw is not finite: G is 0 or NaN there, or the cap is reached."""
    if softcap is None:
        return v
    xp = backend.xp
    e = xp.exp(-2.0 * abs(finite(backend, raw) / softcap))  # the form whose derivatives do not overflow
    return v * xp.where(xp.isfinite(raw), 4.0 * e / (1.0 + e) ** 2, 0.0)


def times_log_slope_derivative(backend: Backend, v: Array, raw: Array, softcap: Scale) -> Array:
    """Times d log(slope) / d raw."""
    return v * (-2.0 / softcap) * backend.xp.tanh(finite(backend, raw) / softcap)


def times_weight(backend: Backend, g: Array, weight: Array) -> Array:
    """G W in the dtype of G, multiplied in the dtype of the weight."""
    xp = backend.xp
    if weight.dtype == g.dtype:
        return backend.matmul(g, weight)
    if float(xp.finfo(weight.dtype).smallest_normal) <= float(xp.finfo(g.dtype).smallest_normal):  # as in bfloat16
        return backend.cast(backend.matmul(backend.cast(g, weight.dtype), weight), g.dtype)
    # Entries of G may underflow in the dtype of the weight, so each row is divided by its largest entry.
    largest = backend.largest(abs(g))
    largest = xp.where(largest == 0.0, 1.0, largest)
    product = backend.matmul(backend.cast(g / largest, weight.dtype), weight)
    return backend.cast(product, g.dtype) * largest


def raw_tangent(
    backend: Backend, weight: Array, x: Array, raw: Array, of_x: Array | None, of_weight: Array | None,
    of_bias: Array | None = None,
) -> Array | None:  # fmt: skip
    """dr = dX W^T + X dW^T + db in the dtype of r, None if all tangents are None."""
    parts: list[Array] = []
    if of_x is not None:
        parts.append(backend.matmul(backend.cast(of_x, raw.dtype), backend.cast(weight, raw.dtype).T))
    if of_weight is not None:
        x = backend.cast(finite(backend, x), raw.dtype)
        parts.append(backend.matmul(x, backend.cast(of_weight, raw.dtype).T))
    if of_bias is not None:
        parts.append(backend.xp.zeros_like(raw) + backend.cast(of_bias, raw.dtype))
    return sum(parts) if parts else None


# The raw logits r as a rule. The value uses non-finite features unchanged, because with a softcap r = inf has a finite
# loss. The derivatives replace them by 0, so that rows with G = 0 contribute 0 instead of NaN to the sums in dW.


class _NoConstants(NamedTuple):
    pass


class _NoOptions(NamedTuple):
    pass


def _raw(backend: Backend, primals: Primals, _: Any, __: Any) -> Array:
    x, weight, *bias = primals
    raw = backend.product_of_rows(x, weight.T)
    raw = backend.add(raw, bias[0]) if bias else raw
    return backend.cast(raw, backend.accumulation_dtype(raw.dtype))


def _raw_vjp(
    backend: Backend, cotangents: tuple[Array], argnums: Argnums, primals: Primals, _: Any, __: Any
) -> tuple[Array, ...]:
    x, weight = primals[:2]
    positions = [(FEATURES, WEIGHT, BIAS)[i] for i in argnums]
    found = products(backend, cotangents[0], finite(backend, x), weight, tuple(positions))
    return tuple(
        [backend.cast(found[position], primals[i].dtype) for i, position in zip(argnums, positions, strict=True)]
    )


def _raw_jvp(backend: Backend, tangents: Tangents, primals: Primals, _: Any, __: Any) -> tuple[Array, Array]:
    x, weight = primals[:2]
    raw = RAW_LOGITS(backend, primals, _NoConstants(), _NoOptions())
    return raw, raw_tangent(backend, weight, x, raw, *tangents)


RAW_LOGITS = without_residuals(_raw, _raw_vjp, _raw_jvp)


def products(backend: Backend, g: Array, x: Array | None, weight: Array | None, argnums: Argnums) -> dict[int, Array]:
    """G W, G^T X, and the sum of G over its rows; products with an array that is None are omitted."""
    found = {}
    if FEATURES in argnums and weight is not None:
        found[FEATURES] = backend.matmul(g, backend.cast(weight, g.dtype))
    if WEIGHT in argnums and x is not None:
        found[WEIGHT] = backend.matmul(g.T, backend.cast(x, g.dtype))
    if BIAS in argnums:
        found[BIAS] = backend.xp.sum(g, axis=0)
    return found


def _of_block(
    backend: Backend, static: Static, rows: cross_entropy.Rows, shared: Any, out: Array | None
) -> list[Array]:
    """The loss of each row, and its gradient with respect to the raw logits, in place if possible."""
    of_loss, softcap = shared
    raw = backend.cast(rows.logits, backend.accumulation_dtype(rows.logits.dtype))
    logits = cap(backend, raw, softcap)
    out = out if logits is rows.logits else logits
    found = cross_entropy.losses_and_gradients(backend, static, rows._replace(logits=logits), of_loss, out)
    return [found[0], *[times_slope(backend, g, raw, softcap) for g in found[1:]]]


_PER_ROW = ("q", "class_index", "class_weight", "scale", "cotangent")  # fields of the rows of cross-entropy


class _BlockShared(NamedTuple):
    of_loss: Shared
    softcap: Scale | None


def evaluate(
    backend: Backend, primals: Primals, constants: Constants, options: Options, cotangent: Array | None = None
) -> tuple[Array, ...]:
    """The loss, and its gradients at the positions ``options.argnums`` times a cotangent, in the computation dtype."""
    is_reduced, argnums = options.reduction != "none", options.argnums
    if cotangent is not None and not is_reduced:
        cotangent = backend.xp.reshape(cotangent, (-1,))
    layer = flatten(backend, primals, constants, options)
    if TARGETS in argnums:
        raw = whole_logits(backend, layer.x, layer)
        logits = cap(backend, raw, layer.softcap)
        both = (logits, layer.targets)
        loss, found, _ = cross_entropy.evaluate(backend, both, layer.constants, layer.options, (0, 1), cotangent)
        gradients = gradients_of_layer(backend, layer, raw, found, argnums)
        return _with_batch(backend, loss, primals, options), *_shaped(backend, gradients, argnums, primals)
    xp, x, weight = backend.xp, layer.x, layer.weight
    dtype, classes = backend.accumulation_dtype(x.dtype), weight.shape[0]
    # Only the shape and dtype of the logits are used here, so a view of the features is passed instead.
    logits = backend.broadcast_to(x[:, :1], (x.shape[0], classes))
    problem = cross_entropy.prepare(backend, (logits, layer.targets), layer.constants, layer.options, cotangent)
    of_logits: Argnums = (0,) if argnums else ()
    static = Static(of_logits, problem.sample_weight is not None)
    shared = _BlockShared(problem.shared, layer.softcap)
    summed = [i for i in argnums if i != FEATURES]
    fields = problem.rows._asdict()
    arrays = [x, *[fields[name] for name in _PER_ROW]]
    everything = (*arrays, weight, layer.bias, *problem.shared, layer.softcap)
    kernels = backend.for_kernels(everything)

    def of_block(sums: list[Array], x: Array, *others: Array | None) -> tuple[list[Array], list[Array]]:
        raw = affine(kernels, x, weight, layer.bias)
        outputs = [((x.shape[0],), dtype), *[(tuple(raw.shape), dtype) for _ in of_logits]]
        rows = cross_entropy.Rows(raw, None, **dict(zip(_PER_ROW, others, strict=True)))
        loss, *found = map_rows(backend, _of_block, static, rows, shared, (1,), outputs, overwrites=True)
        for g in found:
            sums = [
                kernels.add_product(total, g, finite(backend, x)) if i == WEIGHT else total + xp.sum(g, axis=0)
                for i, total in zip(summed, sums, strict=True)
            ]
        return sums, [loss, *[times_weight(kernels, g, weight) for g in found if FEATURES in argnums]]

    shapes = {WEIGHT: tuple(weight.shape), BIAS: (classes,)}
    sums, (losses, *of_features) = accumulate_blocks(
        backend,
        of_block,
        [kernels.zeros(shapes[i], dtype, x) for i in summed],
        arrays,
        backend.rows_of_block(x.shape[0], classes, weight.shape[1] if WEIGHT in summed else 0, options.block_size),
        everything,
    )
    gradients = dict(zip(summed, sums, strict=True))
    if of_features:
        gradients[FEATURES] = of_features[0]
    loss = backend.sum_all(losses) if is_reduced else losses
    return _with_batch(backend, loss, primals, options), *_shaped(backend, gradients, argnums, primals)


def active_rows(backend: Backend, layer: Layer) -> Array:
    """Whether a row may have a gradient: its features are finite and its weight is not 0, (N, 1).

    The tangents of other rows may be NaN, and are set to 0.
    """
    x, (rows, classes) = layer.x, (layer.x.shape[0], layer.weight.shape[0])
    logits = backend.broadcast_to(x[:, :1], (rows, classes))
    problem = cross_entropy.prepare(backend, (logits, layer.targets), layer.constants, layer.options)
    is_active: Array = ~backend.any_of_row(~backend.xp.isfinite(x))
    if problem.sample_weight is not None:
        is_active = is_active & backend.with_class_axis(problem.rows.scale != 0.0)
    if problem.rows.class_weight is not None and layer.constants.label_smoothing is None:
        is_active = is_active & backend.with_class_axis(problem.rows.class_weight != 0.0)
    return is_active


def gradients_of_layer(
    backend: Backend, layer: Layer, raw: Array, found: Sequence[Array], argnums: Argnums
) -> dict[int, Array]:
    """Gradients with respect to the primals, flat, from those with respect to the logits and the targets."""
    of_logits, *of_targets = found
    g = times_slope(backend, of_logits, raw, layer.softcap)
    gradients = products(backend, g, finite(backend, layer.x), layer.weight, argnums)
    if of_targets:
        gradients[TARGETS] = of_targets[0]
    return gradients


def _with_batch(backend: Backend, loss: Array, primals: Primals, options: Options) -> Array:
    return loss if options.reduction != "none" else backend.xp.reshape(loss, primals[FEATURES].shape[:-1])


def _shaped(backend: Backend, gradients: dict[int, Array], argnums: Argnums, primals: Primals) -> list[Array]:
    """Gradients in the shapes of their primals."""
    return [backend.xp.reshape(gradients[i], primals[i].shape) for i in argnums]


def _like(backend: Backend, tangent: Array | None, x: Array) -> Array | None:
    return None if tangent is None else backend.xp.reshape(tangent, x.shape)


# First order


def _loss(backend: Backend, primals: Primals, constants: Constants, options: Options) -> Array:
    return evaluate(backend, primals, constants, options)[0]


def _forward(
    backend: Backend, argnums: Argnums, primals: Primals, constants: Constants, options: Options
) -> tuple[Array, Residuals]:
    kernels = backend.for_kernels(primals, constants)
    is_kept = options.reduction != "none" and TARGETS not in argnums and kernels.keeps_gradients()
    if kernels.differentiates or not is_kept:
        return _loss(backend, primals, constants, options), Residuals()
    loss, *gradients = evaluate(kernels, primals, constants, options._replace(argnums=argnums))
    return loss, Residuals(gradients=tuple(gradients))


def _backward(
    backend: Backend,
    _: tuple[Array, ...],
    cotangents: tuple[Array],
    argnums: Argnums,
    primals: Primals,
    constants: Constants,
    options: Options,
) -> tuple[Array, ...]:
    if backend.for_kernels(cotangents, primals, constants).differentiates:
        return _vjp(backend, cotangents, argnums, primals, constants, options)
    if is_zero(backend, cotangents[0]):
        return cross_entropy.zeros_of(backend, primals, argnums)
    _, *gradients = evaluate(backend, primals, constants, options._replace(argnums=argnums), cotangents[0])
    return tuple([backend.cast(g, primals[i].dtype) for i, g in zip(argnums, gradients, strict=True)])


def _vjp(
    backend: Backend,
    cotangents: tuple[Array],
    argnums: Argnums,
    primals: Primals,
    constants: Constants,
    options: Options,
) -> tuple[Array, ...]:
    (g,) = cotangents
    if options.reduction != "none":
        _, *gradients = LINEAR_LOSS_AND_GRADIENTS(backend, primals, constants, options._replace(argnums=argnums))
        gradients = [backend.times_gradient(backend.cast(g, gradient.dtype), gradient) for gradient in gradients]
    else:
        layer = flatten(backend, primals, constants, options)
        raw = whole_logits(backend, layer.x, layer)
        logits = (cap(backend, raw, layer.softcap), layer.targets)
        of_loss = (0, 1) if TARGETS in argnums else (0,)
        of_rows = backend.xp.reshape(g, (-1,))
        found = CROSS_ENTROPY.vjp(backend, (of_rows,), of_loss, logits, layer.constants, layer.options)
        gradients = _shaped(backend, gradients_of_layer(backend, layer, raw, found, argnums), argnums, primals)
    return tuple([backend.cast(y, primals[i].dtype) for i, y in zip(argnums, gradients, strict=True)])


def _jvp(
    backend: Backend, tangents: Tangents, primals: Primals, constants: Constants, options: Options
) -> tuple[Array, Array]:
    xp, is_reduced = backend.xp, options.reduction != "none"
    if is_reduced and backend.transposes_jvp:
        argnums = tuple([i for i, tangent in enumerate(tangents) if tangent is not None])
        loss, *gradients = LINEAR_LOSS_AND_GRADIENTS(backend, primals, constants, options._replace(argnums=argnums))
        is_active = active_rows(backend, flatten(backend, primals, constants, options))
        change: Any = 0.0
        for i, g in zip(argnums, gradients, strict=True):
            v = backend.cast(tangents[i], g.dtype)
            if i in (FEATURES, TARGETS):  # in an inactive row they may be NaN
                v = xp.where((g != 0.0) | xp.reshape(is_active, (*g.shape[:-1], 1)), v, 0.0)
            change = change + xp.sum(backend.times_gradient(v, g))
        return loss, change
    layer = flatten(backend, primals, constants, options)
    of_features, of_weight, of_targets, *of_bias = tangents

    def of_block(
        _: list[Array], x: Array, of_x: Array | None, t: Array, of_t: Array | None, sample_weight: Array | None
    ) -> tuple[list[Array], list[Array]]:
        raw = whole_logits(backend, x, layer)
        change = raw_tangent(backend, layer.weight, x, raw, of_x, of_weight, *of_bias)
        of_logits = None if change is None else times_slope(backend, change, raw, layer.softcap)
        of_rows = layer.constants._replace(sample_weight=sample_weight)
        logits = cap(backend, raw, layer.softcap)
        return [], list(CROSS_ENTROPY.jvp(backend, (of_logits, of_t), (logits, t), of_rows, layer.options))

    arrays = [
        layer.x,
        _like(backend, of_features, layer.x),
        layer.targets,
        _like(backend, of_targets, layer.targets),
        layer.constants.sample_weight,
    ]
    rows = None
    if not is_reduced:
        rows = backend.rows_of_block(layer.x.shape[0], layer.weight.shape[0], 0, options.block_size)
    shared = (layer.weight, layer.bias, of_weight, *of_bias, *layer.constants)
    _, (loss, change) = accumulate_blocks(backend, of_block, [], arrays, rows, shared)
    return _with_batch(backend, loss, primals, options), _with_batch(backend, change, primals, options)


# Second order, for a tangent dr of the raw logits: with dG that of the gradient with respect to the logits,
# d(G slope) = (dG + G d log(slope) / dr dr) slope, and the product rule on G W and G^T X.


def _hessian_product(
    backend: Backend, tangents: Tangents, primals: Primals, constants: Constants, options: Options
) -> list[Array]:
    layer, argnums, xp = flatten(backend, primals, constants, options), options.argnums, backend.xp
    x, softcap = layer.x, layer.softcap
    raw = whole_logits(backend, x, layer)
    of_features, of_weight, of_targets, *of_bias = tangents
    of_x = _like(backend, of_features, x)
    change = raw_tangent(backend, layer.weight, x, raw, of_x, of_weight, *of_bias)
    of_logits = None if change is None else times_slope(backend, change, raw, softcap)
    (_, g, *_), (_, dg, *of_target_gradient) = LOSS_AND_GRADIENTS.jvp(
        backend,
        (of_logits, _like(backend, of_targets, layer.targets)),
        (cap(backend, raw, softcap), layer.targets),
        layer.constants,
        layer.options._replace(argnums=(0, 1) if TARGETS in argnums else (0,)),
    )
    is_active = active_rows(backend, layer) | backend.any_of_row(g != 0.0)
    if softcap is not None and change is not None:
        dg = dg + g * times_log_slope_derivative(backend, xp.where(is_active, change, 0.0), raw, softcap)
    gradients = gradients_of_layer(backend, layer, raw, (dg, *of_target_gradient), argnums)
    if of_x is not None:
        of_x = xp.where(is_active, of_x, 0.0)
    g, of_product = times_slope(backend, g, raw, softcap), tuple([i for i in argnums if i != BIAS])
    for i, more in products(backend, g, of_x, of_weight, of_product).items():
        gradients[i] = gradients[i] + more
    return _shaped(backend, gradients, argnums, primals)


LINEAR_CROSS_ENTROPY, LINEAR_LOSS_AND_GRADIENTS = cross_entropy.loss_rules(
    _loss, evaluate, _forward, _backward, _vjp, _jvp, _hessian_product
)
