"""NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpent.conformance.dtypes import Numbers
from xpent.conformance.libraries.base import Library


class NumPy(Library):
    """NumPy, whose arrays are read-only where they come in."""

    imports = "import numpy as np"
    ones = "np.ones_like(value)"

    def spelt(self, values: str, dtype: str) -> str:
        """Source of an array, from the source of its numbers."""
        return f"np.asarray({values}, dtype=np.{dtype})"

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """An array of its own that cannot be written to."""
        if self.device != "cpu":
            raise ValueError("NumPy has the CPU alone")
        array = np.array(values, dtype=dtype)
        array.flags.writeable = False
        return array

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """An array that lies in memory in another way."""
        if layout == "broadcast":
            return np.broadcast_to(np.array(values[:1], dtype=dtype), values.shape)
        if layout == "Fortran":
            return np.array(values, dtype=dtype, order="F")
        step = {"strided": 2, "reversed": -1}[layout]
        array = np.zeros([abs(step) * size for size in values.shape], dtype=dtype)[
            (slice(None, None, step),) * values.ndim
        ]
        array[...] = values
        return array
