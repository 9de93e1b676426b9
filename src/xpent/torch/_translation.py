"""What PyTorch's options of a loss mean in terms of xpent's."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from xpent._backends.torch import TORCH

HALF = (torch.float16, torch.bfloat16)
FLOATING = (torch.float32, torch.float64, *HALF)


P = ParamSpec("P")


def overridable(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Pass a call to ``__torch_function__`` of its arguments or of a mode first, as functions of PyTorch do.

    This is how torch.fx records the call, and how a tensor subclass or a mode may evaluate it.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        arguments = (*args, *kwargs.values())
        if has_torch_function(arguments):
            result: Tensor = handle_torch_function(wrapper, arguments, *args, **kwargs)
            return result
        return function(*args, **kwargs)

    return wrapper


class Loss(NamedTuple):
    """The options of a loss, with PyTorch's meaning."""

    weight: Tensor | None
    ignore_index: Any
    reduction: Any
    label_smoothing: Any


def is_supported(loss: Loss, dtype: torch.dtype, shape: tuple[int, ...], axis: int, target: Any) -> bool:
    """Whether PyTorch documents a loss with these arguments; otherwise its own function is called, for its errors."""
    weight, ignore_index, reduction, label_smoothing = loss
    if type(label_smoothing) in (float, int) and not label_smoothing >= 0.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if (
        not isinstance(target, Tensor)
        or dtype not in FLOATING
        or 0 in shape
        or not isinstance(ignore_index, int)
        or isinstance(ignore_index, bool)
        or reduction not in ("mean", "sum", "none")
        or not isinstance(label_smoothing, float | int)
        or not label_smoothing <= 1.0
    ):
        return False
    is_weight = weight is None or (isinstance(weight, Tensor) and weight.shape == (shape[axis],))
    if target.shape == shape:
        return is_weight and ignore_index < 0 and target.is_floating_point()
    if target.dtype not in (torch.int64, torch.uint8) or target.shape not in _index_shapes(shape, axis):
        return False
    return is_weight and (weight is None or (promoted(weight) == dtype and not weight.requires_grad))


def _index_shapes(shape: tuple[int, ...], axis: int) -> list[tuple[int, ...]]:
    """The shapes of class indices for logits of a shape."""
    return [(), (1,)] if len(shape) == 1 else [(*shape[:axis], *shape[axis + 1 :])]


def evaluate_loss(
    evaluate: Callable[[Tensor, dict[str, Any], bool], Tensor],
    loss: Loss,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    axis: int,
    target: Tensor,
    *,
    smooths: bool = False,
) -> Tensor:
    """A supported loss.

    ``evaluate`` computes it from targets and options of xpent and whether a row of -inf must be NaN. ``smooths`` says
    that no class is masked: xpent then smooths class indices as PyTorch does.
    """
    weight, ignore_index, reduction, label_smoothing = loss
    computed = torch.promote_types(dtype, torch.float32)
    if target.shape == shape:
        for array in (target, weight):
            dtype = dtype if array is None else torch.promote_types(dtype, promoted(array))
        rows = float(math.prod(shape) // shape[axis])
        targets = _probabilities(target.to(torch.promote_types(dtype, computed)), axis, weight, label_smoothing)
        options = {"reduction": reduction, "normalizer": rows if reduction == "mean" else None}
        return evaluate(targets, options, True).to(dtype)
    target = target.reshape(()) if len(shape) == 1 else target
    if smooths or label_smoothing == 0:
        options = {"reduction": reduction, "class_weight": weight, "ignore_index": ignore_index}
        if label_smoothing:
            options["label_smoothing"] = float(label_smoothing)
        # A loss that is known to be finite has no rows of -inf, and a mean that is not 0 has some row.
        is_known = TORCH.inspectable(target) is not None
        value = evaluate(target, options, not is_known)
        data = TORCH.inspectable(value) if is_known else None
        total_loss = math.nan if data is None else (data.sum() if reduction == "none" else data).item()
        if not math.isfinite(total_loss) and is_known:
            value = evaluate(target, options, True)
        if reduction == "mean" and (data is None or total_loss == 0.0):
            _, total = _rows(loss, computed, shape[axis], target)
            value = torch.where(total == 0.0, math.nan, value)  # xpent's mean of nothing is 0
        return value if value.dtype == dtype else value.to(dtype)
    # xpent spreads the share of smoothing over unmasked classes, PyTorch over all.
    counts, total = _rows(loss, computed, shape[axis], target)
    classes = TORCH.class_indices(target.unsqueeze(-1).expand(*target.shape, shape[axis]))
    one_hot = (classes == target.unsqueeze(-1)).to(computed).movedim(-1, axis)
    options = {"reduction": reduction, "sample_weight": counts, "normalizer": total if reduction == "mean" else None}
    value = evaluate(_probabilities(one_hot, axis, weight, label_smoothing), options, True).to(dtype)
    return torch.where(total == 0.0, math.nan, value) if reduction == "mean" else value


def _rows(loss: Loss, dtype: torch.dtype, classes: int, target: Tensor) -> tuple[Tensor, Tensor]:
    """1 for each row with a class, 0 for one that is ignored, NaN for others; and the sum of the weights of targets."""
    index = target.to(torch.int64)
    is_class, is_ignored = (index >= 0) & (index < classes), index == loss.ignore_index
    data = TORCH.inspectable(is_class | is_ignored)
    if data is not None and not data.all():
        raise ValueError("a class index is out of range")  # PyTorch's function then says which
    counts = is_class.to(dtype).masked_fill(~is_class, math.nan).masked_fill(is_ignored, 0.0)
    if loss.weight is None:
        return counts, counts.sum()
    known = torch.where(is_class, index, 0).reshape(-1)
    of_target = loss.weight.to(dtype).gather(0, known).reshape(index.shape)
    return counts, (counts * of_target).sum()


def _probabilities(q: Tensor, axis: int, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """Class probabilities, smoothed over all classes, times the weights of the classes."""
    if label_smoothing > 0.0:
        q = (1.0 - label_smoothing) * q + label_smoothing / q.shape[axis]
    return q if weight is None else q * weight.to(q.dtype).reshape(_along(axis, q.dim()))


def _along(axis: int, dims: int) -> list[int]:
    """The shape that makes a vector lie along an axis."""
    return [-1, *[1] * (dims - axis - 1)]


def with_nan_rows(x: Tensor, dim: int) -> Tensor:
    """The same numbers, NaN in rows that are -inf everywhere: PyTorch returns NaN for them, xpent does not."""
    data = TORCH.inspectable(x)
    if data is not None and data.detach().select(dim, 0).amin().item() > -math.inf:
        return x  # such a row has a first entry of -inf, which is quicker to look at
    largest = x.detach().amax(dim, keepdim=True)
    if TORCH.is_known_true(largest != -math.inf):
        return x
    return x + torch.zeros_like(largest).masked_fill(largest == -math.inf, math.nan)


def is_autocast(x: Tensor) -> bool:
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def has_no_masked_class(x: Tensor) -> bool:
    """Whether it is known that no entry is -inf."""
    data = TORCH.inspectable(x)
    return data is not None and data.detach().amin().item() > -math.inf


def promoted(x: Tensor) -> torch.dtype:
    """The dtype in which PyTorch computes a loss, float32 for smaller ones under autocast."""
    return torch.float32 if x.dtype in HALF and is_autocast(x) else x.dtype


def python_number(value: Any) -> Any:
    """The Python number in a scalar of NumPy or in a tensor of shape (), which PyTorch takes for numbers, too."""
    is_scalar = getattr(value, "ndim", None) == 0 and not getattr(value, "requires_grad", False)
    return value.item() if is_scalar else value


def legacy_reduction(size_average: bool | None, reduce: bool | None) -> str:
    """The reduction that deprecated arguments mean."""
    is_reduced, is_mean = reduce is None or bool(reduce), size_average is None or bool(size_average)
    reduction = ("mean" if is_mean else "sum") if is_reduced else "none"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.", stacklevel=4
    )
    return reduction
