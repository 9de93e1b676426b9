"""Floating-point dtypes: their units, their ranges, and NumPy arrays of numbers that are exact in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DTYPES = tuple(EPSILON)

# Answers this close to 0 may be 0: the smallest subnormal number of float16, which no processor flushes, and of the
# others the smallest normal one, with room for a factor that was flushed on the way.
SMALLEST = {"float64": 2.0**-1018, "float32": 2.0**-122, "float16": 2.0**-24, "bfloat16": 2.0**-122}


def rounded(numbers: Any, dtype: str) -> Numbers:
    """The nearest numbers of the dtype, held in float64; integers and booleans stay what they are."""
    values: Numbers = np.asarray(numbers)
    if values.dtype.kind != "f":
        return values
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return np.asarray(values.astype(dtype), dtype=np.float64)
    bits = values.astype(np.float32)
    fraction, exponent = np.frexp(bits)
    return np.asarray(np.ldexp(np.rint(fraction * 256), exponent - 8), dtype=np.float64)
