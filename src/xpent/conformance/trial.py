"""A trial: one implementation asked one case in one dtype."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from xpent.conformance.dtypes import Numbers
from xpent.conformance.expected import QUANTITIES
from xpent.conformance.implementation import ValueAndGradient
from xpent.conformance.libraries import Function, Moved, Unsupported

if TYPE_CHECKING:
    from xpent.conformance.case import Case
    from xpent.conformance.implementation import Implementation


class Raised(Exception):  # noqa: N818 - it is an answer, too
    """What an implementation raised, as its cause."""


class Trial:
    """An implementation, a case and a dtype, and what comes of putting them together."""

    def __init__(self, implementation: Implementation, case: Case, dtype: str) -> None:
        self.implementation, self.case, self.dtype = implementation, case, dtype
        self.library = implementation.library
        self.function: Any = implementation.functions.get(case.function)
        self.derivatives = implementation.derivatives or implementation.library

    def reason_against(self) -> str | None:
        """Why the implementation cannot be asked, or None."""
        dtypes = self.implementation.dtypes or self.library.dtypes
        if self.dtype not in dtypes or self.dtype not in self.library.dtypes:
            return f"takes no {self.dtype}"
        requirements = [*self.case.requirements(), f"category {self.case.category}"]
        return self.implementation.reason_against(self.case.function, requirements)

    def reduction(self, quantity: str) -> str | None:
        """How the losses of the rows are reduced, where the case leaves it open: rather not at all."""
        if "cross_entropy" not in self.case.function:
            return None
        if "reduction" in self.case.options:
            return str(self.case.options["reduction"])
        kind = QUANTITIES[quantity].kind
        of_sum = kind == "hvp" or (kind == "vjp" and isinstance(self.derivatives, ValueAndGradient))
        order = ("sum", "none", "mean") if of_sum else ("none", "sum", "mean")
        return self.implementation.reduction(self.case.function, *order)

    def asarray(self, values: Numbers) -> Any:
        """An array of the library, floats in the dtype of the trial."""
        dtype = self.dtype if values.dtype.kind == "f" else str(values.dtype)
        if self.case.layout != "C" and values.ndim > 1:
            return self.library.laid_out(values, dtype, self.case.layout)
        return self.library.asarray(values, dtype)

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """The arguments."""
        return tuple(self.asarray(array) for array in self.case.arrays_in(self.dtype))

    def options(self, quantity: str) -> dict[str, Any]:
        """The options, with the reduction."""
        options = self.case.options_in(self.dtype)
        if "cross_entropy" in self.case.function:
            options["reduction"] = self.reduction(quantity)
            if not self.implementation.takes(self.case.function, "reduction"):
                del options["reduction"]
        return {name: self.asarray(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}

    def compute(self, quantity: str, arrays: tuple[Any, ...] | None = None) -> Any:
        """What the implementation answers."""
        if quantity in self.implementation.lacks:
            raise Unsupported(self.implementation.lacks[quantity])
        arrays = self.arrays if arrays is None else arrays
        options, (kind, moved) = self.options(quantity), QUANTITIES[quantity]
        if kind == "value":
            return self.ask(self.library.call, self.function, arrays, options)
        if kind == "vjp":
            g = self.case.cotangent_in(self.dtype)
            value, gradient = self.ask(self.vjp, arrays, options, moved, None if g is None else self.asarray(g))
            return value if quantity == "value with gradient" else gradient
        v = self.asarray(self.case.tangent_in(self.dtype))
        return self.ask(getattr(self.derivatives, kind), self.function, arrays, options, v)

    def vjp(self, arrays: tuple[Any, ...], options: dict[str, Any], moved: Moved, cotangent: Any) -> tuple[Any, Any]:
        """Value and gradient."""
        return tuple(self.derivatives.vjp(self.function, arrays, options, moved, cotangent))

    def ask(self, function: Function, *arguments: Any) -> Any:
        """What the implementation answers, as NumPy arrays; what it raises is told from errors of the kit."""
        try:
            answer = function(*arguments)
            if isinstance(answer, tuple):
                return tuple(self.library.to_numpy(part) for part in answer)
            return self.library.to_numpy(answer)
        except Unsupported:
            raise
        except Exception as error:
            raise Raised(f"{type(error).__name__}: {error}") from error
