"""What it takes to say what must come out: a bound, a derivative, rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpent.conformance import oracle
from xpent.conformance.dtypes import EPSILON, SMALLEST, Numbers
from xpent.conformance.oracle import Exact


class Quantity(NamedTuple):
    """How something is computed, and by which array one differentiates for it."""

    kind: str  # "value", "vjp", "jvp" or "hvp", the product of the Hessian of the sum with a tangent
    moved: int | str = 0


QUANTITIES = {
    "value": Quantity("value"),
    "value with gradient": Quantity("vjp"),
    "gradient": Quantity("vjp"),
    "gradient of targets": Quantity("vjp", 1),
    "gradient of weight": Quantity("vjp", 1),
    "gradient of bias": Quantity("vjp", "bias"),
    "forward mode": Quantity("jvp"),
    "second derivative": Quantity("hvp"),
}


@dataclass(frozen=True)
class Expected:
    """The exact answer; an error counts in units of u times the scale, and so many units are allowed."""

    exact: Numbers  # float64
    rest: Numbers  # what rounding to float64 took off
    scale: Numbers
    units: Numbers

    @classmethod
    def of(cls, exact: Exact, scale: Exact, units: Numbers) -> Expected:
        """Of exact numbers."""
        near = np.asarray(exact, dtype=np.float64)
        rest = np.where(np.isfinite(near), exact - oracle.exact(np.where(np.isfinite(near), near, 0.0)), 0)
        parts = (near, rest, scale, np.broadcast_to(units, near.shape))
        return cls(*(np.asarray(part, dtype=np.float64) for part in parts))

    def errors(self, answer: Numbers, dtype: str) -> tuple[Numbers, Numbers]:
        """Errors in units of u, and as shares of what is allowed; NaN where NaN or infinity is not where it belongs."""
        is_same = (answer == self.exact) | (np.isnan(answer) & np.isnan(self.exact))
        is_finite = np.isfinite(self.exact) & np.isfinite(answer)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            difference = abs((answer - self.exact) - self.rest)
            units = np.where(difference <= SMALLEST[dtype], 0.0, difference / (EPSILON[dtype] / 2 * self.scale))
            units = np.where(is_finite, units, np.where(is_same, 0.0, np.nan))
            return units, units / self.allowed(dtype)

    def allowed(self, dtype: str) -> Numbers:
        """How many units an error may have; never more than an eighth of the answer, as few digits as the dtype has."""
        return np.minimum(self.units, 0.125 / (EPSILON[dtype] / 2))


def spread(x: Numbers) -> Numbers:
    """How far the lowest possible class of each row lies below the highest, (..., 1)."""
    lowest = np.min(np.where(np.isfinite(x), x, np.inf), axis=-1, keepdims=True)
    highest = np.max(np.where(np.isfinite(x), x, -np.inf), axis=-1, keepdims=True)
    return np.asarray(np.where(np.isfinite(lowest), highest - lowest, 0.0))


def along(function: Callable[[Exact], Exact], x: Numbers, v: Numbers) -> Exact:
    """The derivative along v by a central difference, whose error lies far beyond the digits asked for."""
    step = oracle.exact(np.asarray(2.0**-130))
    above, below = (function(oracle.exact(x) + sign * step * oracle.exact(v)) for sign in (1, -1))
    return np.asarray((above - below) / (2 * step), dtype=object)


def row_sum(x: Exact) -> Exact:
    """Over the classes, (..., 1)."""
    return np.asarray(np.sum(x, axis=-1, keepdims=True), dtype=object)


class Layout:
    """Between an array with its classes along some axes and rows of classes."""

    def __init__(self, shape: tuple[int, ...], axis: Any) -> None:
        ndim = len(shape)
        axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        self.axes = tuple(a % ndim for a in axes)
        self.batch = tuple(shape[a] for a in range(ndim) if a not in self.axes)
        self.classes = tuple(shape[a] for a in self.axes)
        self.last = tuple(range(len(self.batch), ndim))

    def rows(self, x: Numbers) -> Numbers:
        """(N, C), whatever lies where."""
        return np.moveaxis(x, self.axes, self.last).reshape(math.prod(self.batch), math.prod(self.classes))

    def whole(self, rows: Numbers) -> Numbers:
        """Back again."""
        return np.moveaxis(rows.reshape(self.batch + self.classes), self.last, self.axes)
