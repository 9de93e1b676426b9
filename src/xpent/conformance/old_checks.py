"""Checks: what an implementation answers to the cases, and how far that is from the truth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import xpent
from xpent.conformance import oracle
from xpent.conformance.cases import Case, Quantity
from xpent.conformance.implementations import Implementation
from xpent.conformance.oracle import Numbers

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Result:
    """Largest errors of one quantity, in units of u; None where the library has no such thing."""

    implementation: str
    dtype: str
    case: str
    quantity: str
    by_hand: float  # what xpent's own vjp, jvp and grad return
    in_framework: float | None  # what the library's differentiation makes of the same function
    own: float | None  # what the library's own function and autodiff return
    of_allowed: float  # the largest share of what is allowed that either of ours makes use of
    of_condition: float | None  # the same for the difference to the library's own

    @property
    def holds(self) -> bool:
        """Whether both of ours are exact enough, and the library's own differs by no more than its formula explains."""
        return self.of_allowed <= 1 and (self.of_condition is None or self.of_condition <= 1)


def check(implementation: Implementation, dtype: str, cases: Iterable[Case]) -> Iterator[Result]:
    """Compute every quantity of every case in up to three ways."""
    for case in cases:
        arrays = tuple(implementation.asarray(array) for array in case.arrays)
        function, own = getattr(xpent, case.function), implementation.own[case.function]
        for quantity in case.quantities:
            options = {
                name: implementation.asarray(value) if isinstance(value, np.ndarray) else value
                for name, value in quantity.options.items()
            }
            direction = None if quantity.direction is None else implementation.asarray(quantity.direction)

            def answer(compute: Callable[..., Any], function: Any, *rest: Any) -> Numbers:
                return implementation.to_numpy(compute(quantity, function, *rest)).astype(np.float64)  # noqa: B023

            inputs = (arrays, options, direction)
            by_hand = answer(_by_hand, function, *inputs)
            in_framework = own_answer = None
            if quantity.kind == "value":
                own_answer = answer(_value, own, *inputs)
            elif implementation.transforms is not None:
                in_framework = answer(_in_framework, function, *inputs, implementation)
                own_answer = answer(_in_framework, own, *inputs, implementation)
            yield _judge(implementation.name, dtype, case.title, quantity, by_hand, in_framework, own_answer)


def _value(_: Quantity, function: Any, arrays: tuple[Any, ...], options: dict[str, Any], __: Any) -> Any:
    return function(*arrays, **options)


def _by_hand(
    quantity: Quantity, function: Any, arrays: tuple[Any, ...], options: dict[str, Any], direction: Any
) -> Any:
    if quantity.kind == "value":
        return function(*arrays, **options)
    if quantity.kind == "vjp":
        return xpent.vjp(function, *arrays, **options)[1](direction)[quantity.position]
    moved = xpent.grad(function) if quantity.kind == "hvp" else function
    return xpent.jvp(moved, arrays, (direction, *(None for _ in arrays[1:])), **options)[1]


def _in_framework(
    quantity: Quantity,
    function: Any,
    arrays: tuple[Any, ...],
    options: dict[str, Any],
    direction: Any,
    implementation: Implementation,
) -> Any:
    transforms, i = implementation.transforms, quantity.position

    def of_moved(x: Any) -> Any:
        return function(*arrays[:i], x, *arrays[i + 1 :], **options)

    def derivative(x: Any) -> Any:
        if quantity.kind == "vjp":
            return transforms.vjp(of_moved, x)[1](direction)[0]  # type: ignore[union-attr]
        moved = transforms.grad(of_moved) if quantity.kind == "hvp" else of_moved  # type: ignore[union-attr]
        return transforms.jvp(moved, (x,), (direction,))[1]  # type: ignore[union-attr]

    return implementation.compile(derivative)(arrays[i])


def _judge(
    implementation: str,
    dtype: str,
    case: str,
    quantity: Quantity,
    by_hand: Numbers,
    in_framework: Numbers | None,
    own: Numbers | None,
) -> Result:
    u = float(np.finfo(dtype).eps) / 2
    errors = [_errors(answer, quantity, dtype) for answer in (by_hand, in_framework) if answer is not None]
    of_condition = None
    if own is not None:
        size = np.maximum(np.asarray(quantity.scale, dtype=np.float64), 1.0)
        of_condition = _largest(np.abs(own - by_hand) / (u * size * quantity.condition))
    return Result(
        implementation,
        dtype,
        case,
        quantity.name,
        _largest(errors[0]),
        None if in_framework is None else _largest(errors[1]),
        None if own is None else _largest(_errors(own, quantity, dtype)),
        max(_largest(error / quantity.allowed) for error in errors),
        of_condition,
    )


def _errors(answer: Numbers, quantity: Quantity, dtype: str) -> Numbers:
    """Errors in units of u times the scale; none where the truth lies below the normal numbers of the dtype."""
    limits = np.finfo(dtype)
    is_normal = np.asarray(quantity.scale >= float(limits.tiny), dtype=bool)
    finite = np.where(np.isfinite(answer), answer, 0.0)
    error = abs(oracle.exact(finite) - quantity.exact) / np.where(is_normal, quantity.scale, 1) / (limits.eps / 2)
    return np.where(is_normal, np.where(np.isfinite(answer), np.asarray(error, dtype=np.float64), np.nan), 0.0)


def _largest(errors: Numbers) -> float:
    """The largest error; NaN, which no bound allows, is the largest number, which JSON can hold."""
    return float(np.max(np.nan_to_num(errors, nan=sys.float_info.max, posinf=sys.float_info.max)))
