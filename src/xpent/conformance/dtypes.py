"""Floating-point dtypes: their units, their ranges, and NumPy arrays of numbers that are exact in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DTYPES = tuple(EPSILON)
LARGEST = {"float64": 1.79e308, "float32": 3.40e38, "float16": 65504.0, "bfloat16": 3.38e38}

# Below these an answer may be rounded to a multiple of them: the smallest normal number where processors and compilers
# flush what is smaller to zero, the smallest subnormal number of float16, which none does.
SMALLEST = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-24, "bfloat16": 2.0**-126}


def rounded(values: Any, dtype: str) -> Numbers:
    """The nearest numbers of the dtype, held in float64; integers and booleans stay what they are."""
    values = np.asarray(values)
    if values.dtype.kind != "f":
        return values
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return values.astype(dtype).astype(np.float64)
    bits = values.astype(np.float32)
    fraction, exponent = np.frexp(bits)
    return np.ldexp(np.rint(fraction * 256), exponent - 8).astype(np.float64)
