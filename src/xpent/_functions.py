"""The public functions: their signatures, documentation and argument checks."""

from __future__ import annotations

from typing import Literal

from xpent._arguments import (
    Axis,
    check_block_size,
    check_layer,
    check_logits,
    check_loss,
    check_softcap,
    index_check,
)
from xpent._backends.registry import backend_of
from xpent._engine.call import Call, differentiable, names_options
from xpent._engine.layout import class_count, to_rows
from xpent._engine.types import Array, ArrayT
from xpent._losses import linear
from xpent._losses import softmax as rules
from xpent._losses import targets as loss
from xpent._losses.cross_entropy import CROSS_ENTROPY
from xpent._losses.linear import LINEAR_CROSS_ENTROPY
from xpent._losses.softmax import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX, softmax_of_rows


@differentiable
def softmax(x: ArrayT, /, *, axis: Axis = -1, where: Array | None = None) -> Call:
    """Softmax, the probabilities p_j = exp(x_j) / sum_k exp(x_k).

    Parameters
    ----------
    x : array of real numbers
        Logits. float16 and bfloat16 are computed in float32, integers and booleans in the default floating dtype.
    axis : int, tuple of ints or None
        The class axes; None means all axes.
    where : array of booleans, optional
        Broadcastable to the shape of ``x``. Classes where it is False are masked: their logits count as -inf.

    Returns
    -------
    array
        Shape of ``x``; its dtype, or the default floating dtype for integers and booleans. Masked classes have
        probability 0, and each row sums to 1, or to 0 if all its classes are masked. A row with NaN or +inf is NaN.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers, ``where`` is not an array of booleans, they come from different
        libraries, or ``axis`` is not an int, a tuple of ints or None.
    ValueError
        If ``axis`` is out of range, names an axis twice or names none, ``where`` does not broadcast to the shape of
        ``x``, or they are on different devices.

    Notes
    -----
    p_j = exp(x_j - m) / sum_k exp(x_k - m) with m the maximum of the row. Reference: Blanchard, Higham and Higham,
    "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> xpent.softmax(np.asarray([1.0, 2.0, 3.0])).round(8)
    array([0.09003057, 0.24472847, 0.66524096])
    """
    backend = backend_of({"x": x}, {"where": where})
    axes = check_logits(backend, x, axis, where)
    return Call(backend, SOFTMAX, (x,), rules.Constants(where), rules.Options(axes))


@differentiable
def log_softmax(x: ArrayT, /, *, axis: Axis = -1, where: Array | None = None) -> Call:
    """Logarithm of softmax, log p_j = x_j - log sum_k exp(x_k), in nats.

    Parameters
    ----------
    x : array of real numbers
        Logits. float16 and bfloat16 are computed in float32, integers and booleans in the default floating dtype.
    axis : int, tuple of ints or None
        The class axes; None means all axes.
    where : array of booleans, optional
        Broadcastable to the shape of ``x``. Classes where it is False are masked: their logits count as -inf.

    Returns
    -------
    array
        Shape of ``x``; its dtype, or the default floating dtype for integers and booleans. -inf for masked classes. A
        row that holds NaN or +inf is NaN.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers, ``where`` is not an array of booleans, they come from different
        libraries, or ``axis`` is not an int, a tuple of ints or None.
    ValueError
        If ``axis`` is out of range, names an axis twice or names none, ``where`` does not broadcast to the shape of
        ``x``, or they are on different devices.

    Notes
    -----
    log p_j = (x_j - m) - log1p(r), where m is the maximum of the row, first attained at a, and r the sum of
    exp(x_k - m) over all k != a. Reference: Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and
    softmax functions", IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> xpent.log_softmax(np.asarray([0.0, 50.0]))
    array([-5.00000000e+01, -1.92874985e-22])
    """
    backend = backend_of({"x": x}, {"where": where})
    axes = check_logits(backend, x, axis, where)
    return Call(backend, LOG_SOFTMAX, (x,), rules.Constants(where), rules.Options(axes))


@differentiable
def logsumexp(x: ArrayT, /, *, axis: Axis = -1, keepdims: bool = False, where: Array | None = None) -> Call:
    """Logarithm of a sum of exponentials, log sum_j exp(x_j), in nats.

    Parameters
    ----------
    x : array of real numbers
        float16 and bfloat16 are computed in float32, integers and booleans in the default floating dtype.
    axis : int, tuple of ints or None
        The axes summed over; None means all axes.
    keepdims : bool
        Whether to keep the axes summed over, as axes of length one.
    where : array of booleans, optional
        Broadcastable to the shape of ``x``. Entries where it is False are excluded from the sum.

    Returns
    -------
    array
        Shape of ``x`` without ``axis`` (of length one with ``keepdims``); its dtype, or the default floating dtype for
        integers and booleans. A sum with a NaN is NaN, one with +inf and no NaN is +inf. A sum with no terms, or whose
        terms are all exp(-inf), is -inf, with a gradient of 0.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers, ``where`` is not an array of booleans, they come from different
        libraries, or ``axis`` is not an int, a tuple of ints or None.
    ValueError
        If ``axis`` is out of range, names an axis twice or names none, ``where`` does not broadcast to
        the shape of ``x``, or they are on different devices.

    Notes
    -----
    m + log1p(r), where m is the maximum, first attained at a, and r the sum of exp(x_k - m) over all k != a. Reference:
    Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer. Anal.
    41(4), 2021.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> float(xpent.logsumexp(np.asarray([1000.0, 1000.0])))
    1000.6931471805599
    """
    backend = backend_of({"x": x}, {"where": where})
    axes = check_logits(backend, x, axis, where)
    options = rules.Options(axes, bool(keepdims))
    return Call(backend, LOGSUMEXP, (x,), rules.Constants(where), options, len(axes) == x.ndim and not keepdims)


@names_options
def softmax_jacobian(x: ArrayT, /, *, axis: int = -1) -> ArrayT:
    """Jacobian of softmax, dp_i / dx_j = p_i (1 - p_i) on the diagonal and -p_i p_j off it.

    Parameters
    ----------
    x : array of real numbers
        Logits with C classes along ``axis``.
    axis : int
        The class axis.

    Returns
    -------
    array
        Shape of ``x`` without ``axis``, followed by (C, C); the dtype that `softmax` returns.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers or ``axis`` is not an int.
    ValueError
        If ``x`` has no such axis.

    Notes
    -----
    diag(p) - p p^T. Where p_i is more than 1/2, 1 - p_i is computed as the sum of the other probabilities, to avoid
    cancellation.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> xpent.softmax_jacobian(np.asarray([0.0, 0.0]))
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    if axis is None or isinstance(axis, tuple):
        raise TypeError(f"axis must be an int, got {axis!r}")
    backend = backend_of({"x": x})
    axes = check_logits(backend, x, axis, None)
    xp, dtype = backend.xp, backend.accumulation_dtype(x.dtype)
    with backend.errstate():
        p = softmax_of_rows(backend, to_rows(backend, backend.cast(x, dtype), axes))
        is_likely = p > 0.5
        complement = xp.where(is_likely, backend.total(xp.where(is_likely, 0.0, p)), 1.0 - p)
        index = backend.class_indices(p)
        jacobian = xp.where(index[:, None] == index, (p * complement)[..., None], -p[..., :, None] * p[..., None, :])
    returned: ArrayT = backend.cast(jacobian, x.dtype if backend.is_floating(x) else dtype)
    return returned


@differentiable
def cross_entropy(
    logits: ArrayT,
    targets: Array,
    /,
    *,
    axis: Axis = -1,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: Array | float = 0.0,
    z_loss: Array | float = 0.0,
    where: Array | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    normalizer: Array | float | None = None,
) -> Call:
    """Cross-entropy of targets under softmax(logits), in nats.

    Parameters
    ----------
    logits : array of real numbers
        C classes along ``axis``, one row for every index of the other axes. float16 and bfloat16 are computed in
        float32, integers and booleans in the default floating dtype. Classes with a logit of -inf are masked.
    targets : array
        Either class indices, integers of the shape of ``logits`` without ``axis``, or a distribution over the classes,
        real numbers of the shape of ``logits``. Distributions are promoted to the dtype of the computation.
    axis : int, tuple of ints or None
        The class axes; None means all axes. With several, a class index is the flat index into them, in the order
        given.
    class_weight : array of real numbers, optional
        Shape (C,), at least 0. Not differentiated.
    sample_weight : array of real numbers, optional
        One weight per row, at least 0: the shape of ``logits`` without ``axis``. Not differentiated.
    ignore_index : int, optional
        Rows with this class index are ignored: their loss and gradient are 0, whatever their logits.
    label_smoothing : number or array of shape ()
        In [0, 1]: the fraction eps of every target that is distributed uniformly over the K unmasked classes,
        q becomes (1 - eps) q + eps / K. If K is 0, the second term is omitted. Not differentiated.
    z_loss : number or array of shape ()
        At least 0: adds z_loss * logsumexp(logits)**2 to the loss of each row that has a target. Not differentiated.
    where : array of booleans, optional
        Broadcastable to the shape of ``logits``. Classes where it is False are masked: their logits count as -inf.
    reduction : {"mean", "sum", "none"}
        The mean divides the sum of the losses by the sum of the row weights. The weight of a row is its
        ``sample_weight``, multiplied by sum_k q_k w_k of the unsmoothed target if there is a ``class_weight``. The
        mean over no rows is 0.
    normalizer : number or array of shape (), optional
        At least 0. Divides the sum of the losses, with reduction "mean" or "sum": for example the number of tokens in
        all micro-batches. With 0, the result is 0 if all row weights are 0. Not differentiated.

    Returns
    -------
    array
        Shape (), or that of ``logits`` without ``axis`` if the reduction is "none"; float32, or the dtype of ``logits``
        if that is wider. The loss of a row with NaN or +inf is NaN, and that of a row whose target is masked is +inf.

    Raises
    ------
    TypeError
        If an argument is not an array or number of the kind documented above, an option does not exist, or arrays come
        from different libraries.
    ValueError
        If a shape or an option is not as documented above, arrays are on different devices, or a class index is out of
        range. Where indices cannot be checked cheaply (on a GPU, under jit, compile or vmap), the loss of a row with
        such an index is NaN instead.

    Notes
    -----
    With m the maximum of a row, z = x_t - m at its target t and r the sum of exp(x_j - m) over j != t, the loss is
    log1p(r / exp(z)), and with s = r + exp(z) the gradient is exp(x_j - m) / s, and -r / s at the target: there is no
    cancellation for confident predictions. For a distribution q, the first maximum is taken out of the sum: the
    loss is sum_j q_j w_j ((m - x_j) + log1p(r)), the gradient p_j sum_k q_k w_k - q_j w_j. Reference: Blanchard, Higham
    and Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer. Anal. 41(4), 2021.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> logits = np.asarray([[1.0, 3.0, 5.0, 7.0], [1.0, -9.0, 4.0, 8.0]])
    >>> xpent.cross_entropy(logits, np.asarray([3, 1]), reduction="none").round(8)
    array([ 0.14507794, 17.01904505])
    """
    backend = backend_of(
        {"logits": logits, "targets": targets},
        {"class_weight": class_weight, "sample_weight": sample_weight, "where": where},
        {"label_smoothing": label_smoothing, "z_loss": z_loss, "normalizer": normalizer},
    )
    axes = check_logits(backend, logits, axis, where, "logits", needs_classes=True)
    options, numbers = check_loss(
        backend,
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
    constants = loss.Constants(where, class_weight, sample_weight, *numbers)
    is_scalar = reduction != "none" or len(axes) == logits.ndim
    check = index_check(backend, 1, class_count(logits.shape, axes)) if options.is_checked else None
    return Call(backend, CROSS_ENTROPY, (logits, targets), constants, options, is_scalar, check)


@differentiable
def linear_cross_entropy(
    features: ArrayT,
    weight: Array,
    targets: Array,
    /,
    *,
    bias: Array | None = None,
    softcap: Array | float | None = None,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: Array | float = 0.0,
    z_loss: Array | float = 0.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    normalizer: Array | float | None = None,
    block_size: int | None = None,
) -> Call:
    """Cross-entropy of targets under softmax(features @ weight.T + bias), in nats, without materializing all logits.

    Equivalent to `cross_entropy` of these logits, with the same edge cases. The value and the gradients are computed in
    blocks of rows; a block holds the logits of all classes.

    Parameters
    ----------
    features : array of floating-point numbers
        Shape (..., D): one row for every index of the axes before the last.
    weight : array of floating-point numbers
        Shape (C, D), as in torch.nn.Linear, of the dtype of ``features`` unless torch.autocast casts both.
    targets : array
        Either class indices, integers of shape (...), or a distribution over the classes, real numbers of shape
        (..., C).
    bias : array of floating-point numbers, optional
        Shape (C,), of the dtype of ``features``. It is differentiable: for `vjp`, `jvp`, `grad` and `value_and_grad` it
        is one more primal after the targets, with index 3.
    softcap : number or array of shape (), optional
        A positive number c: the logits x become c tanh(x / c). Not differentiated.
    class_weight : array of real numbers, optional
        Shape (C,), at least 0. Not differentiated.
    sample_weight : array of real numbers, optional
        One weight per row, at least 0: shape (...). Not differentiated.
    ignore_index : int, optional
        Rows with this class index are ignored: their loss and gradient are 0, whatever their features.
    label_smoothing : number or array of shape ()
        In [0, 1]: the fraction of every target that is distributed uniformly over the unmasked classes. Not
        differentiated.
    z_loss : number or array of shape ()
        At least 0: adds z_loss * logsumexp(logits)**2 to the loss of each row that has a target. Not differentiated.
    reduction : {"mean", "sum", "none"}
        As in `cross_entropy`: the mean divides by the sum of the row weights.
    normalizer : number or array of shape (), optional
        At least 0. Divides the sum of the losses, with reduction "mean" or "sum". With 0, the result is 0 if all row
        weights are 0. Not differentiated.
    block_size : int, optional
        Rows per block. By default, a block has about 2**24 logits (64 MiB in float32), or up to 256 rows if that is
        more and the gradient of the weight is computed. In JAX, which stores two arrays of this size, these numbers
        are half as large. Smaller blocks are slower, because each adds to the gradient of the weight.

    Returns
    -------
    array
        Shape (), or (...) if the reduction is "none"; float32, or the dtype of ``features`` if that is wider.

    Raises
    ------
    TypeError
        If an argument is not an array or number of the kind documented above, an option does not exist, arrays come
        from different libraries, or features, weight and bias differ in dtype.
    ValueError
        If a shape or an option is not as documented above, arrays are on different devices, or a class index is out of
        range. Where indices cannot be checked cheaply (on a GPU, under jit, compile or vmap), the loss of a row with
        such an index is NaN instead.

    Notes
    -----
    With G the gradient with respect to the logits X W^T + b, the gradients of features, weight and bias are G W, G^T X
    and the sum of G over its rows; only the requested ones are computed. X W^T and G W are products in the dtype of
    ``features``; everything else is computed and accumulated in at least float32. A class is masked by a bias of -inf,
    but not by its weights.

    Computing the value and the gradients, also in reverse mode, holds the logits of one block in memory at a time, in
    JAX also under `jax.jit`; docs/linear.md lists the exceptions. Second derivatives and the gradient with respect to a
    distribution materialize all logits; so do, in PyTorch, torch.compile, torch.func and forward mode, and in NumPy,
    forward mode unless the reduction is "none".

    Examples
    --------
    >>> import numpy as np, xpent
    >>> features, weight = np.asarray([[1.0, 2.0]]), np.asarray([[0.0, 0.0], [1.0, 1.0]])
    >>> loss = xpent.linear_cross_entropy(features, weight, np.asarray([1]))
    >>> float(loss.round(8))  # log(1 + exp(-3))
    0.04858735
    >>> grad_features, grad_weight = xpent.grad(xpent.linear_cross_entropy, (0, 1))(features, weight, np.asarray([1]))
    >>> grad_weight.round(8)
    array([[ 0.04742587,  0.09485175],
           [-0.04742587, -0.09485175]])
    """
    backend = backend_of(
        {"features": features, "weight": weight, "targets": targets},
        {"bias": bias, "class_weight": class_weight, "sample_weight": sample_weight},
        {"softcap": softcap, "label_smoothing": label_smoothing, "z_loss": z_loss, "normalizer": normalizer},
    )
    dtype = check_layer(backend, features, weight, bias)
    loss_options, numbers = check_loss(
        backend,
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
    constants = linear.Constants(class_weight, sample_weight, *numbers, check_softcap(backend, softcap, features))
    options = linear.Options(
        loss_options.ignore_index, loss_options.is_checked, reduction, check_block_size(block_size), dtype
    )
    primals = (features, weight, targets) if bias is None else (features, weight, targets, bias)
    is_scalar = reduction != "none" or features.ndim == 1
    check = index_check(backend, 2, weight.shape[0]) if options.is_checked else None
    return Call(backend, LINEAR_CROSS_ENTROPY, primals, constants, options, is_scalar, check)
