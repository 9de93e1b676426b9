"""What the kit asks of an array library, and how any that follows the Python array API standard answers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpent.conformance.dtypes import DTYPES, Numbers

Function = Callable[..., Any]
Arrays = tuple[Any, ...]
Options = dict[str, Any]
Moved = int | str  # the position of an array, or the name of an option that is one


class Unsupported(Exception):  # noqa: N818 - it is an answer, not an error
    """What a library or an implementation cannot be asked, with the reason."""


def of_one(function: Function, arrays: Arrays, options: Options, moved: Moved) -> tuple[Function, Any]:
    """The function of one of its arrays alone, and that array."""
    if isinstance(moved, str):
        return lambda x: function(*arrays, **{**options, moved: x}), options[moved]
    return lambda x: function(*arrays[:moved], x, *arrays[moved + 1 :], **options), arrays[moved]


class Library:
    """A library that follows the Python array API standard. It differentiates nothing, and compiles nothing."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        try:
            self.asarray(np.zeros(1), "float32")
        except Exception as error:
            raise ValueError(f"{name} makes no array on {device!r}: {error}") from error

    @property
    def version(self) -> str:
        """Of the package installed."""
        return str(getattr(importlib.import_module(self.name.partition(".")[0]), "__version__", "unknown"))

    @property
    def xp(self) -> Any:
        """The namespace of its functions."""
        return importlib.import_module(self.name)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The floating-point dtypes it has."""
        return tuple(dtype for dtype in DTYPES if hasattr(self.xp, dtype))

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """An array of the library on its device, of numbers that are exact in the dtype."""
        if self.device != "cpu":
            raise ValueError("the kit knows how to name a device to torch and JAX alone")
        return self.xp.asarray(np.array(values), dtype=getattr(self.xp, dtype))

    def to_numpy(self, array: Any) -> Numbers:
        """The same numbers in a NumPy array of its own, floats as float64."""
        for method in ("get", "compute"):  # of CuPy and Dask
            array = getattr(array, method)() if hasattr(array, method) else array
        array = np.array(array)
        if array.dtype.kind in "cOSUM":
            raise TypeError(f"the answer is of {array.dtype}, not of real numbers")
        return array if array.dtype.kind in "biu" else array.astype(np.float64)  # type: ignore[no-any-return]

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """An array that lies in memory in another way."""
        raise Unsupported(f"{self.name} does not say how arrays lie in memory")

    def forget(self) -> None:
        """Trace every function anew, where they are traced."""

    def call(self, function: Function, arrays: Arrays, options: Options) -> Any:
        """The value of a function."""
        return function(*arrays, **options)

    def vjp(
        self, function: Function, arrays: Arrays, options: Options, moved: Moved, cotangent: Any
    ) -> tuple[Any, Any]:
        """Value, and the gradient times a cotangent; None stands for ones."""
        raise Unsupported(f"{self.name} does not differentiate")

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative by the first array along a tangent, in forward mode."""
        raise Unsupported(f"{self.name} does not differentiate")

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative along a tangent of the gradient of the sum of what the function returns, by the first array."""
        raise Unsupported(f"{self.name} does not differentiate")

    @property
    def imports(self) -> str:
        """What `spelt` and `lines` need."""
        return f"import numpy as np\nimport {self.name} as xp"

    def spelt(self, values: str, dtype: str) -> str:
        """Source of an array, from the source of its numbers."""
        return f"xp.asarray({values}, dtype=xp.{dtype})"

    ones, like_value = "xp.ones_like(value)", ""  # source of a cotangent, and of a cast to the dtype of the value
    lines: Mapping[str, tuple[str, ...]] = {"value": ("print({call})",)}  # source of what its methods compute
