"""Checks of arguments, made before any arithmetic. The errors say what was given and what is allowed."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable
from sys import float_info
from typing import Any

from xpent._backends.base import Array, Backend, DType
from xpent._engine.layout import Axes, batch_shape, class_count
from xpent._losses.targets import Options, is_class, is_ignored

Axis = int | tuple[int, ...] | None

REDUCTIONS = ("mean", "sum", "none")


def check_logits(
    backend: Backend, x: Array, axis: Axis, where: Array | None, name: str = "x", *, needs_classes: bool = False
) -> Axes:
    """Check the logits and return the class axes, as non-negative integers in the order of the flat class index."""
    if not backend.is_real(x):
        raise TypeError(f"{name} must hold real numbers, got {x.dtype}")
    if where is not None:
        if not backend.isdtype(where.dtype, "bool"):
            raise TypeError(f"where must hold booleans, got {where.dtype}")
        if not _is_broadcastable(tuple(where.shape), tuple(x.shape)):
            raise ValueError(f"where must broadcast to the shape {tuple(x.shape)} of {name}, got {tuple(where.shape)}")
    ndim = x.ndim
    given = axis if isinstance(axis, tuple) else range(ndim) if axis is None else (axis,)
    axes: list[int] = []
    for a in given:
        try:
            position = operator.index(a)
        except TypeError:
            raise TypeError(f"axis must be an int, a tuple of ints or None, got {axis!r}{_remedy(a)}") from None
        if not -ndim <= position < ndim:
            raise ValueError(f"axis must lie in [{-ndim}, {ndim}) for {name} with {ndim} axes, got {axis!r}")
        if needs_classes and x.shape[position] == 0:
            raise ValueError(f"{name} must have at least one class, got shape {tuple(x.shape)} with axis={axis!r}")
        axes.append(backend.static_int(position % ndim))
    if not axes:
        raise ValueError(f"axis must name at least one of the {ndim} axes of {name}, got {axis!r}")
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis must not name an axis twice, got {axis!r}")
    return tuple(axes)


def names_no_axis(axis: Any) -> bool:
    """Whether an axis is the empty tuple, which functions other than those of xpent accept."""
    return isinstance(axis, tuple) and not axis  # NumPy integers would be compared entry by entry


def _remedy(value: Any) -> str:
    """A hint for an error message, if an array (perhaps a traced one) was given instead of a Python int."""
    is_array = hasattr(value, "shape")
    return ": pass a Python int; under jit, with static_argnames or functools.partial" if is_array else ""


def _is_broadcastable(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to exactly the other."""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))


def check_number(name: str, value: Any, lowest: float, highest: float) -> float:
    """A Python number in [lowest, highest]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    value = value if isinstance(value, int) else float(value)
    if not lowest <= value <= highest:
        finite = "be finite and at least 0" if lowest == 0.0 else "be positive and finite"
        allowed = finite if highest > 1.0 else f"lie between {lowest} and {highest}"
        raise ValueError(f"{name} must {allowed}, got {value!r}")
    return float(value)


def check_number_or_array(
    backend: Backend, name: str, value: Any, like: Array, lowest: float, highest: float
) -> Array | float:
    """A Python number or an array of shape (), in [lowest, highest] if its value can be inspected."""
    if not backend.is_array(value):
        return check_number(name, value, lowest, highest)
    check_weights(backend, name, value, (), "a number")
    data = backend.inspectable(value)
    if data is not None:
        check_number(name, backend.item(data), lowest, highest)
    return backend.cast(value, backend.accumulation_dtype(like.dtype))


def check_weights(backend: Backend, name: str, weights: Array, shape: tuple[int, ...], meaning: str) -> None:
    """Check that weights hold real numbers and have the given shape."""
    if not backend.is_real(weights):
        raise TypeError(f"{name} must hold real numbers, got {weights.dtype}")
    if tuple(weights.shape) != shape:
        raise ValueError(f"{name} must have the shape {shape}, {meaning}, got {tuple(weights.shape)}")


def check_nonnegative(backend: Backend, name: str, weights: Array) -> None:
    """Check that no weight is negative if the data can be inspected."""
    data = backend.inspectable(weights)
    if data is None or 0 in data.shape:
        return
    of_data = backend.of_data
    is_negative = of_data.as_computed(data) < 0.0  # PyTorch cannot compare arrays of some unsigned dtypes
    if of_data.xp.any(is_negative):
        position = _first_position(of_data, is_negative)
        place = f" at {position}" if position else ""
        raise ValueError(f"{name} must be at least 0, got {of_data.item(data[position])}{place}")


def check_loss(
    backend: Backend,
    shape: tuple[int, ...],
    like: Array,
    targets: Array,
    axes: Axes,
    class_weight: Array | None,
    sample_weight: Array | None,
    ignore_index: int | None,
    label_smoothing: Array | float,
    z_loss: Array | float,
    reduction: str,
    normalizer: Array | float | None,
) -> tuple[Options, tuple[Array | float | None, Array | float | None, Array | float | None]]:
    """Check the arguments of a loss; return its options, and its label smoothing, z-loss and normalizer or None.

    Class indices are checked by `index_check`.
    """
    backend.check_dense(like)
    backend.check_dense(targets)
    has_indices = _are_indices(backend, targets, shape, axes)
    classes = class_count(shape, axes)
    if class_weight is not None:
        check_weights(backend, "class_weight", class_weight, (classes,), "one weight per class")
        check_nonnegative(backend, "class_weight", class_weight)
    if sample_weight is not None:
        check_weights(backend, "sample_weight", sample_weight, batch_shape(shape, axes), "one weight per row")
        check_nonnegative(backend, "sample_weight", sample_weight)
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if ignore_index is not None:
        if not isinstance(ignore_index, numbers.Integral):
            raise TypeError(f"ignore_index must be an int, got {ignore_index!r}{_remedy(ignore_index)}")
        ignore_index = int(ignore_index)
        if not has_indices:
            raise ValueError("ignore_index requires class indices; for distributions, use a sample_weight of 0")
    options = Options(axes, ignore_index, has_indices, reduction)
    if normalizer is None and type(label_smoothing) is type(z_loss) is float and label_smoothing == 0.0 == z_loss:
        return options, (None, None, None)
    return options, (
        _nonnegative_or_none(backend, "label_smoothing", label_smoothing, like, 1.0),
        _nonnegative_or_none(backend, "z_loss", z_loss, like, float_info.max),
        _check_normalizer(backend, normalizer, reduction, like),
    )


def _nonnegative_or_none(backend: Backend, name: str, value: Any, like: Array, highest: float) -> Array | float | None:
    """A number or array in [0, highest], None for the number 0."""
    if type(value) is float and value == 0.0:
        return None
    value = check_number_or_array(backend, name, value, like, 0.0, highest)
    return None if isinstance(value, float) and value == 0.0 else value


def _check_normalizer(
    backend: Backend, normalizer: Array | float | None, reduction: str, like: Array
) -> Array | float | None:
    if normalizer is None:
        return None
    if reduction == "none":
        raise ValueError('normalizer divides a sum, so it needs reduction "mean" or "sum", got "none"')
    if not backend.is_array(normalizer):
        number = check_number("normalizer", normalizer, 0.0, float_info.max)
        if number == 0.0:  # as an array, because division by the Python number 0 raises an error
            return backend.zeros((), backend.accumulation_dtype(like.dtype), like)
        return backend.scalar(number, like)
    check_weights(backend, "normalizer", normalizer, (), "a number")
    check_nonnegative(backend, "normalizer", normalizer)
    return normalizer


def _are_indices(backend: Backend, targets: Array, shape: tuple[int, ...], axes: Axes) -> bool:
    """Whether targets are class indices rather than distributions; their shape decides."""
    batch = batch_shape(shape, axes)
    if tuple(targets.shape) == batch:
        if not backend.isdtype(targets.dtype, "integral"):
            raise TypeError(
                f"class indices must be integers, got {targets.dtype}: convert them with targets.astype(int) or "
                "targets.long()"
            )
        return True
    if tuple(targets.shape) == shape:
        if not backend.is_real(targets):
            raise TypeError(f"a distribution over the classes must hold real numbers, got {targets.dtype}")
        return False
    raise ValueError(
        f"for logits of shape {shape}, targets must have the shape {batch} (class indices) or {shape} "
        f"(a distribution over the classes), got {tuple(targets.shape)}"
    )


def index_check(backend: Backend, position: int, count: int) -> Callable[[tuple[Array, ...], Any], Any]:
    """Make a function that checks the class indices among primals and returns the options with what it found.

    It raises ValueError if an index is known to be neither in range nor ignored.
    """

    def check(primals: tuple[Array, ...], options: Any) -> Any:
        targets, ignore_index = primals[position], options.ignore_index
        data = backend.inspectable(targets)
        if data is None:
            return options._replace(is_checked=False)
        if 0 in data.shape:
            return options
        of_data = backend.of_data
        index = of_data.as_index(data)
        if of_data.all_within(index, count):
            is_used = ignore_index is None or 0 <= ignore_index < count
            return options if is_used else options._replace(ignore_index=None)
        is_wrong = ~is_class(index, count)
        if ignore_index is not None:
            is_wrong = is_wrong & ~is_ignored(of_data, data, ignore_index)
        if not of_data.xp.any(is_wrong):
            return options
        place = _first_position(of_data, is_wrong)
        value = of_data.item(data[place])
        remedy = f"; to ignore rows with this target, pass ignore_index={value}" if ignore_index is None else ""
        raise ValueError(
            f"target {value} at {place} is out of range: there are {count} classes, numbered from 0{remedy}"
        )

    return check


def _first_position(backend: Backend, condition: Array) -> tuple[int, ...]:
    """The index of the first true entry."""
    flat = backend.xp.reshape(backend.as_index(condition), (-1,))
    return _unravel(int(backend.xp.argmax(flat)), tuple(condition.shape))


def _unravel(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    index: tuple[int, ...] = ()
    for length in reversed(shape):
        position, coordinate = divmod(position, length)
        index = (coordinate, *index)
    return index


def check_layer(backend: Backend, features: Array, weight: Array, bias: Array | None) -> DType:
    """Check the dtypes and shapes of a linear layer's arrays; return the dtype of their product."""
    arrays = {"features": features, "weight": weight, "bias": bias}
    given = {name: array for name, array in arrays.items() if array is not None}
    for name, array in given.items():
        if not backend.is_floating(array):
            raise TypeError(f"{name} must hold floating-point numbers, got {array.dtype}")
    dtype = backend.product_dtype(*given.values())
    if dtype is None:
        listed = ", ".join([f"{name} {array.dtype}" for name, array in given.items()])
        raise TypeError(f"features, weight and bias must have the same dtype, got {listed}")
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(f"weight must have the shape (C, D), one row for each class, got {tuple(weight.shape)}")
    if features.ndim == 0 or features.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"for a weight of shape {tuple(weight.shape)}, features must have the shape (..., {weight.shape[1]}), "
            f"got {tuple(features.shape)}"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"bias must have the shape ({weight.shape[0]},), one for each class, got {tuple(bias.shape)}")
    return dtype


def check_softcap(backend: Backend, softcap: Any, features: Array) -> Array | float | None:
    """A positive softcap, a number or an array of shape (), or None."""
    if softcap is None:
        return None
    limits = backend.xp.finfo(backend.accumulation_dtype(features.dtype))
    smallest, largest = float(limits.smallest_normal), float(limits.max)
    return check_number_or_array(backend, "softcap", softcap, features, smallest, largest)


def check_block_size(block_size: Any) -> int | None:
    """A positive int or None."""
    if block_size is None:
        return None
    if isinstance(block_size, bool) or not isinstance(block_size, numbers.Integral):
        raise TypeError(f"block_size must be an int or None, got {block_size!r}{_remedy(block_size)}")
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size!r}")
    return int(block_size)
