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
        return self.case.array_on(self.library, values, self.dtype)

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """The arguments."""
        return self.case.arrays_on(self.library, self.dtype)

    def options(self, quantity: str) -> dict[str, Any]:
        """The options, with the reduction."""
        options = {name: v for name, v in self.case.options_in(self.dtype).items() if name != "reduction"}
        options |= self.reduced(quantity)
        return {name: self.asarray(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}

    def reduced(self, quantity: str) -> dict[str, Any]:
        """The reduction as an option, where there is one."""
        has_option = "cross_entropy" in self.case.function and self.implementation.takes(
            self.case.function, "reduction"
        )
        return {"reduction": self.reduction(quantity)} if has_option else {}

    def compute(self, quantity: str, arrays: tuple[Any, ...] | None = None) -> Numbers:
        """What the implementation answers."""
        if quantity in self.implementation.lacks:
            raise Unsupported(self.implementation.lacks[quantity])
        arrays = self.arrays if arrays is None else arrays
        options, (kind, moved) = self.options(quantity), QUANTITIES[quantity]
        try:
            if kind == "vjp":
                g = self.case.cotangent_in(self.dtype)
                value, gradient = self.vjp(arrays, options, moved, None if g is None else self.asarray(g))
                return value if quantity == "value with gradient" else gradient
            if kind == "value":
                return self._ask(self.library.call, self.function, arrays, options)
            v = self.asarray(self.case.tangent_in(self.dtype))
            return self._ask(getattr(self.derivatives, kind), self.function, arrays, options, v)
        except Raised as raised:
            raise Raised(f"{quantity} raises {raised}") from raised.__cause__

    def vjp(
        self, arrays: tuple[Any, ...], options: dict[str, Any], moved: Moved, cotangent: Any
    ) -> tuple[Numbers, Numbers]:
        """Value and gradient."""

        def pair() -> Any:
            value, gradient = self.derivatives.vjp(self.function, arrays, options, moved, cotangent)
            parts.append(self.library.to_numpy(gradient))
            return value

        parts: list[Numbers] = []
        return self._ask(pair), parts[0]

    def _ask(self, function: Function, *arguments: Any) -> Numbers:
        """What the implementation answers, in NumPy; what it raises is told from errors of the kit."""
        try:
            return self.library.to_numpy(function(*arguments))
        except Unsupported:
            raise
        except Exception as error:
            raise Raised(f"{type(error).__name__}: {error}") from error
