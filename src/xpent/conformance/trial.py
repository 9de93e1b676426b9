"""A trial: one implementation asked one case in one dtype."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from xpent.conformance.dtypes import Numbers
from xpent.conformance.expected import QUANTITIES
from xpent.conformance.implementation import ValueAndGradient
from xpent.conformance.libraries import Unsupported

if TYPE_CHECKING:
    from xpent.conformance.case import Case
    from xpent.conformance.implementation import Implementation


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
        of_sum = quantity == "second derivative" or (
            quantity == "gradient" and isinstance(self.derivatives, ValueAndGradient)
        )
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
        reduction = self.reduction(quantity)
        if reduction is not None and self.implementation.takes(self.case.function, "reduction"):
            options["reduction"] = reduction
        return {name: self.asarray(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}

    def compute(self, quantity: str, arrays: tuple[Any, ...] | None = None) -> Numbers:
        """What the implementation answers."""
        if quantity in self.implementation.lacks:
            raise Unsupported(self.implementation.lacks[quantity])
        arrays = self.arrays if arrays is None else arrays
        options, (kind, moved) = self.options(quantity), QUANTITIES[quantity]
        if kind == "value":
            answer = self.library.call(self.function, arrays, options)
        elif kind == "vjp":
            g = self.case.cotangent_in(self.dtype)
            g = None if g is None else self.asarray(g)
            answer = self.derivatives.vjp(self.function, arrays, options, moved, g)[1]
        else:
            v = self.asarray(self.case.tangent_in(self.dtype))
            answer = getattr(self.derivatives, kind)(self.function, arrays, options, v)
        return self.library.to_numpy(answer)
