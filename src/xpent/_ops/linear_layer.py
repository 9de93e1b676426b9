"""The linear layer under a loss, its softcap, and the derivatives of both.

With features X (N, D), weight W (C, D) and bias b (C), the raw logits are r = X W^T + b, and the logits r or, with a
softcap c, c tanh(r / c). Of the gradient of the loss with respect to the logits, G is the product with the slope of the
softcap, that with respect to r, and

    slope = 1 / cosh(r / c)**2 = 4 e / (1 + e)**2    with e = exp(-2 |r / c|)
    dX = G W    dW = G^T X    db = sum over rows of G
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpent._backends.arrays import Array, accumulation_dtype, cast, in_place, matmul, namespace
from xpent._backends.differentiable import Wanted

FEATURES, WEIGHT, TARGETS, BIAS = range(4)  # positions of the primals, of which the bias may be missing

Keywords = dict[str, Any]


def flatten(features: Array, weight: Array, targets: Array, keywords: Keywords) -> tuple[Array, Array, Keywords]:
    """Features (N, D), targets (N,) or (N, C), and the keywords of cross-entropy for logits (N, C)."""
    xp, (*batch, depth) = namespace(features), features.shape
    count, classes = math.prod(batch), (weight.shape[0],) if targets.ndim == features.ndim else ()
    keywords = {**keywords, "axes": (1,), "where": None}
    if keywords["sample_weight"] is not None:
        keywords["sample_weight"] = xp.reshape(keywords["sample_weight"], (count,))
    return xp.reshape(features, (count, depth)), xp.reshape(targets, (count, *classes)), keywords


def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    raw = matmul(x, weight.T)
    return raw if bias is None else in_place(namespace(x).add, raw, bias)


def raw_logits(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Raw logits whose derivatives, which the library may take, are finite where G is 0: NaN is added afterwards."""
    xp = namespace(x)
    raw = affine(finite(x), weight, bias)
    is_broken = xp.any(~xp.isfinite(x), axis=-1, keepdims=True)
    raw = cast(raw, accumulation_dtype(raw))
    return raw + xp.where(is_broken, math.nan, xp.zeros_like(raw[:, :1]))


def finite(x: Array) -> Array:
    """0 where it is not finite: the row is not counted, and its G is 0, or broken, and its G is NaN."""
    xp = namespace(x)
    return xp.where(xp.isfinite(x), x, 0.0)


def cap(raw: Array, softcap: float | None) -> Array:
    if softcap is None:
        return raw
    xp, is_nan = namespace(raw), raw != raw
    return softcap * xp.tanh(xp.where(is_nan, 0.0, raw) / softcap) + xp.where(is_nan, raw, 0.0)


def times_slope(v: Array, raw: Array, softcap: float | None) -> Array:
    """Times d logits / d raw, which is 0 where raw is not finite: G is 0 or NaN there, or the cap is reached."""
    if softcap is None:
        return v
    xp = namespace(raw)
    e = xp.exp(-2.0 * abs(finite(raw) / softcap))  # so that no derivative overflows either
    return v * xp.where(xp.isfinite(raw), 4.0 * e / (1.0 + e) ** 2, 0.0)


def times_growth_of_slope(v: Array, raw: Array, softcap: float) -> Array:
    """Times d log(slope) / d raw."""
    return v * (-2.0 / softcap) * namespace(raw).tanh(finite(raw) / softcap)


def times_weight(g: Array, weight: Array) -> Array:
    """G W in the dtype of G, multiplied in that of the weight, in which entries of G may be too small to exist."""
    if weight.dtype == g.dtype:
        return matmul(g, weight)
    xp = namespace(g)
    largest = xp.max(abs(g), axis=-1, keepdims=True)
    largest = xp.where(largest == 0.0, 1.0, largest)
    return cast(matmul(cast(g / largest, weight.dtype), weight), g.dtype) * largest


def change_of_raw(
    x: Array, weight: Array, raw: Array, of_x: Array | None, of_weight: Array | None, of_bias: Array | None = None
) -> Array | None:
    """dr = dX W^T + X dW^T + db in the dtype of r, None if nothing moves."""
    parts = [] if of_x is None else [matmul(cast(of_x, raw.dtype), cast(weight, raw.dtype).T)]
    parts += [] if of_weight is None else [matmul(cast(finite(x), raw.dtype), cast(of_weight, raw.dtype).T)]
    parts += [] if of_bias is None else [namespace(x).zeros_like(raw) + cast(of_bias, raw.dtype)]
    return sum(parts) if parts else None


def products(g: Array, x: Array | None, weight: Array | None, wanted: Wanted) -> dict[int, Array]:
    """G W, G^T X, and the sum of G over its rows; without those of what is None."""
    found = {}
    if FEATURES in wanted and weight is not None:
        found[FEATURES] = matmul(g, cast(weight, g.dtype))
    if WEIGHT in wanted and x is not None:
        found[WEIGHT] = matmul(g.T, cast(x, g.dtype))
    if BIAS in wanted:
        found[BIAS] = namespace(g).sum(g, axis=0)
    return found


class Layer(NamedTuple):
    """The layer with all its logits at once, for what needs them more than once."""

    x: Array  # features (N, D)
    weight: Array  # (C, D)
    targets: Array  # (N,) or (N, C)
    raw: Array  # (N, C)
    logits: Array  # (N, C)
    softcap: float | None
    keywords: Keywords  # of cross-entropy


def whole_layer(
    features: Array,
    weight: Array,
    targets: Array,
    bias: Array | None = None,
    *,
    softcap: float | None,
    block_size: int | None = None,
    **keywords: Any,
) -> Layer:
    del block_size  # which any other function of a layer has
    x, t, keywords = flatten(features, weight, targets, keywords)
    raw = raw_logits(x, weight, bias)
    return Layer(x, weight, t, raw, cap(raw, softcap), softcap, keywords)


def gradients_of_layer(layer: Layer, found: Sequence[Array], wanted: Wanted) -> dict[int, Array]:
    """Gradients with respect to the primals, flat, from those with respect to logits and, if wanted, targets."""
    of_logits, *of_targets = found
    g = times_slope(of_logits, layer.raw, layer.softcap)
    gradients = products(g, finite(layer.x), layer.weight, wanted)
    if of_targets:
        gradients[TARGETS] = of_targets[0]
    return gradients
