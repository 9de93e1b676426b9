"""Floating-point dtypes: machine epsilon, smallest numbers, and rounding of NumPy arrays to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
DTYPES = tuple(EPSILON)

# Absolute errors up to these are allowed: the smallest subnormal number of float16, which processors do not flush to 0,
# and 16 times the smallest normal number of the other dtypes, for results with a factor that was flushed to 0.
SMALLEST = {"float64": 2.0**-1018, "float32": 2.0**-122, "float16": 2.0**-24, "bfloat16": 2.0**-122}


def rounded(numbers: Any, dtype: str) -> Numbers:
    """Round floating-point numbers to a dtype, and return them as float64; leave integers and booleans unchanged."""
    values: Numbers = np.asarray(numbers)
    if values.dtype.kind != "f":
        return values
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return np.asarray(values.astype(dtype), dtype=np.float64)
    bits = values.astype(np.float32)
    fraction, exponent = np.frexp(bits)
    return np.asarray(np.ldexp(np.rint(fraction * 256), exponent - 8), dtype=np.float64)
