"""A trial: one implementation, one case and one dtype."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from xpent.conformance.case import QUANTITIES, Capability, Case
from xpent.conformance.dtypes import Numbers
from xpent.conformance.implementation import Implementation, ValueAndGradient
from xpent.conformance.libraries import Argument, Function, Unsupported


class Raised(Exception):  # noqa: N818 - an error may be the expected result
    """An implementation raised an exception, which is the cause of this one."""


class Trial:
    """Computes the results of an implementation for a case in a dtype.

    The control is a trial of a valid call. A case that expects an error passes only if its control raises none.
    """

    def __init__(self, implementation: Implementation, case: Case, dtype: str, control: Trial | None = None) -> None:
        self.implementation, self.case, self.dtype, self.control = implementation, case, dtype, control
        self.library = implementation.library
        self.function: Any = implementation.functions.get(case.function)
        self.derivatives = implementation.derivatives or implementation.library

    def reason_against(self) -> str | None:
        """The reason why the case cannot be run, or None if it can."""
        return self.implementation.reason_against(self.case, self.dtype)

    def reduction(self, quantity: str) -> str | None:
        """The reduction of the losses; if the case does not specify one, "none" is preferred where it is supported."""
        if not self.case.is_loss:
            return None
        if "reduction" in self.case.options:
            return str(self.case.options["reduction"])
        kind = QUANTITIES[quantity].kind
        of_sum = kind == "hvp" or (kind == "vjp" and isinstance(self.derivatives, ValueAndGradient))
        order = ("sum", "none", "mean") if of_sum else ("none", "sum", "mean")
        return self.implementation.reduction(self.case.function, *order)

    def asarray(self, values: Numbers) -> Any:
        """An array of the library in the layout of the case, with floating-point numbers in its dtype."""
        return self.library.array(values, self.dtype, self.case.layout)

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """The positional arguments of the call."""
        return tuple(map(self.asarray, self.case.arrays_in(self.dtype)))

    def options(self, quantity: str) -> dict[str, Any]:
        """The options of the call, including the reduction."""
        options = {name: v for name, v in self.case.options_in(self.dtype).items() if name != "reduction"}
        options |= self.reduced(quantity)
        return {name: self.asarray(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}

    def reduced(self, quantity: str) -> dict[str, Any]:
        """The reduction as an option, if the function has it."""
        has_option = self.case.is_loss and self.implementation.takes(self.case.function, "reduction")
        return {"reduction": self.reduction(quantity)} if has_option else {}

    def compute(self, quantity: str, arrays: tuple[Any, ...] | None = None) -> Numbers:
        """Compute a quantity, one of `case.QUANTITIES`."""
        reason = None if quantity == "value" else self.implementation.lacks.get(Capability(quantity))
        if reason is not None:
            raise Unsupported(reason)
        arrays = self.arrays if arrays is None else arrays
        options, (kind, argument) = self.options(quantity), QUANTITIES[quantity]
        try:
            if kind == "vjp":
                g = self.case.cotangent_in(self.dtype)
                value, gradient = self.vjp(arrays, options, argument, None if g is None else self.asarray(g))
                return value if quantity == "value with gradient" else gradient
            if kind == "value":
                return self._call(self.library.call, self.function, arrays, options)
            v = self.asarray(self.case.tangent_in(self.dtype))
            return self._call(getattr(self.derivatives, kind), self.function, arrays, options, v)
        except Raised as raised:
            raise Raised(f"{quantity} raises {raised}") from raised.__cause__

    def vjp(
        self, arrays: tuple[Any, ...], options: dict[str, Any], argument: Argument, cotangent: Any
    ) -> tuple[Numbers, Numbers]:
        """Compute the value, and the gradient multiplied by the cotangent."""

        def pair() -> Any:
            value, gradient = self.derivatives.vjp(self.function, arrays, options, argument, cotangent)
            parts.append(self.library.to_numpy(gradient))
            return value

        parts: list[Numbers] = []
        return self._call(pair), parts[0]

    def _call(self, function: Function, *arguments: Any) -> Numbers:
        """Call a function and convert the result to NumPy; raise `Raised` if the implementation raises."""
        try:
            return self.library.to_numpy(function(*arguments))
        except Unsupported:
            raise
        except Exception as error:
            raise Raised(f"{type(error).__name__}: {error}") from error
