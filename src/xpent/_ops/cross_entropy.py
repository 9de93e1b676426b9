"""Cross-entropy: what may be asked for, and the call that answers it."""

from __future__ import annotations

import math
import numbers
from sys import float_info
from typing import Any, Literal

from xpent._backends.arrays import Array, is_real, variable
from xpent._backends.differentiable import Call, differentiable
from xpent._ops.cross_entropy_rules import CROSS_ENTROPY
from xpent._ops.layout import Axes, Axis, batch_shape, check_logits, class_count
from xpent._ops.targets import are_indices, check_indices

REDUCTIONS = ("mean", "sum", "none")


def number(name: str, value: Any, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number of Python, got {value!r}")
    value = value if isinstance(value, int) else float(value)
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must lie between {lowest} and {highest}, got {value!r}")
    return float(value)


def _check_weights(name: str, weights: Array | None, shape: tuple[int, ...], meaning: str) -> None:
    if weights is None:
        return
    if not is_real(weights):
        raise TypeError(f"{name} must hold real numbers, got {weights.dtype}")
    if tuple(weights.shape) != shape:
        raise ValueError(f"{name} must have the shape {shape}, {meaning}, got {tuple(weights.shape)}")


def _check_normalizer(normalizer: Array | float | None, reduction: str, like: Array) -> Array | float | None:
    if normalizer is None:
        return None
    if reduction == "none":
        raise ValueError('normalizer divides a sum, so it needs reduction "mean" or "sum", got "none"')
    if isinstance(normalizer, numbers.Real):
        return variable(number("normalizer", normalizer, math.ulp(0.0), float_info.max), like)
    _check_weights("normalizer", normalizer, (), "one number")
    return normalizer


def array_only(normalizer: Array | float | None) -> Array | None:
    return None if isinstance(normalizer, numbers.Real) else normalizer


def check_loss(
    shape: tuple[int, ...],
    like: Array,
    targets: Array,
    axes: Axes,
    class_weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int | None,
    label_smoothing: float,
    z_loss: float,
    reduction: str,
    normalizer: Array | float | None,
) -> dict[str, Any]:
    """The keywords of a rule from valid arguments for logits of a shape, of the dtype of another array."""
    has_indices = are_indices(targets, shape, axes)
    classes = class_count(shape, axes)
    _check_weights("class_weight", class_weight, (classes,), "one weight per class")
    _check_weights("sample_weight", sample_weight, batch_shape(shape, axes), "one weight per row")
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if ignore_index is not None:
        if not isinstance(ignore_index, numbers.Integral):
            raise TypeError(f"ignore_index must be an int, got {ignore_index!r}")
        ignore_index = int(ignore_index)
        if not has_indices:
            raise ValueError("ignore_index needs class indices; give the rows of a distribution a sample_weight of 0")
    return {
        "class_weight": class_weight,
        "sample_weight": sample_weight,
        "ignore_index": ignore_index,
        "is_checked": has_indices and check_indices(targets, classes, ignore_index),
        "label_smoothing": number("label_smoothing", label_smoothing, 0.0, 1.0),
        "z_loss": number("z_loss", z_loss, 0.0, float_info.max),
        "reduction": reduction,
        "normalizer": _check_normalizer(normalizer, reduction, like),
    }


@differentiable
def cross_entropy(
    logits: Array,
    targets: Array,
    /,
    *,
    axis: Axis = -1,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    where: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    normalizer: Array | float | None = None,
) -> Call:
    """Cross-entropy of targets under softmax(logits), in nats.

    Parameters
    ----------
    logits : array of real numbers
        C classes along ``axis``, one row for every index of the other axes. float16 and bfloat16 are computed in
        float32, integers and booleans in the default floating dtype. A logit of -inf makes a class impossible.
    targets : array
        Either class indices, integers of the shape of ``logits`` without ``axis``, or a distribution over the classes,
        real numbers of the shape of ``logits``. All else is promoted to the dtype of the computation.
    axis : int, tuple of ints or None
        The axes of the classes; None means all of them. With several, a class index is the flat index into them, in
        the order given.
    class_weight : array of real numbers, optional
        Shape (C,). A constant.
    sample_weight : array of real numbers, optional
        One weight per row: the shape of ``logits`` without ``axis``. A constant.
    ignore_index : int, optional
        Rows with this class index are not counted, whatever their logits.
    label_smoothing : float
        In [0, 1]: this share of every target is spread over the K possible classes, q = (1 - eps) q + eps / K.
    z_loss : float
        At least 0: adds z_loss * logsumexp(logits)**2 to the loss of a row that has a target.
    where : array of booleans, optional
        Broadcastable to the shape of ``logits``. A class that is not in is impossible.
    reduction : {"mean", "sum", "none"}
        The mean divides the sum of the losses by the sum of the row weights: sample_weight times sum_k q_k w_k of the
        unsmoothed target with ``class_weight``, sample_weight without. The mean of nothing is 0.
    normalizer : number or array of shape (), optional
        Divides the sum instead, with any reduction but "none": the count of tokens of all the micro-batches, say.

    Returns
    -------
    array
        Shape (), with "none" that of ``logits`` without ``axis``; float32 or the wider dtype of ``logits``. A row that
        holds NaN or +inf, or no possible class, is NaN; one whose target is impossible is +inf.

    Raises
    ------
    TypeError
        If an argument is not an array or number of the right kind, or arrays come from different libraries.
    ValueError
        If a shape or an option is not as above, or an index names no class. Where data cannot be looked at for free
        (on a GPU, under jit, compile or vmap), the row of such an index is NaN instead.

    Notes
    -----
    With m the maximum, first attained at a, and rest = sum over j != a of exp(x_j - m), a row has the loss
    sum_j q_j w_j ((m - x_j) + log1p(rest)) and the gradient p_j sum_k q_k w_k - q_j w_j; at a, where that would cancel,
    (sum over k != a of q_k w_k - rest q_a w_a) / (1 + rest). See "The contract" in the README for every edge case, and
    Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> logits = np.asarray([[1.0, 3.0, 5.0, 7.0], [1.0, -9.0, 4.0, 8.0]])
    >>> xpent.cross_entropy(logits, np.asarray([3, 1]), reduction="none").round(8)
    array([ 0.14507794, 17.01904505])
    """
    axes = check_logits(
        logits,
        axis,
        where,
        "logits",
        targets=targets,
        class_weight=class_weight,
        sample_weight=sample_weight,
        normalizer=array_only(normalizer),
    )
    keywords = check_loss(
        tuple(logits.shape),
        logits,
        targets,
        axes,
        class_weight,
        sample_weight,
        ignore_index,
        label_smoothing,
        z_loss,
        reduction,
        normalizer,
    )
    keywords |= {"axes": axes, "where": where}
    is_scalar = reduction != "none" or len(axes) == logits.ndim
    return Call(CROSS_ENTROPY, (logits, targets), keywords, is_scalar)
