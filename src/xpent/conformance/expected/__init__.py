"""What must come out of a case: exact values, and how far from them an answer may be."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from xpent.conformance.expected.bound import QUANTITIES, Expected
from xpent.conformance.expected.losses import of_cross_entropy, of_linear
from xpent.conformance.expected.softmax import FUNCTIONS, of_softmax

if TYPE_CHECKING:
    from xpent.conformance.case import Case

__all__ = ["QUANTITIES", "Expected", "expected"]


def expected(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    """The answer to one quantity of a case."""
    return _expected(case, "float64" if case.is_exact_in(dtype) else dtype, quantity, reduction)


@cache
@np.errstate(invalid="ignore")
def _expected(case: Case, dtype: str, quantity: str, reduction: str | None) -> Expected:
    if case.function in FUNCTIONS:
        return of_softmax(case, dtype, quantity)
    if case.function == "linear_cross_entropy":
        return of_linear(case, dtype, quantity, reduction)
    return of_cross_entropy(case, dtype, quantity, reduction)
