"""The softmax cross-entropies of optax.losses, with their signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from xpent._arguments import Axis, check_logits
from xpent._backends.registry import backend_of
from xpent._engine.layout import batch_shape
from xpent._functions import cross_entropy, log_softmax
from xpent.jax import as_array

__all__ = [
    "poly_loss_cross_entropy",
    "ranking_softmax_loss",
    "safe_softmax_cross_entropy",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]


def softmax_cross_entropy(logits: Any, labels: Any, axis: Axis = -1, where: Any = None) -> jax.Array:
    """Cross-entropy of distributions as `optax.losses.softmax_cross_entropy` computes it.

    Parameters
    ----------
    logits : array of floating-point numbers
        The classes along ``axis``.
    labels : array of real numbers
        Distributions over the classes, for example one-hot. Broadcastable with ``logits``, whose class axes must not
        be shorter.
    axis : int, tuple of ints or None
        The class axes; None means all axes.
    where : array of booleans, optional
        Shape of ``logits``, or that without ``axis``. Entries where it is False are excluded from both sums.

    Returns
    -------
    jax.Array
        The losses, -sum_j labels_j log_softmax(logits)_j: the shape of ``logits`` and ``labels`` without ``axis``, and
        the dtype they promote to. 0 for a row without labels, also where all classes are masked.

    Raises
    ------
    TypeError
        If ``logits`` are not floating-point numbers, ``labels`` not real numbers, ``where`` not booleans, or ``axis``
        is not an int, a tuple of ints or None.
    ValueError
        If ``axis`` is out of range, names an axis twice or names none, there are no classes, or the shapes do not
        broadcast.

    Notes
    -----
    A label of 0 at a logit of -inf adds 0; `optax.losses.softmax_cross_entropy` returns NaN. Losses of confident rows,
    which are 0 in optax, are accurate, and so are their gradients. float16 and bfloat16 are computed in float32.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.optax import softmax_cross_entropy
    >>> f"{softmax_cross_entropy(jnp.asarray([20.0, 0.0]), jnp.asarray([1.0, 0.0])):.4g}"
    '2.061e-09'
    """
    logits, labels, where, dtype = _prepared(logits, labels, axis, where)
    return _cast(cross_entropy(logits, labels, axis=axis, where=where, reduction="none"), dtype)


def softmax_cross_entropy_with_integer_labels(
    logits: Any, labels: Any, axis: int | tuple[int, ...] = -1, where: Any = None
) -> jax.Array:
    """Cross-entropy of class indices as `optax.losses.softmax_cross_entropy_with_integer_labels` computes it.

    Parameters
    ----------
    logits : array of floating-point numbers
        The classes along ``axis``.
    labels : array of integers
        Class indices. Broadcastable with the shape of ``logits`` without ``axis``, and of as many axes.
    axis : int or tuple of ints
        The class axes. With several, a class index is the flat index into them, in the order given.
    where : array of booleans, optional
        Shape of ``logits``, or that without ``axis``. Classes where it is False are masked. A row whose classes are
        all masked is ignored, whatever its label: its loss and gradient are 0.

    Returns
    -------
    jax.Array
        The losses: the shape of ``labels``, broadcast, and the dtype of ``logits``. +inf for a masked label.

    Raises
    ------
    TypeError
        If ``logits`` are not floating-point numbers, ``labels`` not integers or ``where`` not booleans.
    ValueError
        If ``axis`` is not an int or a tuple of ints, is out of range, names an axis twice or names none, there are no
        classes, the shapes do not broadcast, or a label is out of range. If the data cannot be inspected (under
        jit or vmap, on a GPU), the loss and the gradient of such a label are NaN.

    Notes
    -----
    optax counts a label of -1 from the end and subtracts the logit of a masked label. Losses of confident rows, which
    are 0 in optax, are accurate. float16 and bfloat16 are computed in float32.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.optax import softmax_cross_entropy_with_integer_labels
    >>> logits = jnp.asarray([[1.2, -0.8, -0.5], [0.9, -1.2, 1.1]])
    >>> [f"{loss:.4f}" for loss in softmax_cross_entropy_with_integer_labels(logits, jnp.asarray([0, 1])).tolist()]
    ['0.2761', '2.9518']
    """
    logits, labels = _floating("logits", logits), as_array("labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if not isinstance(axis, int | tuple):
        raise ValueError(f"axis must be an int or a tuple of ints, got {axis!r}")
    axes = check_logits(backend_of({"logits": logits}), logits, axis, None, "logits")
    if labels.ndim != logits.ndim - len(axes):
        raise ValueError(
            f"for logits of shape {logits.shape} with axis={axis}, labels must broadcast with the shape "
            f"{batch_shape(logits.shape, axes)} and have as many axes, got {labels.shape}"
        )
    dtype, is_active = logits.dtype, None
    where = _mask(logits, axis, where)
    if where is not None or labels.shape != batch_shape(logits.shape, axes):
        shapes = [logits.shape, jnp.expand_dims(labels, axes).shape, () if where is None else where.shape]
        logits = jnp.broadcast_to(logits, jnp.broadcast_shapes(*shapes))
        labels = jnp.broadcast_to(labels, batch_shape(logits.shape, axes))
    if where is not None:
        is_active = jnp.broadcast_to(jnp.any(where, axes), labels.shape)
        labels = jnp.where(is_active, labels, 0)
    loss = cross_entropy(logits, labels, axis=axis, where=where, sample_weight=is_active, reduction="none")
    return _cast(loss, dtype)


def safe_softmax_cross_entropy(logits: Any, labels: Any) -> jax.Array:
    """Cross-entropy of distributions as `optax.losses.safe_softmax_cross_entropy` computes it.

    The same as `softmax_cross_entropy` along the last axis, which also accepts logits of -inf.

    Parameters
    ----------
    logits : array of floating-point numbers
        The classes along the last axis. A class with a logit of -inf is masked.
    labels : array of real numbers
        Distributions over the classes, broadcastable with ``logits``.

    Returns
    -------
    jax.Array
        The losses: the shape of ``logits`` and ``labels`` without the last axis, and the dtype they promote to.

    Raises
    ------
    TypeError
        If ``logits`` are not floating-point numbers or ``labels`` not real numbers.
    ValueError
        If there are no classes or the shapes do not broadcast.

    Notes
    -----
    The gradient is that of `softmax_cross_entropy`, also where a row is -inf everywhere.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.optax import safe_softmax_cross_entropy
    >>> float(safe_softmax_cross_entropy(jnp.asarray([0.0, -jnp.inf]), jnp.asarray([1.0, 0.0])))
    0.0
    """
    return softmax_cross_entropy(logits, labels)


def poly_loss_cross_entropy(
    logits: Any, labels: Any, *, epsilon: Any = 2.0, axis: Axis = -1, where: Any = None
) -> jax.Array:
    """Poly-1 loss as `optax.losses.poly_loss_cross_entropy` computes it.

    Parameters
    ----------
    logits : array of floating-point numbers
        The classes along ``axis``.
    labels : array of floating-point numbers
        Distributions over the classes, broadcastable with ``logits``.
    epsilon : array or number
        The coefficient of the first term of the polynomial.
    axis : int, tuple of ints or None
        The class axes; None means all axes.
    where : array of booleans, optional
        Shape of ``logits``, or that without ``axis``. Entries where it is False are excluded from all sums.

    Returns
    -------
    jax.Array
        softmax_cross_entropy(logits, labels) + epsilon * sum_j labels_j (1 - p_j), with p = softmax(logits).

    Raises
    ------
    TypeError
        If ``logits`` or ``labels`` are not floating-point numbers, ``where`` not booleans, or ``axis`` is not an int, a
        tuple of ints or None.
    ValueError
        As for `softmax_cross_entropy`.

    Notes
    -----
    1 - p_j is computed as -expm1(log p_j), so that nothing cancels in confident rows. A ``where`` of the shape of
    ``logits`` without ``axis`` is an error in optax. Reference: Leng et al., "PolyLoss: A Polynomial Expansion
    Perspective of Classification Loss Functions", 2022.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.optax import poly_loss_cross_entropy
    >>> f"{poly_loss_cross_entropy(jnp.asarray([20.0, 0.0]), jnp.asarray([1.0, 0.0])):.4g}"
    '6.183e-09'
    """
    logits, labels, where, dtype = _prepared(logits, _floating("labels", labels), axis, where)
    computed = dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
    logits, labels = _cast(logits, computed), _cast(labels, computed)
    loss = cross_entropy(logits, labels, axis=axis, where=where, reduction="none")
    rest = jnp.sum(labels * -jnp.expm1(log_softmax(logits, axis=axis, where=where)), axis=axis)
    total: jax.Array = _cast(loss, dtype) + epsilon * _cast(rest, dtype)
    return total


def ranking_softmax_loss(
    logits: Any,
    labels: Any,
    *,
    where: Any = None,
    weights: Any = None,
    reduce_fn: Callable[..., Any] | None = jnp.mean,
) -> jax.Array:
    """Softmax cross-entropy of ranked lists as `optax.losses.ranking_softmax_loss` computes it.

    Parameters
    ----------
    logits : array of floating-point numbers
        Scores of the items, lists along the last axis.
    labels : array of real numbers
        Relevance of the items, broadcastable with ``logits``; cast to their dtype.
    where : array of booleans, optional
        Broadcastable with ``logits``. Items where it is False are excluded.
    weights : array or number, optional
        Weights of the items, broadcastable with ``logits``: the labels are multiplied by them.
    reduce_fn : callable, optional
        Reduces the losses, `jax.numpy.mean` or `jax.numpy.sum`, with ``where`` to leave out lists without items; None
        returns all losses, 0 for such lists.

    Returns
    -------
    jax.Array
        The reduced losses. The mean of no lists is 0, and so is its gradient.

    Raises
    ------
    TypeError
        If ``logits`` are not floating-point numbers, ``labels`` not numbers or ``where`` not booleans.
    ValueError
        If there are no items or the shapes do not broadcast.

    Notes
    -----
    The gradient of the mean of no lists is NaN in optax. Other differences are those of `softmax_cross_entropy`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.optax import ranking_softmax_loss
    >>> f"{ranking_softmax_loss(jnp.asarray([2.0, 1.0, 3.0]), jnp.asarray([1.0, 0.0, 0.0])):.3f}"
    '1.408'
    """
    logits = _floating("logits", logits)
    labels = as_array("labels", labels).astype(logits.dtype)
    if weights is not None:
        labels = labels * as_array("weights", weights)
    if where is not None:
        where = as_array("where", where)
        where = jnp.broadcast_to(where, jnp.broadcast_shapes(where.shape, logits.shape))
        logits = jnp.broadcast_to(logits, where.shape)
    loss = softmax_cross_entropy(logits, labels, where=where)
    if reduce_fn is None:
        return loss
    is_valid = None if where is None else jnp.any(where, axis=-1)
    if is_valid is not None and reduce_fn is jnp.mean:
        is_valid = is_valid | ~jnp.any(is_valid)  # without a valid list, the mean of losses that are all 0
    reduced: jax.Array = reduce_fn(loss, where=is_valid)
    return reduced


def smooth_labels(labels: Any, alpha: Any, *, axis: Axis = -1, where: Any = None) -> jax.Array:
    """Label smoothing as `optax.losses.smooth_labels` computes it: (1 - alpha) labels + alpha / K.

    Parameters
    ----------
    labels : array of floating-point numbers
        Distributions over the classes, for example one-hot.
    alpha : array or number
        The share that is spread over the classes.
    axis : int, tuple of ints or None
        The class axes; None means all axes.
    where : array of booleans, optional
        Broadcastable with ``labels``. K is the number of classes where it is True.

    Returns
    -------
    jax.Array
        Shape and dtype of ``labels``, broadcast and promoted with ``alpha`` and ``where``. As in optax, masked classes
        have a share, too; `softmax_cross_entropy` with the same ``where`` leaves it out.

    Raises
    ------
    TypeError
        If ``labels`` are not floating-point numbers.
    ValueError
        If ``axis`` is out of range, or the shapes do not broadcast.

    Notes
    -----
    `xpent.cross_entropy` smooths labels without an array of them, with its option ``label_smoothing``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from xpent.optax import smooth_labels
    >>> smooth_labels(jnp.asarray([0.0, 1.0]), 0.5).tolist()
    [0.25, 0.75]
    """
    labels = _floating("labels", labels)
    count = jnp.size(labels, axis) if where is None else jnp.sum(where, axis, keepdims=True)
    smoothed: jax.Array = (1.0 - alpha) * labels + alpha / count
    return smoothed


def _prepared(logits: Any, labels: Any, axis: Axis, where: Any) -> tuple[jax.Array, jax.Array, jax.Array | None, Any]:
    """Logits and distributions of one shape, the mask of the logits, and the dtype of the loss."""
    logits, labels = _floating("logits", logits), as_array("labels", labels)
    dtype = logits.dtype if labels.dtype == logits.dtype else jnp.result_type(logits, labels)
    where = _mask(logits, axis, where)
    if where is not None:
        labels = jnp.where(where, labels, 0)
    if logits.shape != labels.shape:
        logits, labels = _broadcast_logits(logits, labels, where, axis)
    return _cast(logits, dtype), labels, where, dtype


def _broadcast_logits(
    logits: jax.Array, labels: jax.Array, where: jax.Array | None, axis: Axis
) -> tuple[jax.Array, jax.Array]:
    """Logits and distributions of one shape; an error if there would be more classes than logits of a row."""
    shape = jnp.broadcast_shapes(logits.shape, labels.shape, () if where is None else where.shape)
    lengths = (0,) * (len(shape) - logits.ndim) + logits.shape
    given, logits = logits.shape, jnp.broadcast_to(logits, shape)
    axes = check_logits(backend_of({"logits": logits}), logits, axis, None, "logits")
    if any(lengths[a] != shape[a] for a in axes):
        raise ValueError(
            f"logits must have all classes of the labels along axis={axis}, got logits of shape {given} and labels of "
            f"shape {labels.shape}"
        )
    return logits, jnp.broadcast_to(labels, shape)


def _mask(logits: jax.Array, axis: Axis, where: Any) -> jax.Array | None:
    """A mask that broadcasts with the logits, of one that may lack the class axes."""
    if where is None:
        return None
    mask = as_array("where", where)
    if mask.dtype != bool:
        raise TypeError(f"where must hold booleans, got {mask.dtype}")
    if mask.ndim == logits.ndim:
        return mask
    return jnp.expand_dims(mask, tuple(range(logits.ndim)) if axis is None else axis)


def _floating(name: str, value: Any) -> jax.Array:
    x = as_array(name, value)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} must hold floating-point numbers, got {x.dtype}")
    return x


def _cast(x: jax.Array, dtype: Any) -> jax.Array:
    return x if x.dtype == dtype else x.astype(dtype)
