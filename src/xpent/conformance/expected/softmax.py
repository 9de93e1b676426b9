"""What must come out of softmax, log_softmax and logsumexp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpent.conformance import oracle
from xpent.conformance.expected.bound import QUANTITIES, Expected, Layout, along, row_sum, spread

if TYPE_CHECKING:
    from xpent.conformance.case import Case


FUNCTIONS = {"softmax": oracle.softmax, "log_softmax": oracle.log_softmax, "logsumexp": oracle.logsumexp}


def of_softmax(case: Case, dtype: str, quantity: str) -> Expected:
    """Value, cotangent or tangent."""
    (x,), options, kind = case.arrays_in(dtype), case.options_in(dtype), QUANTITIES[quantity].kind
    layout = Layout(x.shape, options.get("axis", -1))
    x = layout.rows(np.where(options.get("where", True), x, -np.inf))
    v, g = oracle.exact(layout.rows(case.tangent_in(dtype))), case.cotangent_in(dtype)
    p, once, twice = oracle.softmax(x), 4 + spread(x), 2 * (4 + 2 * spread(x))
    is_sum = case.function == "logsumexp"
    parts: Any
    if kind == "value":
        exact, highest = FUNCTIONS[case.function](x), np.max(oracle.exact(x), axis=-1, keepdims=True)
        if is_sum:
            exact = np.where(np.isinf(np.max(x, axis=-1, keepdims=True)), highest, exact)
        parts = exact, abs(highest) + abs(exact - highest) if is_sum else abs(exact), once
    elif kind == "jvp":
        scale = {"softmax": p * (abs(v) + row_sum(p * abs(v))), "log_softmax": abs(v) + row_sum(p * abs(v))}
        parts = along(FUNCTIONS[case.function], x, v), scale.get(case.function, row_sum(p * abs(v))), twice
    else:
        g = oracle.exact(np.ones(x.shape) if g is None else g.reshape(len(x), -1) if is_sum else layout.rows(g))
        g = g * oracle.exact(x > -np.inf)
        parts = {
            "softmax": lambda: (p * (g - row_sum(p * g)), p * (abs(g) + row_sum(p * abs(g))), twice),
            "log_softmax": lambda: (g - p * row_sum(g), abs(g) + p * row_sum(abs(g)), twice),
            "logsumexp": lambda: (g * p, abs(g * p), 1 + once),
        }[case.function]()
    if is_sum and kind != "vjp":
        return Expected.of(*(np.reshape(part, layout.batch) for part in parts))
    return Expected.of(*(layout.whole(np.broadcast_to(part, x.shape)) for part in parts))
