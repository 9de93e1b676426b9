"""The functions of torch.nn.functional that xpent computes, with their signatures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions, functional

from xpent import _functions
from xpent.torch._translation import (
    FLOATING,
    HALF,
    Loss,
    evaluate_loss,
    has_no_masked_class,
    is_autocast,
    is_supported,
    legacy_reduction,
    overridable,
    promoted,
    python_number,
    with_nan_rows,
)

# Called for unsupported arguments, to raise PyTorch's errors. Bound here because `patch` replaces one of them.
_softmax, _log_softmax, _nll_loss = functional.softmax, functional.log_softmax, functional.nll_loss
_cross_entropy, _linear_cross_entropy = functional.cross_entropy, functional.linear_cross_entropy


@overridable
def softmax(
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Softmax as `torch.nn.functional.softmax` computes it: exp(x_j) / sum_k exp(x_k).

    Parameters
    ----------
    input : Tensor
        Logits.
    dim : int, optional
        The dimension that sums to 1. Without it, PyTorch's deprecated choice: 0 for 0, 1 or 3 dimensions, else 1.
    _stacklevel : int
        Which caller the warning about a missing ``dim`` names.
    dtype : torch.dtype, optional
        What ``input`` is converted to first.

    Returns
    -------
    Tensor
        Shape of ``input``. NaN for a row that is -inf everywhere or holds NaN or +inf.

    Raises
    ------
    IndexError, NotImplementedError, TypeError
        As `torch.nn.functional.softmax` does.

    Notes
    -----
    Rows are divided by a sum that is accurate for any number of classes.

    Examples
    --------
    >>> import torch, xpent.torch
    >>> xpent.torch.softmax(torch.tensor([1.0, 2.0, 3.0]), dim=0)
    tensor([0.0900, 0.2447, 0.6652])
    """
    return _of_rows("softmax", input, dim, _stacklevel, dtype)


@overridable
def log_softmax(
    input: Tensor,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Logarithm of softmax as `torch.nn.functional.log_softmax` computes it: x_j - log sum_k exp(x_k).

    Parameters
    ----------
    input : Tensor
        Logits.
    dim : int, optional
        The dimension whose exponentials sum to 1. Without it, PyTorch's deprecated choice: 0 for 0, 1 or 3 dimensions,
        else 1.
    _stacklevel : int
        Which caller the warning about a missing ``dim`` names.
    dtype : torch.dtype, optional
        What ``input`` is converted to first.

    Returns
    -------
    Tensor
        Shape of ``input``. NaN for a row that is -inf everywhere or holds NaN or +inf.

    Raises
    ------
    IndexError, NotImplementedError, TypeError
        As `torch.nn.functional.log_softmax` does.

    Notes
    -----
    `torch.nn.functional.log_softmax` returns 0 for the largest entry if its probability is close to 1; here it is
    accurate.

    Examples
    --------
    >>> import torch, xpent.torch
    >>> xpent.torch.log_softmax(torch.tensor([0.0, -50.0]), dim=0)
    tensor([-1.9287e-22, -5.0000e+01])
    """
    return _of_rows("log_softmax", input, dim, _stacklevel, dtype)


@overridable
def logsumexp(input: Tensor, dim: int | tuple[int, ...], keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
    """Logarithm of a sum of exponentials as `torch.logsumexp` computes it: log sum_j exp(x_j).

    Parameters
    ----------
    input : Tensor
        Numbers. Complex ones are left to `torch.logsumexp`.
    dim : int or tuple of ints
        The dimensions summed over.
    keepdim : bool
        Whether to keep the dimensions summed over, as dimensions of length one.
    out : Tensor, optional
        Where to write the result; no input may require a gradient then.

    Returns
    -------
    Tensor
        The dtype of ``input``, the default one for integers and booleans. -inf for a sum of zeros or of nothing.

    Raises
    ------
    IndexError, RuntimeError, TypeError
        As `torch.logsumexp` does.

    Notes
    -----
    `torch.logsumexp` returns the maximum if the other terms are small. This is a correct rounding unless the maximum is
    close to 0; in that case, only this function is accurate.

    Examples
    --------
    >>> import torch, xpent.torch
    >>> xpent.torch.logsumexp(torch.tensor([0.0, -50.0]), dim=0)
    tensor(1.9287e-22)
    """
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    dims = tuple([python_number(d) for d in dims])
    is_supported = (
        isinstance(input, Tensor)
        and not input.is_complex()
        and type(keepdim) is bool
        and len(dims) > 0
        and all(_is_dimension(input, d) for d in dims)
        and len({d % input.dim() for d in dims}) == len(dims)
    )
    if not is_supported:
        return torch.logsumexp(input, dim, keepdim, out=out)
    value = _functions.logsumexp(input, axis=dims, keepdims=keepdim)
    return value if out is None else torch.mul(value, 1, out=out)  # resizes and converts as PyTorch does


@overridable
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood loss of log-probabilities, by `torch.nn.functional.nll_loss`.

    Parameters
    ----------
    input : Tensor
        Log-probabilities, (C), (N, C) or (N, C, d1, ...).
    target : Tensor
        Class indices, int64 or uint8: the shape of ``input`` without the dimension of the classes.
    weight : Tensor, optional
        One weight for each class, (C).
    size_average, reduce : bool, optional
        Deprecated in favor of ``reduction``.
    ignore_index : int
        Rows with this target are ignored.
    reduction : {"mean", "sum", "none"}
        The mean divides by the sum of the weights of the targets.

    Returns
    -------
    Tensor
        The dtype of ``input``.

    Raises
    ------
    IndexError, RuntimeError, TypeError, ValueError
        As `torch.nn.functional.nll_loss` does.

    Notes
    -----
    The loss of a row is one entry of ``input``, so only the sum over the rows can be inaccurate. PyTorch sums float16
    and bfloat16 on a CPU in these dtypes, and its mean of 70000 rows in float16 is NaN; here they are summed in
    float32.

    Examples
    --------
    >>> import torch, xpent.torch
    >>> xpent.torch.nll_loss(torch.tensor([[-0.5, -1.0], [-0.25, -2.0]]), torch.tensor([1, 0]))
    tensor(0.6250)
    """
    is_half = isinstance(input, Tensor) and input.dtype in HALF and input.is_cpu
    if not is_half or (weight is not None and weight.dtype != input.dtype) or is_autocast(input):
        return _nll_loss(input, target, weight, size_average, ignore_index, reduce, reduction)
    weight = None if weight is None else weight.float()
    return _nll_loss(input.float(), target, weight, size_average, ignore_index, reduce, reduction).to(input.dtype)


@overridable
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of targets under softmax, as `torch.nn.functional.cross_entropy` computes it.

    Parameters
    ----------
    input : Tensor
        Logits, (C), (N, C) or (N, C, d1, ...).
    target : Tensor
        Either class indices, int64 or uint8, of the shape of ``input`` without the dimension of the classes, or class
        probabilities, floating-point numbers of the shape of ``input``.
    weight : Tensor, optional
        One weight for each class, (C); with class indices a constant, of the dtype of ``input``.
    size_average, reduce : bool, optional
        Deprecated in favor of ``reduction``.
    ignore_index : int
        Rows with this class index are ignored.
    reduction : {"mean", "sum", "none"}
        The mean divides by the sum of the weights of the targets; for class probabilities, by the number of rows.
    label_smoothing : float
        In [0, 1]: this share of every target is spread evenly over all classes.

    Returns
    -------
    Tensor
        The dtype of ``input``, or what it, probabilities and weights promote to; float32 instead of a smaller one under
        `torch.autocast`. NaN for the mean of nothing, and for a row that is -inf everywhere or holds NaN or +inf.

    Raises
    ------
    IndexError, NotImplementedError, RuntimeError, TypeError, ValueError
        As `torch.nn.functional.cross_entropy` does. RuntimeError for a negative ``label_smoothing``, which PyTorch
        treats as 0.

    Notes
    -----
    Loss and gradient are accurate for confident rows, for which PyTorch returns 0. A class of probability 0 may have
    logit -inf. Sums over rows of float16 and bfloat16 are computed in float32. On a CPU, labels of uint8 may have
    three or more dimensions. Negative weights for class indices on a CPU are left to PyTorch's function.

    Examples
    --------
    >>> import torch, xpent.torch
    >>> logits, labels = torch.tensor([[100.0, 80.0, 0.0]]), torch.tensor([0])
    >>> torch.nn.functional.cross_entropy(logits, labels)
    tensor(0.)
    >>> xpent.torch.cross_entropy(logits, labels)
    tensor(2.0612e-09)
    """
    if size_average is not None or reduce is not None:
        reduction = legacy_reduction(size_average, reduce)
    loss = Loss(weight, python_number(ignore_index), reduction, python_number(label_smoothing))
    if isinstance(input, Tensor) and input.dim() > 0:
        axis = min(input.dim(), 2) - 1

        def evaluate(targets: Tensor, options: dict[str, Any], has_nan_rows: bool) -> Tensor:
            x = with_nan_rows(input, axis) if has_nan_rows else input
            return _functions.cross_entropy(x, targets, axis=axis, **options)

        dtype = promoted(input)
        if is_supported(loss, dtype, input.shape, axis, target):
            try:
                smooths = loss.label_smoothing > 0 and has_no_masked_class(input)
                return evaluate_loss(evaluate, loss, dtype, input.shape, axis, target, smooths=smooths)
            except ValueError:  # labels out of range, negative weights: PyTorch refuses or takes them
                pass
    return _cross_entropy(
        input, target, weight, None, loss.ignore_index, None, reduction, label_smoothing=loss.label_smoothing
    )


@overridable
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: LinearCrossEntropyOptions | None = None,
) -> Tensor:
    """Cross-entropy of the outputs of a linear layer, as `torch.nn.functional.linear_cross_entropy` computes it.

    Parameters
    ----------
    input : Tensor
        Features, (D) or (N, D).
    linear_weight : Tensor
        (C, D), or (C, d1, ..., D) for a layer at every one of several positions.
    target : Tensor
        Either class indices, () or (N) or (N, d1, ...), or class probabilities, (C) or (N, C) or (N, C, d1, ...).
    linear_bias : Tensor, optional
        The shape of ``linear_weight`` without its last dimension.
    weight : Tensor, optional
        One weight for each class, (C).
    reduction : {"mean", "sum", "none"}
        As in `cross_entropy`.
    ignore_index : int, optional
        Rows with this class index are ignored; None stands for -100. Not allowed with class probabilities.
    label_smoothing : float
        In [0, 1]: this share of every target is spread evenly over all classes.
    options : LinearCrossEntropyOptions, optional
        Its ``batch_chunk_size`` is the number of rows in a block. The other options, which concern memory, accuracy and
        the number of backward passes, are ignored: xpent adds the blocks in float32 or a wider dtype, and the result
        can be differentiated any number of times.

    Returns
    -------
    Tensor
        The dtype of the logits, or what they, probabilities and weights promote to; float32 instead of a smaller one
        under `torch.autocast`.

    Raises
    ------
    IndexError, NotImplementedError, RuntimeError, TypeError, ValueError
        As `torch.nn.functional.linear_cross_entropy` does.

    Notes
    -----
    The logits are computed block by block, with or without ``options``. All logits are stored only if ``linear_weight``
    has three or more dimensions, and in the cases listed in `xpent.linear_cross_entropy`. With label smoothing, class
    indices are converted to (N, C) probabilities if the bias may mask a class, that is, if it contains -inf, or if it
    cannot be inspected (on a GPU and under `torch.compile`).

    Examples
    --------
    >>> import torch, xpent.torch
    >>> features, layer = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    >>> xpent.torch.linear_cross_entropy(features, layer, torch.tensor([1]))  # log(1 + exp(-3))
    tensor(0.0486)
    """
    arrays = [input, linear_weight] if linear_bias is None else [input, linear_weight, linear_bias]
    number = -100 if ignore_index is None else python_number(ignore_index)
    loss = Loss(weight, number, reduction, python_number(label_smoothing))
    if _is_layer(arrays, options) and isinstance(target, Tensor):
        shape, axis = (*input.shape[:-1], *linear_weight.shape[:-1]), input.dim() - 1
        is_refused = ignore_index is not None and target.shape == shape
        if linear_weight.dim() > 2 and not is_refused and 0 not in shape:
            if options is not None:
                warnings.warn("options are ignored: linear_weight has more than two dimensions", stacklevel=3)
            flat = [array.reshape(-1, *array.shape[linear_weight.dim() - 1 :]) for array in arrays[1:]]
            logits = functional.linear(input, *flat).reshape(shape)
            return cross_entropy(logits, target, weight, None, number, None, reduction, label_smoothing)

        def evaluate(targets: Tensor, arguments: dict[str, Any], has_nan_rows: bool) -> Tensor:
            bias = with_nan_rows(linear_bias, 0) if has_nan_rows and linear_bias is not None else linear_bias
            size = None if options is None else options.batch_chunk_size
            return _functions.linear_cross_entropy(
                input, linear_weight, targets, bias=bias, block_size=size, **arguments
            )

        dtype = promoted(input)
        if not is_refused and is_supported(loss, dtype, shape, axis, target):
            try:
                smooths = linear_bias is None or (loss.label_smoothing > 0 and has_no_masked_class(linear_bias))
                return evaluate_loss(evaluate, loss, dtype, shape, axis, target, smooths=smooths)
            except ValueError:
                pass
    return _linear_cross_entropy(
        input, linear_weight, target, linear_bias=linear_bias, weight=weight, reduction=reduction,
        ignore_index=ignore_index, label_smoothing=label_smoothing, options=options,
    )  # fmt: skip


def _of_rows(name: str, x: Tensor, dim: Any, stacklevel: int, dtype: Any) -> Tensor:
    original = _softmax if name == "softmax" else _log_softmax
    if dim is None and isinstance(x, Tensor):
        warnings.warn(
            f"Implicit dimension choice for {name} has been deprecated. "
            "Change the call to include dim=X as an argument.",
            stacklevel=stacklevel + 1,
        )
        dim = 0 if x.dim() in (0, 1, 3) else 1
    dim = python_number(dim)
    is_supported = _is_dimension(x, dim) and (x.dtype if dtype is None else dtype) in FLOATING
    if not is_supported:
        return original(x, dim, stacklevel, dtype)
    if dtype is None and x.dtype in HALF and is_autocast(x):
        dtype = original(x.new_empty(0), 0).dtype  # it depends on the device
    x = x if dtype is None else x.to(dtype)
    function: Callable[..., Tensor] = _functions.softmax if name == "softmax" else _functions.log_softmax
    return function(with_nan_rows(x, dim), axis=dim)


def _is_dimension(x: Any, dim: Any) -> bool:
    """Whether an argument is a dimension of a tensor that has entries."""
    if not isinstance(x, Tensor) or not isinstance(dim, int) or isinstance(dim, bool):
        return False
    return -x.dim() <= dim < x.dim() and 0 not in x.shape


def _is_layer(arrays: list[Tensor], options: Any) -> bool:
    """Whether features, weight and perhaps bias are those of a linear layer."""
    if not all(isinstance(array, Tensor) and array.is_floating_point() for array in arrays):
        return False
    features, weight, *biases = arrays
    return (
        ((weight.dim() == 2 and features.dim() in (1, 2)) or (weight.dim() > 2 and features.dim() == 2))
        and features.shape[-1] == weight.shape[-1]
        and all(bias.shape == weight.shape[:-1] for bias in biases)
        and (is_autocast(features) or all(array.dtype == features.dtype for array in arrays))
        and (options is None or isinstance(options, LinearCrossEntropyOptions))
    )
