"""Linear cross-entropy: what may be asked for, and the call that answers it."""

from __future__ import annotations

import numbers
from typing import Any, Literal

from xpent._backends.arrays import Array, accumulation_dtype, common_namespace, is_floating, namespace
from xpent._backends.differentiable import Call, differentiable
from xpent._ops.cross_entropy import array_only, check_loss, number
from xpent._ops.linear_rules import LINEAR_CROSS_ENTROPY


def _check_layer(features: Array, weight: Array, bias: Array | None) -> None:
    arrays = {"features": features, "weight": weight, "bias": bias}
    for name, array in arrays.items():
        if array is not None and not is_floating(array):
            raise TypeError(f"{name} must hold floating-point numbers, got {array.dtype}")
    if len({array.dtype for array in arrays.values() if array is not None}) > 1:
        listed = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items() if array is not None)
        raise TypeError(f"features, weight and bias must have one dtype, also under autocast; got {listed}")
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(f"weight must have the shape (C, D), one row for each class, got {tuple(weight.shape)}")
    if features.ndim == 0 or features.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"for a weight of shape {tuple(weight.shape)}, features must have the shape (..., {weight.shape[1]}), "
            f"got {tuple(features.shape)}"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"bias must have the shape ({weight.shape[0]},), one for each class, got {tuple(bias.shape)}")


def _check_softcap(softcap: float | None, features: Array) -> float | None:
    if softcap is None:
        return None
    limits = namespace(features).finfo(accumulation_dtype(features))
    return number("softcap", softcap, float(limits.smallest_normal), float(limits.max))


def _check_block_size(block_size: Any) -> int | None:
    if block_size is None:
        return None
    if isinstance(block_size, bool) or not isinstance(block_size, numbers.Integral):
        raise TypeError(f"block_size must be an int or None, got {block_size!r}")
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size!r}")
    return int(block_size)


@differentiable
def linear_cross_entropy(
    features: Array,
    weight: Array,
    targets: Array,
    /,
    *,
    bias: Array | None = None,
    softcap: float | None = None,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    normalizer: Array | float | None = None,
    block_size: int | None = None,
) -> Call:
    """Cross-entropy of targets under softmax(features @ weight.T + bias), in nats, without holding all logits at once.

    The same as `cross_entropy` of these logits, with all its options and edge cases. Value and gradients are made block
    by block, a block being some rows with all their classes.

    Parameters
    ----------
    features : array of floating-point numbers
        Shape (..., D): a row for every index of the axes before the last.
    weight : array of floating-point numbers
        Shape (C, D), as in torch.nn.Linear, of the dtype of ``features``.
    targets : array
        Either class indices, integers of shape (...), or a distribution over the classes, real numbers of shape
        (..., C).
    bias : array of floating-point numbers, optional
        Shape (C,), of the dtype of ``features``. It can be differentiated: to `vjp`, `jvp`, `grad` and `value_and_grad`
        it is one more primal after the targets, number 3.
    softcap : float, optional
        A positive number c: the logits x become c tanh(x / c).
    class_weight : array of real numbers, optional
        Shape (C,). A constant.
    sample_weight : array of real numbers, optional
        One weight per row: shape (...). A constant.
    ignore_index : int, optional
        Rows with this class index are not counted, whatever their features.
    label_smoothing : float
        In [0, 1]: this share of every target is spread over all classes.
    z_loss : float
        At least 0: adds z_loss * logsumexp(logits)**2 to the loss of a row that has a target.
    reduction : {"mean", "sum", "none"}
        As in `cross_entropy`: the mean divides by the sum of the row weights.
    normalizer : number or array of shape (), optional
        Divides the sum instead, with any reduction but "none".
    block_size : int, optional
        Rows in a block. None takes as many as have 2**24 logits, 64 MiB in float32, in JAX 3/8 of that, for it holds
        them three times. With fewer, adding to the gradient of the weight takes longer than multiplying.

    Returns
    -------
    array
        Shape (), with "none" (...); float32 or the wider dtype of ``features``.

    Raises
    ------
    TypeError
        If an argument is not an array or number of the right kind, arrays come from different libraries, or features,
        weight and bias differ in dtype.
    ValueError
        If a shape or an option is not as above, or an index names no class. Where data cannot be looked at for free
        (on a GPU, under jit, compile or vmap), the row of such an index is NaN instead.

    Notes
    -----
    With G the gradient with respect to the logits X W^T + b, those of features, weight and bias are G W, G^T X and the
    sum of G over its rows; only those asked for are made. X W^T and G W are products in the dtype of ``features``, the
    rest is made and summed in float32 at least. Only a bias of -inf, no weight, makes a class impossible.

    The value, gradients and reverse mode, in JAX under `jax.jit`, too, hold the logits of a block and what is returned.
    At second order and for the gradient of a distribution all logits exist at once; in PyTorch also under torch.compile
    and torch.func and in forward mode, in NumPy in forward mode unless the reduction is "none".

    Examples
    --------
    >>> import numpy as np, xpent
    >>> features, weight = np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 0.0], [1.0, 1.0]])
    >>> loss = xpent.linear_cross_entropy(features, weight, np.asarray([1]))
    >>> float(loss.round(8))  # log(1 + exp(-3))
    0.04858735
    >>> of_features, of_weight = xpent.grad(xpent.linear_cross_entropy, (0, 1))(features, weight, np.asarray([1]))
    >>> of_weight.round(8)
    array([[ 0.04742587,  0.09485175],
           [-0.04742587, -0.09485175]])
    """
    common_namespace(
        features=features,
        weight=weight,
        targets=targets,
        bias=bias,
        class_weight=class_weight,
        sample_weight=sample_weight,
        normalizer=array_only(normalizer),
    )
    _check_layer(features, weight, bias)
    keywords = check_loss(
        (*features.shape[:-1], weight.shape[0]),
        features,
        targets,
        (features.ndim - 1,),
        class_weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        z_loss,
        reduction,
        normalizer,
    )
    keywords["softcap"] = _check_softcap(softcap, features)
    keywords["block_size"] = _check_block_size(block_size)
    primals = (features, weight, targets) if bias is None else (features, weight, targets, bias)
    return Call(LINEAR_CROSS_ENTROPY, primals, keywords, is_scalar=reduction != "none" or features.ndim == 1)
