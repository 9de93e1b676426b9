"""The textbook formulas, with functions that torch and jax.numpy share, for automatic differentiation by these."""

import math


def to_rows(xp, x, axes):
    permuted = xp.moveaxis(x, axes, tuple(range(-len(axes), 0)))
    return xp.reshape(permuted, (*permuted.shape[: -len(axes)], -1))


def from_rows(xp, rows, axes, shape):
    permuted = xp.reshape(rows, (*rows.shape[:-1], *(shape[a] for a in axes)))
    return xp.moveaxis(permuted, tuple(range(-len(axes), 0)), axes)


def softmax(xp, x, *, axes, where=None):
    return xp.exp(log_softmax(xp, x, axes=axes, where=where))


def log_softmax(xp, x, *, axes, where=None):
    x = x if where is None else xp.where(where, x, -math.inf)
    return x - logsumexp(xp, x, axes=axes, keepdims=True)


def logsumexp(xp, x, *, axes, where=None, keepdims=False):
    terms = xp.exp(x) if where is None else xp.where(where, xp.exp(x), 0.0)
    return xp.log(xp.sum(terms, axis=axes, keepdims=keepdims))


def cross_entropy(
    xp, x, q, *, axes, class_weight=None, sample_weight=None, label_smoothing=0.0, z_loss=0.0, where=None,
    reduction="mean", normalizer=None,
):  # fmt: skip
    """Cross-entropy with distributions q in the layout of x; ignored rows have sample weight 0."""
    x, q = to_rows(xp, x, axes), to_rows(xp, q, axes)
    w = xp.ones_like(x) if class_weight is None else class_weight
    s = xp.ones_like(x[..., 0]) if sample_weight is None else sample_weight
    row_weight = s if class_weight is None else s * xp.sum(q * w, axis=-1)
    is_in = xp.isfinite(x) if where is None else where
    share = xp.where(is_in, 1.0, xp.zeros_like(x))
    q = (1 - label_smoothing) * q + label_smoothing * share / xp.sum(share, axis=-1, keepdims=True)
    lse = logsumexp(xp, x, axes=(-1,), where=where)
    loss = s * (xp.sum(q * w * xp.where(is_in, lse[..., None] - x, 0.0), axis=-1) + z_loss * lse**2)
    if reduction == "none":
        return loss
    denominator = xp.sum(row_weight) if reduction == "mean" else 1.0
    return xp.sum(loss) / (denominator if normalizer is None else normalizer)


def linear_cross_entropy(xp, x, weight, *bias_and_q, softcap=None, **options):
    *bias, q = bias_and_q
    logits = xp.matmul(x, weight.T)
    logits = logits + bias[0] if bias else logits
    return cross_entropy(xp, logits if softcap is None else softcap * xp.tanh(logits / softcap), q, **options)
