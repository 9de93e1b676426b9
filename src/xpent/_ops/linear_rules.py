"""The rules of linear cross-entropy: value, gradients, second order, in blocks of rows.

A block of rows has its logits made, turned into the gradient with respect to them, where they lie if the library writes
to arrays, and forgotten: all of them never exist at once. The mathematics of the layer is in `linear_layer`, that of
the loss in `cross_entropy_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpent._backends.arrays import (
    Array,
    accumulation_dtype,
    are_eager,
    cast,
    is_array,
    namespace,
    transposes_jvp,
    zeros,
)
from xpent._backends.differentiable import Wanted
from xpent._backends.rows import add_product, fold, rows_of_block
from xpent._ops.cross_entropy_rows import Form, losses_and_gradients, pose
from xpent._ops.cross_entropy_rules import CROSS_ENTROPY, LOSS_AND_GRADIENT
from xpent._ops.layout import over_rows
from xpent._ops.linear_layer import (
    BIAS,
    FEATURES,
    TARGETS,
    WEIGHT,
    affine,
    cap,
    change_of_raw,
    finite,
    flatten,
    gradients_of_layer,
    products,
    raw_logits,
    times_growth_of_slope,
    times_slope,
    times_weight,
    whole_layer,
)
from xpent._ops.loss_rule import Tangents, rule_of_loss


def _of_rows(form: Form, wanted: Wanted, softcap: float | None, raw: Array, *others: Array | None) -> list[Array]:
    """Loss of every row, and its gradient with respect to the raw logits times the cotangents."""
    raw = cast(raw, form.dtype)
    loss, *gradients = losses_and_gradients(form, wanted, cap(raw, softcap), None, *others)
    return [loss, *[times_slope(gradient, raw, softcap) for gradient in gradients]]


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
    **keywords: Any,
) -> tuple[Array, ...]:
    """The loss, and gradients times a cotangent, in the dtype computed in."""
    primals, is_reduced = (features, weight, targets, bias), keywords["reduction"] != "none"
    if cotangent is not None and not is_reduced:
        cotangent = namespace(cotangent).reshape(cotangent, (-1,))
    if TARGETS in wanted:
        layer = whole_layer(*primals, softcap=softcap, **keywords)
        loss, *found = LOSS_AND_GRADIENT.value(
            layer.logits, layer.targets, wanted=(0, 1), cotangent=cotangent, **layer.keywords
        )
        gradients = gradients_of_layer(layer, found, wanted)
        return _with_batch(loss, features, is_reduced), *_shaped(gradients, wanted, primals)
    x, t, keywords = flatten(features, weight, targets, keywords)
    xp, dtype, classes = namespace(x), accumulation_dtype(x), weight.shape[0]
    # In place of the logits, a view or what is compiled away: only its shape and dtype are looked at.
    problem = pose(xp.broadcast_to(x[:, :1], (x.shape[0], classes)), t, **keywords)
    of_row, of_all = (None, cotangent) if is_reduced else (cotangent, None)
    of_logits, summed = (0,) if wanted else (), [i for i in wanted if i != FEATURES]
    static, shared = (problem.form, of_logits, softcap), (*problem.shared, of_all)

    def of_block(sums: list[Array], x: Array, *others: Array | None) -> tuple[list[Array], list[Array]]:
        raw = affine(x, weight, bias)
        outputs = [((x.shape[0],), dtype), *[(tuple(raw.shape), dtype) for _ in of_logits]]
        loss, *found = over_rows(_of_rows, static, (raw, *others), shared, (1,), outputs, overwrites=True)
        for g in found:
            sums = [
                add_product(total, g.T, cast(finite(x), dtype)) if i == WEIGHT else total + xp.sum(g, axis=0)
                for i, total in zip(summed, sums, strict=True)
            ]
        return sums, [loss, *[times_weight(g, weight) for g in found if FEATURES in wanted]]

    shapes = {WEIGHT: tuple(weight.shape), BIAS: (classes,)}
    sums, (losses, *of_features) = fold(
        of_block,
        [zeros(shapes[i], dtype, x) for i in summed],
        x,
        [*problem.of_rows[1:], of_row],
        rows_of_block(x, classes, block_size),
        [weight, bias, *[array for array in shared if is_array(array)]],
    )
    gradients = dict(zip(summed, sums, strict=True))
    if of_features:
        gradients[FEATURES] = of_features[0]
    loss = xp.sum(losses) if is_reduced else losses
    return _with_batch(loss, features, is_reduced), *_shaped(gradients, wanted, primals)


def _with_batch(loss: Array, features: Array, is_reduced: bool) -> Array:
    return loss if is_reduced else namespace(loss).reshape(loss, features.shape[:-1])


def _shaped(gradients: dict[int, Array], wanted: Wanted, primals: Sequence[Array]) -> list[Array]:
    """Gradients in the shapes of their primals."""
    return [namespace(gradients[i]).reshape(gradients[i], primals[i].shape) for i in wanted]


def _gradient_product(g: Array, needed: Wanted, *primals: Array, **keywords: Any) -> list[Array]:
    if are_eager(g, *primals, *[array for array in keywords.values() if is_array(array)]):
        return list(LINEAR_LOSS_AND_GRADIENTS.value(*primals, wanted=needed, cotangent=g, **keywords)[1:])
    if keywords["reduction"] != "none":
        _, *gradients = LINEAR_LOSS_AND_GRADIENTS(*primals, wanted=needed, **keywords)
        return [cast(g, gradient.dtype) * gradient for gradient in gradients]
    layer, of_row = whole_layer(*primals, **keywords), namespace(g).reshape(g, (-1,))
    wanted = (0, 1) if TARGETS in needed else (0,)
    found = CROSS_ENTROPY.vjp((of_row,), wanted, layer.logits, layer.targets, **layer.keywords)
    return _shaped(gradients_of_layer(layer, found, needed), needed, primals)


def _like(tangent: Array | None, x: Array) -> Array | None:
    """A tangent in the shape of what moves."""
    return None if tangent is None else namespace(x).reshape(tangent, x.shape)


def _jvp(
    tangents: Tangents, *primals: Array, softcap: float | None, block_size: int | None, **keywords: Any
) -> tuple[Array, Array]:
    features, weight, targets, *bias = primals
    xp, is_reduced = namespace(features), keywords["reduction"] != "none"
    if is_reduced and transposes_jvp(features):
        moving = tuple([i for i, tangent in enumerate(tangents) if tangent is not None])
        loss, *gradients = LINEAR_LOSS_AND_GRADIENTS(
            *primals, wanted=moving, softcap=softcap, block_size=block_size, **keywords
        )
        # What moves in a row that is not counted may be NaN.
        moved = [xp.where(g == 0.0, 0.0, cast(tangents[i], g.dtype)) for i, g in zip(moving, gradients, strict=True)]
        return loss, sum([xp.sum(v * g) for v, g in zip(moved, gradients, strict=True)])
    x, t, keywords = flatten(features, weight, targets, keywords)
    of_features, of_weight, of_targets, *of_bias = tangents

    def of_block(
        _: list[Array], x: Array, of_x: Array | None, t: Array, of_t: Array | None, sample_weight: Array | None
    ) -> tuple[list[Array], list[Array]]:
        raw = raw_logits(x, weight, *bias)
        change = change_of_raw(x, weight, raw, of_x, of_weight, *of_bias)
        of_logits = None if change is None else times_slope(change, raw, softcap)
        weighed = {**keywords, "sample_weight": sample_weight}
        return [], list(CROSS_ENTROPY.jvp((of_logits, of_t), cap(raw, softcap), t, **weighed))

    others = [_like(of_features, x), t, _like(of_targets, t), keywords["sample_weight"]]
    rows = x.shape[0] if is_reduced else rows_of_block(x, weight.shape[0], block_size)
    shared = [weight, *bias, of_weight, *of_bias, keywords["class_weight"]]
    _, (loss, change) = fold(of_block, [], x, others, max(1, rows), shared)
    return _with_batch(loss, features, is_reduced), _with_batch(change, features, is_reduced)


# Second order, for a change dr of the raw logits: with dG that of the gradient with respect to the logits,
# d(G slope) = (dG + G d log(slope) / dr dr) slope, and the product rule on G W and G^T X.


def _hessian_product(tangents: Tangents, wanted: Wanted, *primals: Array, **keywords: Any) -> list[Array]:
    layer = whole_layer(*primals, **keywords)
    x, weight, raw, softcap = layer.x, layer.weight, layer.raw, layer.softcap
    of_features, of_weight, of_targets, *of_bias = tangents
    of_x, xp = _like(of_features, x), namespace(x)
    change = change_of_raw(x, weight, raw, of_x, of_weight, *of_bias)
    moved = (None if change is None else times_slope(change, raw, softcap), _like(of_targets, layer.targets))
    (_, g, *_), (_, dg, *of_target_gradient) = LOSS_AND_GRADIENT.jvp(
        moved, layer.logits, layer.targets, wanted=(0, 1) if TARGETS in wanted else (0,), **layer.keywords
    )
    if softcap is not None and change is not None:
        dg = dg + g * times_growth_of_slope(xp.where(g == 0.0, 0.0, change), raw, softcap)
    gradients = gradients_of_layer(layer, (dg, *of_target_gradient), wanted)
    if of_x is not None:
        of_x = xp.where(xp.any(g != 0.0, axis=-1, keepdims=True), of_x, 0.0)
    g, of_product = times_slope(g, raw, softcap), tuple([i for i in wanted if i != BIAS])
    for i, more in products(g, of_x, of_weight, of_product).items():
        gradients[i] = gradients[i] + more
    return _shaped(gradients, wanted, primals)


def _keeps_gradients(wanted: Wanted, *_: Array, reduction: str, **__: Any) -> bool:
    return reduction != "none" and TARGETS not in wanted


LINEAR_CROSS_ENTROPY, LINEAR_LOSS_AND_GRADIENTS = rule_of_loss(
    _loss_and_gradients, _gradient_product, _jvp, _hessian_product, _keeps_gradients
)
